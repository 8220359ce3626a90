"""A page a patient: the slices with outlines, measures, and a view in 3D, all from a folder, offline.

And of a patient who was seen twice: what became of each tumour, and of all together.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import cv2
import numpy as np
import pandas as pd
import plotly
from contourpy import contour_generator
from isal import igzip
from PIL import Image
from scipy.ndimage import find_objects
from skimage.measure import block_reduce, marching_cubes

from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import foreground_box
from livseg_lib.files import folder_written_aside, write_atomically
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.postprocessing.components import known_spacing, label_components, require_volumes
from livseg_lib.preprocessing.geometry import Box, widened
from livseg_lib.preprocessing.windows import WINDOWS, Window, apply_window
from livseg_lib.reporting import style
from livseg_lib.reporting.folder import environment, table_view
from livseg_lib.reporting.screen import TRUTH, VIEW_WINDOWS, draw_outlined, slice_to_show

if TYPE_CHECKING:  # only named in signatures
    import plotly.graph_objects as go

    from livseg_lib.evaluation.follow_up import FollowUp

DASHED = product(("7 4", "2 3", "12 3 2 3", "5 9"), (style.YELLOW, "#ffffff", style.PURPLE, style.GREEN))
LOOKS = tuple(DASHED)  # dashes and colours of outlines that are not the truth
SURFACE_LIBRARY = f"plotly-{plotly.__version__}.js"
MARGIN_MM, UNKNOWN_SPACING_MM = 12.0, (np.inf, 0.75, 0.75)
"""Around everything outlined: 16 pixels within the slice, and no slice more, where the spacing is unknown."""

MAX_SIDE_PIXELS, THUMBNAIL_PIXELS = 384, 144
THUMBNAIL = "thumbnail.webp"
"""In the folder of a patient page: the slice that it opens on, with the first outline."""

QUALITY = 60  # of WebP and JPEG, which lose most where a picture is noise
STORED_WINDOW = Window.between(-200, 300)
"""HU kept in a picture, in steps of 2 HU: all that the windows of a liver page show."""

HALF_VOXELS_OFF = 1.0  # by which an outline may be simplified
SURFACE_COLOURS = (style.BLUE, style.PURPLE, style.GREEN, style.BLACK)  # of predictions, in their order
LIVER_SIDE_MM, TUMOR_SIDE_MM = 8.0, 2.5
"""Voxels are put together to about this size before surfaces are drawn."""

MAX_TRIANGLES = 12_000  # of one outline's liver, or of its tumours; beyond it they are drawn coarser
MAX_TUMORS = 40  # most tumours that are drawn of one outline, the largest; its entry in the legend says so
AXES = {"x": "right to left (mm)", "y": "front to back (mm)", "z": "feet to head (mm)"}
MAX_SURFACES = 4  # outlines that the 3D view holds, the first ones: it would outweigh the rest of the page


@dataclass(frozen=True, eq=False)
class PatientView:
    """What a patient page shows."""

    case_id: str  # names the files, too
    voxels: np.ndarray  # int16 HU (D, H, W); grey levels 0 to 255 for pictures
    spacing_mm: tuple[float, float, float]  # D, H, W; NaN for a stack of pictures, which then has no 3D view
    outlines: Mapping[str, np.ndarray]
    """Name -> labels 0/1/2 (D, H, W), in the order of the legend. One called "truth" is drawn solid, all
    others dashed; the first two are switched on at the start."""
    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    """(caption, table) each, below the slices."""
    note: str = ""  # a sentence for the reader, such as that these are phantoms


def write_patient_page(view: PatientView, folder: Path | str) -> Path:
    """Write `folder/patients/<case>.html` and what it loads; returns the page.

    Pictures, outlines and surfaces lie in `folder/patients/<case>/`, the 3D library once in
    `folder/assets/`. The page works from file://, without a network, and stands only where all that it
    loads is there. Raises InputError for a name that is no file name and for arrays of other shapes.
    """
    if Path(view.case_id).name != view.case_id or view.case_id[:1] in ("", "."):
        raise InputError(view.case_id, "This cannot name a file.", "Name the patient without a slash.")
    require_volumes(voxels=view.voxels, **view.outlines)
    page = Path(folder) / "patients" / f"{view.case_id}.html"
    page.unlink(missing_ok=True)  # it would point to files that are being replaced
    with folder_written_aside(page.with_name(view.case_id)) as parts:
        content = _write_parts(view, parts)
    library = Path(folder) / "assets" / SURFACE_LIBRARY
    if content["has_surface"] and not library.exists():  # once for all pages, from plotly's own package
        source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        _write_packed(library, source.read_text(encoding="utf-8"))
    content["report"] = "../index.html" if (Path(folder) / "index.html").exists() else ""
    return write_atomically(page, environment().get_template("patient.html").render(**content).encode())


def _write_parts(view: PatientView, folder: Path) -> dict:
    """Write pictures, outlines and surfaces into `folder`; returns what the template shows."""
    box = view_box(view.outlines.values(), view.voxels.shape, view.spacing_mm)
    grey = bool(view.voxels.min() >= 0 and view.voxels.max() <= 255)  # HU of air lie far below 0
    window = WINDOWS["stored"] if grey else STORED_WINDOW
    surfaces = {name: labels[box] for name, labels in list(view.outlines.items())[:MAX_SURFACES]}
    has_surface = bool(np.isfinite(view.spacing_mm).all()) and any(map(np.any, surfaces.values()))
    if has_surface:
        traces = json.dumps(_surface_view(surfaces, view.spacing_mm), default=_packed_numbers)
        _write_packed(folder / "surface.js", traces)
    for number, labels in enumerate(view.outlines.values()):  # each is loaded when it is switched on
        paths = json.dumps(outline_paths(labels[box]), separators=(",", ":"))
        _write_packed(folder / f"outline-{number}.js", paths)
    data = _slider_data(view, box, window, grey)
    start = data["first"] + data["start"], *box[1:]
    first = next(iter(view.outlines.values()), None)
    write_thumbnail(view.voxels[start], None if first is None else first[start], folder / THUMBNAIL)
    return {
        "view": view,
        "data": data,
        "tables": [(caption, table_view(table)) for caption, table in view.tables],
        "step": (window.upper - window.lower) / 255,
        "error": write_slice_pictures(view.voxels[box], folder, window),
        "has_surface": has_surface,
        "without_surface": list(view.outlines)[MAX_SURFACES:],
    }


def _write_packed(path: Path, text: str) -> None:
    """Write `path`, a .js file that calls livseg.take(its stem, base64 of gzip of UTF-8 `text`).

    Browsers refuse to fetch files beside a page that was opened from disk, but load scripts from there.
    """
    packed = base64.b64encode(igzip.compress(text.encode(), mtime=0)).decode()
    write_atomically(path, f'livseg.take("{path.stem}", "{packed}");\n'.encode())


def _outlines(view: PatientView, box: Box) -> list[dict]:
    """Of each its name, its style (the truth as in figures, every prediction its own), and how many pixels of
    each structure every slice has."""
    looks = cycle(LOOKS)
    found = []
    for name, labels in view.outlines.items():
        dash, colour = ("", None) if name == TRUTH else next(looks)
        look = {"dash": dash} | {each: colour or style.STRUCTURE_COLOURS[each] for each in STRUCTURES}
        masks = {each: structure_mask(labels[box], each) for each in STRUCTURES}
        pixels = {each: mask.sum(axis=(1, 2)).tolist() for each, mask in masks.items()}
        found.append({"name": name, "style": look, "pixels": pixels})
    return found


def _slider_data(view: PatientView, box: Box, window: Window, grey: bool) -> dict:
    """All that the page's script needs to know; sizes in voxels of the scan."""
    depth, height, width = (side.stop - side.start for side in box)
    fullest, start = slice_to_show([labels[box] for labels in view.outlines.values()], depth)
    _, row_mm, column_mm = view.spacing_mm
    windows = {name.capitalize(): each for name, each in VIEW_WINDOWS.items()}
    inside = {t: w for t, w in windows.items() if window.lower <= w.lower and w.upper <= window.upper}
    whole = {"All stored": window}
    presets = whole | inside if grey else inside | whole  # the first is shown at the start
    return {
        "unit": "grey levels" if grey else "HU",
        "has_spacing": bool(np.isfinite(view.spacing_mm).all()),
        "case": view.case_id,
        "files": quote(view.case_id),
        "library": f"../assets/{SURFACE_LIBRARY}",
        "first": box[0].start,
        "count": depth,
        "fullest": style.structure_name(fullest),
        "start": start,
        "size": [width, height],
        "aspect": width / height * (column_mm / row_mm if np.isfinite(column_mm / row_mm) else 1.0),
        "stored": [window.lower, window.upper],
        "presets": {title: [preset.lower, preset.upper] for title, preset in presets.items()},
        "outlines": _outlines(view, box),
    }


