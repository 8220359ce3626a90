"""Which ways to finish labels help a system? Asked of validation patients, one way after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.arrays import foreground_box
from livseg_lib.evaluation.structure_dice import structure_dice
from livseg_lib.inference.systems import System, outline
from livseg_lib.postprocessing.finishing import FINISHES

SMALLEST_GAIN = 1e-4
"""Of the mean Dice: what gains less is left out, as every step takes time and may do harm elsewhere."""


@dataclass(frozen=True)
class Outlined:
    """What a system found in one case, and the truth, cut to where either is."""

    patient: str
    labels: np.ndarray
    """0/1/2, uint8 (d, h, w)."""
    reference: np.ndarray
    spacing_mm: tuple[float, float, float]


def outline_cases(system: System, cases: Iterable[Case]) -> list[Outlined]:
    """`system` on each of `cases` with labels; one whole volume in memory at a time."""
    found = []
    for case in tqdm(list(cases), system.system, unit="patient"):
        volume = case.read_volume()
        labels, reference = outline(system, volume), case.read_labels(volume)
        box = foreground_box(labels, reference)
        cut = labels[box].copy(), reference[box].copy()
        found.append(Outlined(case.patient, *cut, volume.spacing_mm))
    return found


def choose_finishes(
    outlined: Sequence[Outlined], structures: Sequence[str]
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """The finishes that help, in the order of `FINISHES`, and what each one does.

    Each is tried by itself on the labels as those kept so far have left them, and kept where the mean Dice
    (over `structures`, each over patients) rises by more than `SMALLEST_GAIN`. Columns, a row a finish and
    structure: finish, structure, n_patients, n_changed (patients with any other label), dice_before,
    dice_after, change, kept, reason. Never call it with test patients.
    """
    kept, rows = [], []
    before = _mean_dice(outlined, structures)
    for name, finish in FINISHES.items():
        finished = [replace(each, labels=finish(each.labels, each.spacing_mm)) for each in outlined]
        after = _mean_dice(finished, structures)
        verdict = _judge(after.mean() - before.mean(), changed := _changed_patients(outlined, finished))
        rows += [
            {
                "finish": name,
                "structure": structure,
                "n_patients": len({each.patient for each in outlined}),
                "n_changed": changed,
                "dice_before": before[structure],
                "dice_after": after[structure],
                "change": after[structure] - before[structure],
                **verdict,
            }
            for structure in structures
        ]
        if verdict["kept"]:
            outlined, before = finished, after
            kept.append(name)
    return tuple(kept), pd.DataFrame(rows)


def _judge(gain: float, changed: int) -> dict:
    """Whether a finish stays that gains so much of the mean Dice, and why."""
    if not changed:
        return {"kept": False, "reason": "changes nothing"}
    if abs(gain) <= SMALLEST_GAIN:
        return {"kept": False, "reason": "changes next to nothing"}
    return {"kept": gain > 0, "reason": "helps" if gain > 0 else "harms"}


def _changed_patients(before: Sequence[Outlined], after: Sequence[Outlined]) -> int:
    pairs = zip(before, after, strict=True)
    return len({one.patient for one, other in pairs if not np.array_equal(one.labels, other.labels)})


def _mean_dice(outlined: Sequence[Outlined], structures: Sequence[str]) -> pd.Series:
    """Mean Dice over patients, a structure; the cases of one patient are averaged first."""
    scores = pd.DataFrame(
        [{s: structure_dice(each.labels, each.reference, s) for s in structures} for each in outlined]
    )
    return scores.groupby([each.patient for each in outlined]).mean().mean()
