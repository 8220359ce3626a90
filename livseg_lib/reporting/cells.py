"""How values read in the report: a table of any columns becomes titles and texts, which templates show."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from livseg_lib.errors import format_duration
from livseg_lib.labels import STRUCTURES

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
    "D": "The three-architecture study: UNet++, MAnet, DeepLabV3+",
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
    "published_value": "Published",
    "roc_auc": "ROC-AUC",
    "system_c": "System C",
    "train_seconds": "Training time",
}
"""Headings that are not the words of the column's name."""

WORDS = {name: name.upper() for name in ("assd", "ece", "froc", "hd95", "rmsd", "rvd", "voe")}
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
    return "tumour" if value == STRUCTURES[1] else str(value)


def column_title(column: str) -> str:
    """Heading for a column: "reference_volume_ml" reads "Reference volume (ml)"."""
    if column in COLUMNS:
        return COLUMNS[column]
    words = column.removeprefix("n_").split("_")
    unit = f" ({UNITS[words.pop()]})" if len(words) > 1 and words[-1] in UNITS else ""
    text = " ".join(WORDS.get(word, word) for word in words)
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