def view_box(outlines: Iterable[np.ndarray], shape: tuple[int, int, int], spacing_mm: Sequence[float]) -> Box:
    """The box of all that any of `outlines` (labels (D, H, W)) marks, with MARGIN_MM more; all if nothing is.

    Where `spacing_mm` (D, H, W) is NaN, UNKNOWN_SPACING_MM stands for it.
    """
    outlines = [*outlines]
    box = foreground_box(*outlines) if outlines else ()
    if not any(side.stop for side in box):
        return tuple(slice(0, size) for size in shape)
    spacing = np.where(np.isfinite(spacing_mm), spacing_mm, UNKNOWN_SPACING_MM)
    return widened(box, shape, spacing, MARGIN_MM)


def write_slice_pictures(voxels: np.ndarray, folder: Path, window: Window) -> float:
    """Write `folder/000.jpg` and on, `voxels` (int16 HU (D, H, W)) slice by slice, cut to `window`.

    WebP would be a quarter smaller and take seventy times as long. The longer side has at most
    MAX_SIDE_PIXELS. Returns what compressing cost, so that a page can say it: HU, root mean square over all
    pixels of the reduced 8 bit pictures.
    """
    squares = 0.0
    for index, hu in enumerate(voxels):
        grey = _reduced(apply_window(hu, window), MAX_SIDE_PIXELS)
        _, content = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        (folder / f"{index:03d}.jpg").write_bytes(content.tobytes())
        kept = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
        squares += float(np.mean((kept.astype(np.float32) - grey) ** 2))
    return (window.upper - window.lower) / 255 * (squares / len(voxels)) ** 0.5


