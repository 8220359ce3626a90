"""Tumour or not, for a whole scan (system A's question), and how that answer came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from livseg_lib.evaluation.probabilities.presence import presence_levels
from livseg_lib.evaluation.probabilities.probability_histogram import is_predicted
from livseg_lib.labels import structure_mask

SMALLEST_SHARE = 1 / 2048
"""Of a picture that has to look like tumour: a disc of 10 mm in a field of 400 mm."""


@dataclass(frozen=True)
class TumorPresence:
    """The answer for one scan."""

    suspected: bool | None
    """None where the system does not look for tumours."""
    probability: float
    """A network's own, 0 to 1, not calibrated; NaN where there is none."""
    how: str
    """A sentence on where the two come from."""


NOT_ASKED = TumorPresence(None, np.nan, "The system was trained to find the liver alone.")


def presence_from_planes(
    planes: np.ndarray, thresholds: Mapping[str, float], liver: np.ndarray | None = None
) -> TumorPresence:
    """The answer of a network, from its planes uint8 (N, h, w, K) and the K thresholds in their order.

    A picture shows a tumour where at least SMALLEST_SHARE of it reaches the threshold, which is to say
    that its n-th largest probability does: that one is the picture's score, and the highest of all
    pictures the scan's. Only pixels in the liver count: in `liver`, bool (N, h, w), or else in what the
    network itself takes for liver, if it looks for it.
    """
    names = list(thresholds)
    if "tumor" not in names:
        return NOT_ASKED
    tumor = planes[..., names.index("tumor")]
    if liver is None and "liver" in names:
        liver = is_predicted(planes[..., names.index("liver")], thresholds["liver"])
    area = max(1, round(tumor[0].size * SMALLEST_SHARE))
    levels = presence_levels(tumor if liver is None else tumor * liver, [area])[:, 0]
    where = "" if liver is None else " inside the liver"
    how = (
        f"In some slice at least {area} of the network's {tumor[0].size} pixels{where} reach this "
        f"probability of tumour. From {thresholds['tumor']:g} on, chosen on validation patients, a tumour is "
        "suspected. The probability is the network's own and not calibrated."
    )
    suspected = bool(is_predicted(levels, thresholds["tumor"]).any())
    return TumorPresence(suspected, float(levels.max()) / 255, how)


def presence_from_labels(labels: np.ndarray) -> TumorPresence:
    """The answer of a system of several steps, which gives labels (D, H, W) and no probability."""
    how = "A tumour is suspected where any voxel is outlined as one; this system gives no probability."
    return TumorPresence(bool(structure_mask(labels, "tumor").any()), np.nan, how)
