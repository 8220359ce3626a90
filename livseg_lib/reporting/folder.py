"""What lies in a report folder, read as it is, whatever has been run so far, and how its values read.

A table of any columns becomes titles and texts, which templates show; notebooks become pages.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import dataclass
from functools import cache, cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from livseg_lib.errors import InputError, format_duration
from livseg_lib.files import write_atomically
from livseg_lib.labels import STRUCTURES
from livseg_lib.outputs import read_caption, read_table
from livseg_lib.provenance import import_jsonschema

if TYPE_CHECKING:  # only named in signatures
    from nbformat import NotebookNode

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
    """Everything of `reports/<run>/` that the page shows; absent files give nothing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._room = MAX_EMBEDDED_BYTES

    @cached_property
    def manifest(self) -> dict:
        """manifest.json, or what the folder's name tells where there is none yet."""
        run = self.path.resolve().name
        file = self.path / "manifest.json"
        return {"dataset": run.partition("-")[0], "run": run} | (_read_json(file) if file.exists() else {})

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
        links = {name: quote(file.name) for name, file in files.items() if not name.endswith(".partial")}
        records = self.manifest.get("notebooks") or {}
        found = []
        for name in sorted(set(links) | set(records)):
            title, purpose = notebook_story(self.path / f"{name}.ipynb")
            told = title or name, purpose, links.get(name, ""), records.get(name) or {}
            found.append(NotebookFile(name, *told))
        return found

    @cached_property
    def not_run(self) -> list[str]:
        """Titles of the repository's notebooks, two folders up, that have not finished in this run.

        Not of those numbered 40 or more, which run by name.
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
        if isinstance(content := json.loads(file.read_text(encoding="utf-8")), dict):
            return content
        problem = "is not a JSON object."
    except ValueError as error:
        problem = f"is not JSON: {error}."
    raise InputError(file, problem, "Delete it and run the notebooks again.")


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
    import_jsonschema()
    from nbconvert import HTMLExporter  # takes a second to import

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
    title, purpose = (next((line for line in plain if line.startswith(w)), "") for w in ("#", "Purpose."))
    return title.lstrip("#").strip(), purpose.removeprefix("Purpose.").strip()


def _read_notebook(path: Path) -> NotebookNode:
    import_jsonschema()
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own kinds for JSON, schema and version
        raise InputError(path, f"is not a notebook: {error}", "Run it again.") from error


DATASETS = {
    "phantom": "Phantom",
    "lits": "LiTS",
    "msd": "MSD Task03 Liver",
    "kaggle": "Kaggle slices",
    "ircadb": "3D-IRCADb-01",
}

TARGET_WORDS = {"liver": "Liver", "tumor": "Liver tumours", "both": "Liver and liver tumours"}

SOURCES = {
    "A": "Detection for everyone, a U-Net and a graphical interface",
    "B": "The two-model Keras study, U-Net against ResNet-50",
    "C": "The LiTS U-Net report",
    "D": "The three-architecture study: UNet++, MA-Net, DeepLabV3+",
    "E": "The 64-slice volumetric U-Net",
    "F": "Slice sorting (Kaur et al. 2021)",
    "G": "2.5D residual U-Net (Han 2017)",
    "H": "Cascade with candidate filter (Chlebus et al. 2017)",
    "I": "Hierarchical CDNN (Yuan 2017)",
    "J": "Multi-scale candidates and fractal residual network (Bai et al. 2019)",
    "K": "The LiTS benchmark (Bilic et al. 2022)",
}

COLUMNS = {
    "dice_global": "Global Dice",
    "dice_per_case": "Dice per patient",
    "lesion_dice": "Lesion-wise Dice",
    "msd_mm": "Hausdorff (mm)",
    "n_train_patients": "Training patients",
    "p_holm": "p (Holm)",
    "published_value": "Published",
    "roc_auc": "ROC-AUC",
    "system_c": "System C",
    "train_seconds": "Training time",
}
"""Headings that are not the words of the column's name, or of its beginning."""

UPPER = ("assd", "auc", "ece", "froc", "hd95", "hu", "rmsd", "rmse", "rvd", "voe")
WORDS = {name: name.upper() for name in UPPER}
WORDS |= {"dice": "Dice", "iou": "IoU", "tumor": "tumour", "tumors": "tumours"}
UNITS = {"mm": "mm", "mm2": "mm²", "ml": "ml", "hu": "HU", "mb": "MB"}
"""Last word of a column name that is a unit."""

MISSING = "–"
NOT_RECORDED = "not recorded"
MAX_ROWS, FIRST_ROWS = 400, 50
"""A page shows the whole of a table of at most MAX_ROWS, else the first; the CSV has them all."""

SCORE_COLUMNS = ("dice", "iou", "precision", "recall", "roc", "presence", "pixel", "published")
"""How columns begin whose 0 and 1 are written with decimals, too."""

NAMES = ("case", "patient", "system", "slice", "file", "code", "seed", "fold")
"""Columns whose values name something: never rounded, grouped or scaled."""


