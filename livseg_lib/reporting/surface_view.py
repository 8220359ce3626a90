"""Liver and tumours in 3D: the truth against predictions, as a plotly figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from scipy.ndimage import find_objects
from skimage.measure import block_reduce, marching_cubes

from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.components import Box, known_spacing, label_components
from livseg_lib.reporting.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE

TRUTH = "truth"
PREDICTED = (BLUE, PURPLE, GREEN, BLACK)
"""Colours of what was predicted, in the order it is given."""

LIVER_SIDE_MM, TUMOR_SIDE_MM = 8.0, 2.5
"""Voxels are put together to about this size before surfaces are drawn."""

MAX_TRIANGLES = 12_000
"""Of one outline's tumours; beyond it they are drawn coarser."""

MAX_TUMORS = 40
"""Most that are drawn of one outline, the largest; its entry in the legend says so."""

AXES = {"x": "right to left (mm)", "y": "front to back (mm)", "z": "feet to head (mm)"}


def surface_figure(outlines: Mapping[str, np.ndarray], spacing_mm: Sequence[float]) -> go.Figure:
    """Surfaces of `outlines`, name -> labels 0/1/2 (D, H, W), each switched on and off in the legend.

    The first outline is drawn whole: a transparent liver with its tumours; of the second the tumours, too.
    All else waits in the legend. x runs from the patient's right to left, y from front to back, z from
    feet to head, in mm from the volume's corner. Surfaces are coarse and only for the eye: every tumour of
    at most MAX_TUMORS stays visible, however small. Raises InputError for an unknown spacing.
    """
    spacing = known_spacing(spacing_mm)
    figure = go.Figure()
    for number, (name, labels) in enumerate(outlines.items()):
        tumor_colour, liver_colour = _colours(name, number)
        liver, tumor = structure_mask(labels, "liver"), structure_mask(labels, "tumor")
        opacity = 0.18 if number == 0 else 0.12
        figure.add_traces(_liver(f"Liver, {name}", liver, spacing, liver_colour, opacity, number == 0))
        opacity = 1.0 if number == 0 else 0.55
        figure.add_traces(_tumors(f"Tumours, {name}", tumor, spacing, tumor_colour, opacity, number <= 1))
    return figure.update_layout(**_layout())


def _colours(name: str, number: int) -> tuple[str, str]:
    """Of tumours and liver; the truth as on slices."""
    if name == TRUTH:
        return ORANGE, SKY_BLUE
    colour = PREDICTED[(number - 1) % len(PREDICTED)]  # the truth comes before them
    return colour, colour


def _liver(
    name: str, mask: np.ndarray, spacing: np.ndarray, colour: str, opacity: float, shown: bool
) -> list[go.Mesh3d]:
    if not mask.any():
        return []
    box = find_objects(mask.view(np.uint8))[0]
    vertices, faces = _surface(mask[box], box, spacing, LIVER_SIDE_MM)
    return [_mesh(name, vertices, faces, colour, opacity, shown)]


def _tumors(
    name: str, mask: np.ndarray, spacing: np.ndarray, colour: str, opacity: float, shown: bool
) -> list[go.Mesh3d]:
    """One trace of all tumours, each made by itself so that none is smoothed away."""
    components, count = label_components(mask)
    if count == 0:
        return []
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    boxes = find_objects(components)
    largest = np.argsort(-sizes, kind="stable")[:MAX_TUMORS].tolist()
    side_mm, pieces = TUMOR_SIDE_MM, []
    while not pieces or sum(len(faces) for _, faces in pieces) > MAX_TRIANGLES:
        pieces = [_surface(components[boxes[k]] == k + 1, boxes[k], spacing, side_mm) for k in largest]
        side_mm *= 1.5
    first = np.cumsum([0] + [len(vertices) for vertices, _ in pieces])
    vertices = np.concatenate([vertices for vertices, _ in pieces])
    faces = np.concatenate([faces + start for (_, faces), start in zip(pieces, first, strict=False)])
    left_out = f" (the {MAX_TUMORS} largest of {count})" if count > MAX_TUMORS else ""
    return [_mesh(name + left_out, vertices, faces, colour, opacity, shown)]


def _surface(cut: np.ndarray, box: Box, spacing: np.ndarray, side_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 (N, 3) in mm along D, H, W and faces int (M, 3) of `cut`, a mask's part in `box`."""
    block = np.maximum(1, np.rint(side_mm / spacing)).astype(int)
    share = np.pad(block_reduce(cut.astype(np.float32), tuple(block), np.mean), 1)
    # Half of the fullest block, so that what is thinner than a block keeps a surface.
    vertices, faces, _, _ = marching_cubes(share, 0.5 * float(share.max()))
    corner = [side.start for side in box] + block / 2  # centre of the first block
    return (((vertices - 1) * block + corner) * spacing).astype(np.float32), faces


def _mesh(
    name: str, vertices: np.ndarray, faces: np.ndarray, colour: str, opacity: float, shown: bool
) -> go.Mesh3d:
    z, y, x = vertices.T
    i, j, k = faces.T.astype(np.uint16 if len(vertices) < 2**16 else np.uint32)
    return go.Mesh3d(
        **{"x": x, "y": y, "z": z, "i": i, "j": j, "k": k},
        **{"name": name, "color": colour, "opacity": opacity, "showlegend": True, "hoverinfo": "name"},
        **{"visible": True if shown else "legendonly", "flatshading": False},
        lighting={"ambient": 0.55, "diffuse": 0.7, "specular": 0.1, "roughness": 0.9},
        lightposition={"x": 1e4, "y": -1e5, "z": 1e5},
    )


def _layout() -> dict:
    axes = {
        f"{axis}axis": {"title": {"text": title}, "showspikes": False, "backgroundcolor": "#ffffff"}
        for axis, title in AXES.items()
    }
    from_the_front = {"eye": {"x": 0.35, "y": -1.75, "z": 0.45}}
    return {
        "template": "none",
        "scene": {**axes, "aspectmode": "data", "camera": from_the_front},
        "legend": {"orientation": "h", "y": -0.02, "yanchor": "top"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "uirevision": "keep",
    }
