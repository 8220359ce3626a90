"""What lies in a report folder, read as it is, whatever has been run so far; notebooks as pages of it."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import nbformat
import pandas as pd
from nbconvert import HTMLExporter
from PIL import Image

from livseg_lib.errors import InputError
from livseg_lib.files import write_atomically
from livseg_lib.outputs import read_caption, read_table

MAX_EMBEDDED_BYTES = 1_000_000
"""Of figures in one page, so that a report stays below 25 MB; those beyond are linked, not embedded."""

MAX_EXACT_BYTES, QUALITY = 60_000, 70
"""Pictures of CT, which are larger, are embedded as WebP of that quality, a third of the PNG's size; charts
as they are. The PNG beside the page is exact."""


@dataclass(frozen=True)
class FigureFile:
    """One PNG of the folder."""

    name: str
    caption: str
    source: str  # a data URI, or a relative link where the page would grow too large
    width: int
    height: int

    @property
    def is_wide(self) -> bool:
        """Takes the whole width of the page rather than half of it."""
        return self.width > 1.45 * self.height or self.width >= 1000


@dataclass(frozen=True)
class NotebookFile:
    """A notebook that has finished, and what the manifest tells about its run."""

    name: str
    title: str
    purpose: str
    link: str
    record: dict

    @property
    def results(self) -> list[dict]:
        """The tables, figures and conclusions that it wants to be shown, in order."""
        return self.record.get("results") or []

    @property
    def short_name(self) -> str:
        """ "21_audit_split" reads "Audit split"."""
        return self.name[2:].replace("_", " ").strip().capitalize()


class ReportFolder:
    """Everything of `reports/<dataset>-<profile>/` that the page shows; absent files give nothing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._room = MAX_EMBEDDED_BYTES

    @cached_property
    def manifest(self) -> dict:
        """manifest.json, or what the folder's name tells where there is none yet."""
        dataset, _, profile = self.path.resolve().name.partition("-")
        file = self.path / "manifest.json"
        return {"dataset": dataset, "profile": profile} | (_read_json(file) if file.exists() else {})

    def names(self, kind: str, suffix: str) -> list[str]:
        """Names of the finished files of folder `kind`, in order."""
        files = sorted((self.path / kind).glob(f"[!.]*.{suffix}"))
        return [file.stem for file in files if ".partial" not in file.name]

    def table(self, name: str) -> pd.DataFrame | None:
        """tables/<name>.csv; None before it is written."""
        file = self.path / "tables" / f"{name}.csv"
        return read_table(file) if file.exists() else None

    def figure(self, name: str, is_open: bool = True) -> FigureFile | None:
        """figures/<name>.png, embedded while there is room, if `is_open`; None before it is written."""
        file = self.path / "figures" / f"{name}.png"
        if not file.exists():
            return None
        try:
            with Image.open(file) as image:
                width, height = image.size
                inside = _data_uri(file, image) if is_open and self._room > 0 else ""
            caption = read_caption(file)
        except OSError as error:
            raise InputError(file, "is not a picture.", "Delete it and run its notebook again.") from error
        fits = 0 < len(inside) <= self._room
        self._room -= len(inside) if fits else 0
        return FigureFile(name, caption, inside if fits else f"figures/{quote(file.name)}", width, height)

    @cached_property
    def notebooks(self) -> list[NotebookFile]:
        """Every NN_name.ipynb or .html, in order, and those that only the manifest knows."""
        files = {f.stem: f for suffix in ("ipynb", "html") for f in self.path.glob(f"[0-9]*.{suffix}")}
        finished = {name: file for name, file in files.items() if not name.endswith(".partial")}
        records = self.manifest.get("notebooks") or {}
        found = []
        for name in sorted(set(finished) | set(records)):
            title, purpose = notebook_story(self.path / f"{name}.ipynb")
            link = quote(finished[name].name) if name in finished else ""
            found.append(NotebookFile(name, title or name, purpose, link, records.get(name) or {}))
        return found

    @cached_property
    def not_run(self) -> list[str]:
        """Titles of the repository's notebooks, two folders up, that have not finished in this run.

        Not of those from 40 on, which run by name.
        """
        finished = {notebook.name for notebook in self.notebooks}
        files = sorted((self.path.resolve().parents[1] / "notebooks").glob("[0-3]*.ipynb"))
        return [notebook_story(file)[0] or file.stem for file in files if file.stem not in finished]

    @cached_property
    def models(self) -> dict[str, str]:
        """System -> link to its models/<system>/model.json."""
        files = sorted(self.path.glob("models/*/model.json"))
        return {file.parent.name: quote(file.relative_to(self.path).as_posix()) for file in files}

    @cached_property
    def weights(self) -> dict[str, int]:
        """Part of the folder -> bytes, the heaviest first; the page itself, being written, is left out."""
        parts = {
            "notebooks": [*self.path.glob("[0-9]*.ipynb"), *self.path.glob("[0-9]*.html")],
            **{path.name: path.rglob("*") for path in self.path.iterdir() if path.is_dir()},
        }
        sizes = {name: sum(f.stat().st_size for f in files if f.is_file()) for name, files in parts.items()}
        return dict(sorted(((n, size) for n, size in sizes.items() if size), key=lambda each: -each[1]))

    def model_records(self, system: str) -> list[dict]:
        """models/<system>/model.json and those of its parts; empty for what has no model, such as a vote."""
        folder = self.path / "models" / system
        files = [folder / "model.json", *sorted(folder.glob("*/model.json"))]
        return [_read_json(file) for file in files if file.exists()]


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(file, f"is not JSON: {error}.", "Delete it and run the notebooks again.") from error
    if not isinstance(content, dict):
        raise InputError(file, "is not a JSON object.", "Delete it and run the notebooks again.")
    return content


def _data_uri(file: Path, image: Image.Image) -> str:
    content, kind = file.read_bytes(), "png"
    if len(content) > MAX_EXACT_BYTES:
        smaller = io.BytesIO()
        image.convert("RGB").save(smaller, "webp", quality=QUALITY, method=2)
        content, kind = min((content, "png"), (smaller.getvalue(), "webp"), key=lambda each: len(each[0]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


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


def notebook_story(ipynb: Path) -> tuple[str, str]:
    """The first heading of a notebook and the paragraph that begins with "Purpose", without its Markdown.

    Either is "" where there is none, both where there is no file.
    """
    cells = _read_notebook(ipynb).cells if ipynb.exists() else []
    lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    plain = [re.sub(r"[*`]|\[([^]]*)\]\([^)]*\)", r"\1", line) for line in lines]
    first = (next((line for line in plain if line.startswith(start)), "") for start in ("#", "Purpose."))
    title, purpose = first
    return title.lstrip("#").strip(), purpose.removeprefix("Purpose.").strip()


def _read_notebook(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own kinds for JSON, schema and version
        raise InputError(path, f"is not a notebook: {error}", "Run it again.") from error