@dataclass(frozen=True)
class Interval:
    """A mean from 0 to 1, its 95 % interval, and what the source published (None if no Dice)."""

    mean: float
    low: float
    high: float
    published: float | None = None


@dataclass(frozen=True)
class Cell:
    """What stands in one cell: text, a smaller line below it, and what it is sorted by ("": always last)."""

    text: str
    sort: float | str = ""
    small: str = ""
    interval: Interval | None = None
    badge: str = ""  # "good", "mild" or "warn" where the text is a mark rather than a value
    link: str = ""  # where the text leads, relative to the page
    picture: str = ""  # a small picture above the text: a link or a data URI


@dataclass(frozen=True)
class TableView:
    """A table ready for the page."""

    titles: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]
    total: int  # rows in the file, of which the page may show fewer
    file: str = ""  # link to the CSV, relative to the page


def table_view(df: pd.DataFrame, file: str = "") -> TableView:
    """Any table, as it comes: columns keep their order; of more than MAX_ROWS rows the first."""
    shown = df if len(df) <= MAX_ROWS else df.head(FIRST_ROWS)
    columns = [[format_cell(column, value) for value in shown[column]] for column in df]
    return TableView(
        titles=[column_title(str(column)) for column in df],
        numeric=[pd.api.types.is_numeric_dtype(df[column]) and column not in NAMES for column in df],
        rows=[list(row) for row in zip(*columns, strict=True)],
        total=len(df),
        file=file,
    )


def format_cell(column: str, value: object) -> Cell:
    """One value of the column so named."""
    if is_missing(value):
        return Cell(MISSING)
    if column == "severity":
        return Cell(str(value), str(value), badge="warn" if value == "error" else "mild")
    if isinstance(value, Real) and not isinstance(value, bool) and column not in NAMES:
        return Cell(format_number(column, float(value)), float(value))
    return Cell(format_text(value), str(value))


def is_missing(value: object) -> bool:
    """None, NaN, NaT and the like; a list never is."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def format_number(column: str, value: float) -> str:
    """Digits that mean something: 3 decimals for scores, whole numbers grouped, times and sizes in words."""
    if is_missing(value):
        return MISSING
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    if column == "published_value":  # as its source printed it
        return f"{value:g}"
    if column.endswith("seconds"):
        return format_duration(value)
    if column == "parameters" and value >= 1e4:
        return f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value / 1e3:.3g} k"
    is_score = column.startswith(SCORE_COLUMNS) or column.endswith("_dice")
    is_count = value == int(value) and (abs(value) > 1 or not is_score)
    digits = 0 if is_count else 3 if abs(value) < 10 else 1
    return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "−")


def format_text(value: object) -> str:
    """Text, lists and mappings as people write them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_missing(value):
        return MISSING
    if isinstance(value, dict):
        return ", ".join(f"{key}: {format_text(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(format_text(each) for each in value)
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{value:g}"
    text = re.sub(r"(?<=[( ])\d+\.\d{7,}(?=[,)])", lambda found: f"{float(found[0]):.4g}", str(value))
    return "tumour" if value == STRUCTURES[1] else text  # a spacing comes as text, of float32


def column_title(column: str) -> str:
    """Heading for a column: "reference_volume_ml" reads "Reference volume (ml)"."""
    if known := next((name for name in COLUMNS if f"{column}_".startswith(f"{name}_")), ""):
        return COLUMNS[known] + column.removeprefix(known).replace("_", " ")
    parts = column.removeprefix("n_").split("_")
    unit = f" ({UNITS[parts.pop()]})" if len(parts) > 1 and parts[-1] in UNITS else ""
    text = " ".join(WORDS.get(word, word) for word in parts)
    return text[:1].upper() + text[1:] + unit


def linked(markdown: str) -> Markup:
    """Text in which `[word](address)` is a link, and all else escaped."""
    return Markup(re.sub(r"\[([^]]+)]\((https://[^)\s]+)\)", r'<a href="\2">\1</a>', str(escape(markdown))))


def told(value: object) -> str:
    """A fact as people write it; what is empty or undefined is said not to be recorded."""
    if isinstance(value, Markup) and value:
        return value
    is_empty = not value if isinstance(value, (str, list, dict, tuple)) else is_missing(value)
    return NOT_RECORDED if is_empty else format_text(value)


@cache
def environment() -> jinja2.Environment:
    """Where the templates of all pages come from, with the filters duration, megabytes, words and told.

    Scripts and styles are put into pages as they are: page.css is `{{ page_css }}`.
    """
    loader = jinja2.PackageLoader("livseg_lib.reporting")
    found = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("page.css", "page.js", "patient.css", "patient.js", "card.css"):
        found.globals[name.replace(".", "_")] = Markup(loader.get_source(found, name)[0])
    found.filters |= {
        "duration": lambda seconds: MISSING if is_missing(seconds) else format_duration(seconds),
        "megabytes": lambda size: MISSING if is_missing(size) else f"{size:,.0f} MB".replace(",", "\u202f"),
        "words": format_text,
        "told": told,
    }
    return found