def write_thumbnail(hu: np.ndarray, labels: np.ndarray | None, path: Path) -> None:
    """Write one slice, int16 (H, W), as a small WebP; liver and tumours of labels 0/1/2 (H, W) outlined."""
    grey = _reduced(apply_window(hu, WINDOWS["liver"]), THUMBNAIL_PIXELS)
    picture = np.repeat(grey[..., None], 3, axis=2)
    if labels is not None:
        draw_outlined(picture, labels, style.STRUCTURE_COLOURS, thickness=1)
    Image.fromarray(picture).save(path, "webp", quality=QUALITY)


def _reduced(grey: np.ndarray, max_side: int) -> np.ndarray:
    factor = max_side / max(grey.shape)
    if factor >= 1:
        return grey
    height, width = (max(1, round(side * factor)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)


def outline_path(mask: np.ndarray) -> str:
    """Closed SVG path around the True pixels of `mask` (H, W), holes included; "" where there are none.

    The unit is half a pixel with the origin at the picture's corner: a pixel in row r and column c covers
    x from 2c to 2c + 2 and y from 2r to 2r + 2. Corners are cut at pixel borders' midpoints (marching
    squares), and points are left out that move the line by less than half a voxel. Fill it by "evenodd".
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return ""
    top, left = rows[0], columns[0]
    cut = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    contours = contour_generator(z=cut.astype(np.float32)).lines(0.5)
    corner = np.array([2 * left - 1, 2 * top - 1])
    return "".join(_closed_path(np.rint(2 * contour).astype(np.int32) + corner) for contour in contours)


def outline_paths(labels: np.ndarray) -> dict[str, list[str]]:
    """Structure -> a path a slice, for `labels` 0/1/2 (D, H, W); a structure without a voxel has no entry."""
    masks = {structure: structure_mask(labels, structure) for structure in STRUCTURES}
    return {name: [outline_path(plane) for plane in mask] for name, mask in masks.items() if mask.any()}


def _closed_path(points: np.ndarray) -> str:
    """`points` int (N, 2) as (x, y); the last equals the first."""
    kept = cv2.approxPolyDP(points[:-1, None], HALF_VOXELS_OFF, True)[:, 0]
    if len(kept) < 3:  # a speck stays as it is
        kept = points[:-1]
    steps = " ".join(f"{x} {y}" for x, y in np.diff(kept, axis=0).tolist())
    return f"M{kept[0, 0]} {kept[0, 1]}l{steps}z".replace(" -", "-")


def surface_figure(outlines: Mapping[str, np.ndarray], spacing_mm: Sequence[float]) -> go.Figure:
    """Surfaces of `outlines`, name -> labels 0/1/2 (D, H, W), each switched on and off in the legend.

    The first outline is drawn whole: a transparent liver with its tumours; of the second the tumours, too.
    All else waits in the legend. x runs from the patient's right to left, y from front to back, z from
    feet to head, in mm from the volume's corner. Surfaces are coarse and only for the eye: every tumour of
    at most MAX_TUMORS stays visible, however small. Raises InputError for an unknown spacing.
    """
    import plotly.graph_objects as go  # which takes its time

    return go.Figure(_surface_view(outlines, spacing_mm))


def _surface_view(outlines: Mapping[str, np.ndarray], spacing_mm: Sequence[float]) -> dict:
    """`surface_figure` as plotly.js takes it, traces and layout; numbers are still arrays."""
    spacing, traces = known_spacing(spacing_mm), []
    for number, (name, labels) in enumerate(outlines.items()):
        predicted = SURFACE_COLOURS[(number - 1) % len(SURFACE_COLOURS)]  # the truth comes before them
        colours = style.STRUCTURE_COLOURS if name == TRUTH else dict.fromkeys(STRUCTURES, predicted)
        liver = {"color": colours["liver"], "opacity": 0.12 if number else 0.18, "visible": number == 0}
        tumors = {"color": colours["tumor"], "opacity": 0.55 if number else 1.0, "visible": number <= 1}
        mask = structure_mask(labels, "liver").view(np.uint8)
        traces += _meshes(f"Liver, {name}", mask, spacing, LIVER_SIDE_MM, liver)
        components, _ = label_components(structure_mask(labels, "tumor"))
        traces += _meshes(f"Tumours, {name}", components, spacing, TUMOR_SIDE_MM, tumors)
    axis_look = {"showspikes": False, "backgroundcolor": "#ffffff"}
    axes = {f"{axis}axis": {"title": {"text": title}, **axis_look} for axis, title in AXES.items()}
    from_the_front = {"eye": {"x": 0.35, "y": -1.75, "z": 0.45}}
    layout = {
        "scene": {**axes, "aspectmode": "data", "camera": from_the_front},
        "legend": {"orientation": "h", "y": -0.02, "yanchor": "top"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "uirevision": "keep",
        "template": {},
    }
    return {"data": traces, "layout": layout}


def _packed_numbers(array: np.ndarray) -> dict[str, str]:
    """As plotly.js reads typed arrays out of JSON."""
    return {"dtype": array.dtype.str[1:], "bdata": base64.b64encode(array.tobytes()).decode()}


def _meshes(name: str, components: np.ndarray, spacing: np.ndarray, side_mm: float, look: dict) -> list[dict]:
    """One trace of all `components` (int (D, H, W), numbered from 1), none where there is no component.

    Each is made by itself, so that none is smoothed away. One that is not "visible" waits in the legend.
    """
    boxes = find_objects(components)
    if not boxes:
        return []
    sizes = np.bincount(components[components > 0])[1:]
    largest = np.argsort(-sizes, kind="stable")[:MAX_TUMORS].tolist()
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    while not pieces or sum(len(faces) for _, faces in pieces) > MAX_TRIANGLES:
        pieces = [_surface(components[boxes[k]] == k + 1, boxes[k], spacing, side_mm) for k in largest]
        side_mm *= 1.5
    first = np.cumsum([0] + [len(vertices) for vertices, _ in pieces])
    z, y, x = np.concatenate([vertices for vertices, _ in pieces]).T
    faces = np.concatenate([faces + start for (_, faces), start in zip(pieces, first, strict=False)])
    i, j, k = faces.T.astype(np.uint16 if len(x) < 2**16 else np.uint32)
    left_out = f" (the {MAX_TUMORS} largest of {len(boxes)})" if len(boxes) > MAX_TUMORS else ""
    look = {**look, "visible": True if look["visible"] else "legendonly"}
    mesh = dict(
        **{"type": "mesh3d", "x": x, "y": y, "z": z, "i": i, "j": j, "k": k, **look},
        **{"name": name + left_out, "showlegend": True, "hoverinfo": "name", "flatshading": False},
        lighting={"ambient": 0.55, "diffuse": 0.7, "specular": 0.1, "roughness": 0.9},
        lightposition={"x": 1e4, "y": -1e5, "z": 1e5},
    )
    return [mesh]


def _surface(cut: np.ndarray, box: Box, spacing: np.ndarray, side_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 (N, 3) in mm along D, H, W and faces int (M, 3) of `cut`, a mask's part in `box`."""
    largest = np.maximum(cut.shape, 64)  # a grid of micrometres would ask for terabytes
    block = np.clip(np.rint(side_mm / spacing), 1, largest).astype(int)
    share = np.pad(block_reduce(cut.astype(np.float32), tuple(block), np.mean), 1)
    # Half of the fullest block, so that what is thinner than a block keeps a surface.
    vertices, faces, _, _ = marching_cubes(share, 0.5 * float(share.max()))
    corner = [side.start for side in box] + block / 2  # centre of the first block
    return (((vertices - 1) * block + corner) * spacing).astype(np.float32), faces


NOT_AN_ASSESSMENT = (
    "Arithmetic of RECIST 1.1 on liver tumours of two scans alone; no assessment of a patient, who has other "
    "organs, other lesions and other scans."
)
LIVERS_FIT = 0.7
"""Dice of one liver in two scans, laid over each other, at least: below, it was cut off or is another's."""


def conclude_follow_up(name: str, found: FollowUp) -> list[str]:
    """What a follow-up found, a sentence on the tumours and one on the alignment."""
    counts = found.changes.kind.value_counts()
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no tumour at either time"
    before, after = found.livers.tumor_ml
    response = found.response
    sums = "no tumour large enough to be a target"
    if response.targets:
        change = f"{response.sum_before_mm:.1f} to {response.sum_after_mm:.1f} mm ({response.change:+.0%})"
        sums = f"sum of {len(response.targets)} target diameters {change}"
    volumes = f"Tumours {before:.1f} ml before, {after:.1f} ml after"
    agreement = f"agree with Dice {found.matching.liver_dice:.2f}."
    if found.matching.liver_dice < LIVERS_FIT:
        agreement += " Tumours may be matched wrongly: is this one patient, and the whole liver in both?"
    return [
        f"{name}: {kinds}. {volumes}; {sums}: {response.category}.",
        f"{name}: the livers, laid over each other by their centres, {agreement}",
    ]
