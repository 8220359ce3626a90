"""A page a patient: the slices with outlines, measures, and a view in 3D, all from a folder, offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import plotly

from livseg_lib.errors import InputError
from livseg_lib.files import folder_written_aside, write_atomically
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.postprocessing.components import Box, require_volumes
from livseg_lib.preprocessing.windows import WINDOWS
from livseg_lib.reporting.cells import table_view
from livseg_lib.reporting.pages.outline_paths import outline_paths
from livseg_lib.reporting.pages.packed_script import write_packed_script
from livseg_lib.reporting.pages.slice_pictures import (
    THUMBNAIL,
    has_grey_levels,
    stored_window,
    view_box,
    write_slice_pictures,
    write_thumbnail,
)
from livseg_lib.reporting.pages.templating import environment
from livseg_lib.reporting.style import GREEN, ORANGE, PURPLE, SKY_BLUE, YELLOW, structure_name
from livseg_lib.reporting.surface_view import TRUTH, surface_figure

PRESETS = {"Liver": "liver", "Soft tissue": "abdomen", "Narrow": "liver_narrow"}
"""What a reader may choose -> a window of preprocessing/windows.py; the first is shown at the start."""

COLOURS, DASHES = (YELLOW, "#ffffff", PURPLE, GREEN), ("7 4", "2 3", "12 3 2 3", "5 9")
"""Of outlines that are not the truth: every pair of both differs before one repeats."""

MAX_SURFACES = 4
"""Outlines that the 3D view holds, the first ones: it would outweigh the rest of the page."""


@dataclass(frozen=True, eq=False)
class PatientView:
    """What a patient page shows."""

    case_id: str
    """Names the files, too."""
    voxels: np.ndarray
    """int16 HU (D, H, W); grey levels 0 to 255 for pictures."""
    spacing_mm: tuple[float, float, float]
    """D, H, W; NaN for a stack of pictures, which then has no 3D view."""
    outlines: Mapping[str, np.ndarray]
    """Name -> labels 0/1/2 (D, H, W), in the order of the legend. One called "truth" is drawn solid, all
    others dashed; the first two are switched on at the start."""
    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    """(caption, table) each, below the slices."""
    note: str = ""
    """A sentence for the reader, such as that these are phantoms."""


def write_patient_page(view: PatientView, folder: Path | str) -> Path:
    """Write `folder/patients/<case>.html` and what it loads; returns the page.

    Pictures, outlines and surfaces lie in `folder/patients/<case>/`, the 3D library once in
    `folder/assets/`. The page works from file://, without a network, and stands only where all that it
    loads is there. Raises InputError for a name that is no file name and for arrays of other shapes.
    """
    _check(view)
    page = Path(folder) / "patients" / f"{view.case_id}.html"
    page.unlink(missing_ok=True)  # it would point to files that are being replaced
    with folder_written_aside(page.with_name(view.case_id)) as parts:
        content = _write_parts(view, parts)
    if content["has_surface"]:
        _write_library(Path(folder) / "assets")
    content["report"] = "../index.html" if (Path(folder) / "index.html").exists() else ""
    return write_atomically(page, environment().get_template("patient.html").render(**content).encode())


def page_bytes(page: Path) -> int:
    """What a page and the files that it loads weigh, without the 3D library."""
    return page.stat().st_size + sum(file.stat().st_size for file in page.with_suffix("").iterdir())


def remove_pages(folder: Path | str) -> None:
    """Remove all patient pages of `folder` with what they load: before those of another run are written."""
    for page in (Path(folder) / "patients").glob("*.html"):
        page.unlink()
        shutil.rmtree(page.with_suffix(""), ignore_errors=True)


def _check(view: PatientView) -> None:
    if Path(view.case_id).name != view.case_id or view.case_id[:1] in ("", "."):
        raise InputError(view.case_id, "This cannot name a file.", "Name the patient without a slash.")
    require_volumes(voxels=view.voxels, **view.outlines)


def _write_parts(view: PatientView, folder: Path) -> dict:
    """Write pictures, outlines and surfaces into `folder`; returns what the template shows."""
    box = view_box(view.outlines.values(), view.voxels.shape, view.spacing_mm)
    loss = write_slice_pictures(view.voxels[box], folder, stored_window(view.voxels))
    surfaces = {name: labels[box] for name, labels in list(view.outlines.items())[:MAX_SURFACES]}
    has_surface = bool(np.isfinite(view.spacing_mm).all()) and any(map(np.any, surfaces.values()))
    if has_surface:
        figure = surface_figure(surfaces, view.spacing_mm)
        write_packed_script(folder / "surface.js", figure.to_json())
    outlines = [
        {"name": name, "style": style, "pixels": _write_outline(number, view.outlines[name][box], folder)}
        for number, (name, style) in enumerate(_styles(view.outlines).items())
    ]
    data = _slider_data(view, box, outlines)
    truth = next(iter(view.outlines.values()), None)
    start = data["first"] + data["start"], box[1], box[2]
    labels = None if truth is None else truth[start]
    write_thumbnail(view.voxels[start], labels, WINDOWS["liver"], folder / THUMBNAIL)
    return {
        "view": view,
        "data": data,
        "tables": [(caption, table_view(table)) for caption, table in view.tables],
        "loss": loss,
        "has_surface": has_surface,
        "without_surface": list(view.outlines)[MAX_SURFACES:],
    }


def _write_outline(number: int, labels: np.ndarray, folder: Path) -> dict[str, list[int]]:
    """Write the paths of one outline, loaded when it is switched on; returns its pixels in each slice."""
    paths = json.dumps(outline_paths(labels), separators=(",", ":"))
    write_packed_script(folder / f"outline-{number}.js", paths)
    return {each: structure_mask(labels, each).sum(axis=(1, 2)).tolist() for each in STRUCTURES}


def _styles(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Dash and colours of each outline: the truth as in figures, every prediction its own."""
    looks = ({"dash": dash, "liver": colour, "tumor": colour} for dash in DASHES for colour in COLOURS)
    dashed = cycle(looks)
    solid = {"dash": "", "liver": SKY_BLUE, "tumor": ORANGE}
    return {name: solid if name == TRUTH else next(dashed) for name in names}


