"""Notebooks of two cells for tests."""

from pathlib import Path

import nbformat


def write_notebook(path: Path, body: str, parameters: str, title: str = "# A title", **facts) -> None:
    """Write a notebook with a title, a cell of `parameters` and a `body`; `facts` go to its metadata."""
    new = nbformat.v4
    given = new.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [new.new_markdown_cell(title), given, new.new_code_cell(body)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new.new_notebook(cells=cells, metadata={"kernelspec": kernel, "livseg": facts}), path)
