"""Coarse, region, fine, paste back: a cascade is a list of steps, each of which looks where the liver is.

The one mechanism behind systems E, G, H, I and J.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from livseg_lib.datasets.case import Case
from livseg_lib.labels import LIVER, TUMOR, structure_mask
from livseg_lib.preprocessing.region import REGIONS, crop_volume, paste
from livseg_lib.volumes import Volume

Part = Callable[[Volume, np.ndarray], np.ndarray]
"""Volume of a region and its labels 0/1/2 so far, uint8 (d, h, w) -> its labels from now on."""


@dataclass(frozen=True)
class Step:
    """One part of a cascade, and where it looks."""

    name: str
    """Of the stage in figures, such as "coarse liver"."""
    part: Part
    region: str = "scan"
    """One of `preprocessing.region.REGIONS`, around the liver so far."""
    margin_mm: float = 0.0


@dataclass(frozen=True)
class Cascade:
    """A system of several steps; tables take it as a `ScoredSystem`."""

    system: str
    structures: tuple[str, ...]
    steps: tuple[Step, ...]
    parameters: int
    training: dict = field(default_factory=dict)

    def predict(self, case: Case, volume: Volume) -> np.ndarray:
        """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`."""
        return run_cascade(volume, self.steps)


def run_cascade(volume: Volume, steps: tuple[Step, ...], liver: np.ndarray | None = None) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), after the last of `stages`; empty where there was nowhere to look."""
    last = deque(stages(volume, steps, liver), maxlen=1)
    return last[0][1] if last else np.zeros(volume.voxels.shape, np.uint8)


def stages(
    volume: Volume, steps: tuple[Step, ...], liver: np.ndarray | None = None
) -> Iterator[tuple[Step, np.ndarray]]:
    """Each step with the labels after it, uint8 (D, H, W).

    The first step looks at the whole scan. Where no liver is found, steps that look around it are left
    out, and the labels stay empty. A `liver` that is known, bool (D, H, W), stands whatever the steps say
    of it: they are asked for tumours alone.
    """
    labels = np.zeros(volume.voxels.shape, np.uint8) if liver is None else liver * np.uint8(LIVER)
    for step in steps:
        region = REGIONS[step.region](structure_mask(labels, "liver"), volume.spacing_mm, step.margin_mm)
        if region is None:
            return
        answer = step.part(crop_volume(volume, region), labels[region.slices])
        labels = paste(answer, np.zeros_like(labels), region)
        if liver is not None:
            labels = with_tumors(liver, structure_mask(labels, "tumor"))
        yield step, labels


def with_tumors(liver: np.ndarray, tumor: np.ndarray) -> np.ndarray:
    """Two masks bool of one shape as labels 0/1/2, uint8; tumours count inside the liver alone."""
    labels = liver * np.uint8(LIVER)
    labels[liver & tumor] = TUMOR
    return labels
