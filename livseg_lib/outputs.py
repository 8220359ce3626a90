"""What a run leaves as files, each whole or not there: tables as CSV, systems.csv, figures with captions."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from livseg_lib.errors import InputError
from livseg_lib.files import locked, write_atomically
from livseg_lib.systems import SYSTEMS

if TYPE_CHECKING:  # only named in signatures
    from matplotlib.figure import Figure

MAX_FIGURE_BYTES = 150_000
GREYS, COLOURS = 32, 96  # of the palette: noise hides the steps of CT, and a third of the bytes is saved
RESOLUTIONS_DPI = (160, 140, 120, 105, 90, 70, 50, 30)


def save_figure(fig: Figure, folder: Path | str, name: str, caption: str = "") -> Path:
    """Write `folder/name.png`, at most 150 kB, and close the figure.

    The caption travels inside the file (PNG text "Description"), where `read_caption` and the report
    page find it. Colours are cut to a palette, which neither grey CT nor charts miss; a figure
    still too large is drawn at a lower resolution.
    """
    content, at_dpi = b"", 0
    for dpi in RESOLUTIONS_DPI:
        # Bytes fall more slowly than pixels: not drawn is what would be too large even if they fell as fast.
        if at_dpi and dpi > RESOLUTIONS_DPI[-1] and len(content) * (dpi / at_dpi) ** 2 > MAX_FIGURE_BYTES:
            continue
        content, at_dpi = figure_png(fig, dpi, caption), dpi
        if len(content) <= MAX_FIGURE_BYTES:
            break
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(fig)
    return write_atomically(Path(folder) / f"{name}.png", content)


def read_caption(path: Path | str) -> str:
    """The caption that `save_figure` put into the PNG at `path`; "" if it has none."""
    with Image.open(path) as image:
        return str(image.info.get("Description", ""))


def figure_png(fig: Figure, dpi: int, caption: str = "") -> bytes:
    """The figure as a PNG of few colours with its caption inside."""
    full, small = io.BytesIO(), io.BytesIO()
    fig.savefig(full, format="png", dpi=dpi, pil_kwargs={"compress_level": 0})
    information = PngInfo()
    information.add_text("Description", caption)
    with Image.open(full) as image:
        _to_palette(image.convert("RGB")).save(small, format="png", optimize=True, pnginfo=information)
    return small.getvalue()


def _to_palette(image: Image.Image) -> Image.Image:
    """GREYS, so that CT stays neutral, and COLOURS for all else."""
    rgb = np.asarray(image)
    red, green, blue = np.moveaxis(rgb, -1, 0)  # twenty times as fast as np.ptp along so short an axis
    is_grey = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue) <= 2
    coarse = np.where(is_grey[..., None], 0, (rgb & 0xF8) | 4)  # choosing among millions would take minutes
    coloured = Image.fromarray(coarse).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    index = np.where(is_grey, green // (256 // GREYS), GREYS + np.asarray(coloured))
    small = Image.fromarray(index.astype(np.uint8))
    greys = np.linspace(0, 255, GREYS).round().astype(int).repeat(3)
    small.putpalette([*greys.tolist(), *coloured.getpalette()])
    return small


SYSTEMS_COLUMNS = (
    *("system", "source", "target", "split_by", "n_train_patients", "n_test_patients"),
    *("dice_per_case", "dice_per_case_low", "dice_per_case_high", "dice_global", "iou"),
    *("precision", "recall", "roc_auc", "presence_accuracy"),
    *("published_metric", "published_value", "train_seconds", "parameters"),
)
SYSTEMS_KEY = ("system", "target", "split_by")  # a system has one row for each target and way of splitting


def write_table(df: pd.DataFrame, path: Path | str) -> Path:
    """Write `df` as CSV without its index, atomically; NaN becomes an empty field."""
    return write_atomically(path, df.to_csv(index=False, lineterminator="\n").encode())


def read_table(path: Path | str, **options) -> pd.DataFrame:
    """Read a CSV of the report (`options` of pandas.read_csv); InputError where it is missing or no table."""
    try:
        return pd.read_csv(path, **options)
    except FileNotFoundError as error:
        raise InputError(path, "is not there.", "Run the notebook that writes it.") from error
    except (ValueError, pd.errors.ParserError) as error:
        remedy = "Delete it and run its notebook again."
        raise InputError(path, f"is not a CSV table: {error}.", remedy) from error


def replace_systems(
    path: Path | str, rows: pd.DataFrame, systems: Iterable[str] | None = None
) -> pd.DataFrame:
    """Put `rows` (with `system`) into the table at `path` instead of those of its systems; give it all.

    Systems stand in the order of `livseg_lib.systems`, whichever was written first. `systems`: all whose rows
    go, where some may have no row any more.
    """
    path, replaced = Path(path), list(rows["system"] if systems is None else systems)
    with locked(path):
        if path.exists():
            kept = read_table(path)
            rows = pd.concat([kept[~kept["system"].isin(replaced)], rows], ignore_index=True)
        return _write_in_order(rows, path)


def _write_in_order(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """In the order of `livseg_lib.systems`, and by name behind these."""
    place = {name: (number, name) for number, name in enumerate(SYSTEMS)}
    key = {name: place.get(name, (len(place), name)) for name in rows["system"]}
    rows = rows.sort_values("system", key=lambda names: names.map(key), kind="stable", ignore_index=True)
    write_table(rows, path)
    return rows


def update_systems_table(path: Path | str, rows: Iterable[Mapping]) -> pd.DataFrame:
    """Put `rows` into systems.csv and give the whole table back.

    A row replaces the one with the same system, target and split_by; all others stay as they are, to the
    letter. Systems stand in the order of `livseg_lib.systems`. Columns that a row leaves out are empty.
    Raises InputError for an unknown column and for a file with other columns.
    """
    path, table = Path(path), pd.DataFrame(columns=list(SYSTEMS_COLUMNS))
    with locked(path):
        if path.exists():  # as text, so that rows that stay are not rounded again
            table = read_table(path, dtype=str, keep_default_na=False)
        if tuple(table) != SYSTEMS_COLUMNS:
            problem = "does not have the columns of systems.csv."
            raise InputError(path, problem, "Delete it and run the evaluation again.")
        by_key = {tuple(row[name] for name in SYSTEMS_KEY): row for row in table.to_dict("records")}
        for row in rows:
            if unknown := sorted(set(row) - set(SYSTEMS_COLUMNS)):  # else it would be lost without a word
                remedy = f"Its columns are {', '.join(SYSTEMS_COLUMNS)}."
                raise InputError(path, f"has no column {', '.join(unknown)}.", remedy)
            by_key[tuple(str(row[name]) for name in SYSTEMS_KEY)] = row
        rows = pd.DataFrame(by_key.values(), columns=list(SYSTEMS_COLUMNS), dtype=object)
        _write_in_order(rows, path)
        return read_table(path)