def _slider_data(view: PatientView, box: Box, outlines: list[dict]) -> dict:
    """All that the page's script needs to know; sizes in voxels of the scan."""
    depth, height, width = (side.stop - side.start for side in box)
    fullest, start = _fullest_slice([outline["pixels"] for outline in outlines], depth)
    _, row_mm, column_mm = view.spacing_mm
    window = stored_window(view.voxels)
    presets = {title: WINDOWS[name] for title, name in PRESETS.items()}
    inside = {t: p for t, p in presets.items() if window.lower <= p.lower and p.upper <= window.upper}
    whole = {"All stored": window}
    inside = whole | inside if has_grey_levels(view.voxels) else inside | whole
    return {
        "unit": "grey levels" if has_grey_levels(view.voxels) else "HU",
        "has_spacing": bool(np.isfinite(view.spacing_mm).all()),
        "case": view.case_id,
        "files": quote(view.case_id),
        "library": f"../assets/plotly-{plotly.__version__}.js",
        "first": box[0].start,
        "count": depth,
        "fullest": fullest,
        "start": start,
        "size": [width, height],
        "aspect": width / height * (column_mm / row_mm if np.isfinite(column_mm / row_mm) else 1.0),
        "stored": [window.lower, window.upper],
        "presets": {title: [preset.lower, preset.upper] for title, preset in inside.items()},
        "outlines": outlines,
    }


def _fullest_slice(pixels: list[dict[str, list[int]]], depth: int) -> tuple[str, int]:
    """Structure and slice: most tumour of the first outline with any; else most liver, else the middle."""
    for structure in reversed(STRUCTURES):
        for counts in (each[structure] for each in pixels if any(each[structure])):
            return structure_name(structure), counts.index(max(counts))
    return "", depth // 2


def _write_library(folder: Path) -> None:
    """The 3D library from plotly's own package, once for all pages of a report."""
    target = folder / f"plotly-{plotly.__version__}.js"
    if not target.exists():
        source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        write_packed_script(target, source.read_text(encoding="utf-8"))
