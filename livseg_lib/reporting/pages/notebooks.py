"""Executed notebooks as pages that open offline."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from livseg_lib.errors import InputError
from livseg_lib.files import write_atomically

OFFLINE_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block body_header -%}
{{ super() }}
<p style="font: 14px system-ui, sans-serif; margin: 1rem 2rem 0"><a href="index.html">← Report</a></p>
{%- endblock -%}
"""
"""JupyterLab's look, without the scripts that it would fetch from the network."""

SHOWN_OUTPUTS = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]
"""In order of preference. Widgets and scripts are left out: their text stands in for them."""


def notebook_to_html(executed_ipynb: Path | str, html: Path | str) -> Path:
    """Write the executed notebook as one HTML file that loads nothing from the network.

    Formulas stay in their LaTeX spelling. Raises InputError where the file is not a notebook.
    """
    source = Path(executed_ipynb)
    exporter = HTMLExporter(raw_template=OFFLINE_TEMPLATE, exclude_anchor_links=True, embed_images=True)
    exporter.config.NbConvertBase.display_data_priority = SHOWN_OUTPUTS
    resources = {"metadata": {"name": source.stem, "path": str(source.parent)}}
    body, _ = exporter.from_notebook_node(_read_notebook(source), resources=resources)
    return write_atomically(html, body.encode())


def notebook_title(ipynb: Path | str) -> str:
    """The first heading of the notebook; "" if it has none."""
    for cell in _read_notebook(Path(ipynb)).cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            if line.startswith("#"):
                return line.lstrip("#").strip()
    return ""


def _read_notebook(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own kinds for JSON, schema and version
        raise InputError(path, f"is not a notebook: {error}", "Run it again.") from error
