"""Which true tumour holds which of a phantom's painted lesions: those that touch are one object in labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

EDGES = ("sharp", "diffuse", "mixed", "unknown")
"""Of a true tumour: as its painted lesions are; "mixed" of both kinds, "unknown" of none."""


def match_painted(
    components: np.ndarray,
    spacing_mm: Sequence[float],
    painted: pd.DataFrame,
    corner: Sequence[int] = (0, 0, 0),
) -> pd.DataFrame:
    """A row a true tumour: object (its id in `components`, (D, H, W)), painted (how many), edge (of EDGES).

    `painted` are tumours of the phantom's lesions.csv: diameter_mm, diffuse, center_d_mm, center_h_mm,
    center_w_mm from the first voxel of the scan, of which `components` begins at voxel `corner`. A lesion
    belongs to the tumour at its centre, or else to the nearest one within its radius (a later lesion may have
    been painted over its centre); to none if there is none.
    """
    places_mm = np.argwhere(components) * np.asarray(spacing_mm, float)
    ids = components[components > 0]
    centres = painted[["center_d_mm", "center_h_mm", "center_w_mm"]].to_numpy(float)
    centres = centres - np.asarray(corner) * np.asarray(spacing_mm, float)
    diffuse: dict[int, list[bool]] = {int(each): [] for each in np.unique(ids)}
    for centre, lesion in zip(centres, painted.itertuples(), strict=True):
        if len(ids) == 0:
            break
        distances = np.linalg.norm(places_mm - centre, axis=1)
        if distances.min() <= lesion.diameter_mm / 2:
            diffuse[int(ids[distances.argmin()])].append(bool(lesion.diffuse))
    rows = [{"object": each, "painted": len(kinds), "edge": _edge(kinds)} for each, kinds in diffuse.items()]
    return pd.DataFrame(rows, columns=["object", "painted", "edge"])


def _edge(diffuse: list[bool]) -> str:
    if not diffuse:
        return "unknown"
    return "mixed" if len(set(diffuse)) > 1 else ("diffuse" if diffuse[0] else "sharp")
