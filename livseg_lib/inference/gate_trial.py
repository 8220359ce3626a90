"""What a gate in front of a segmentation costs and spares, on one case with truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.overlap import dice, overlap_counts
from livseg_lib.inference.sorting import SorterGate
from livseg_lib.inference.volume import predict_volume
from livseg_lib.labels import structure_mask
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.training.sorter_folder import TrainedSorter

Answer = TypeVar("Answer")


def try_gate(sorter: TrainedSorter, trained: TrainedModel, case: Case) -> dict:
    """Segment `case` with the gate and without it: pictures in all and spared, seconds, what was lost.

    `gated_seconds` include the sorter's. For each structure: `<structure>_voxels` of the truth, those
    `<structure>_found` without the gate and `<structure>_gated_found` with it, and the Dice in the same way,
    NaN where truth and prediction are both empty. Let both networks run once before: else the first case
    takes longer.
    """
    volume = case.read_volume()
    reference, gate = case.read_labels(volume), SorterGate(sorter, trained.recipe)
    whole, whole_seconds = _timed(lambda: predict_volume(trained, volume))
    gated, gated_seconds = _timed(lambda: predict_volume(trained, volume, gate))
    row = {
        "patient": case.patient,
        "case": case.case_id,
        "n_slices": len(gate.passed),
        "n_spared": gate.passed.count(False),
        "whole_seconds": whole_seconds,
        "gated_seconds": gated_seconds,
    }
    for structure in trained.structures:
        row[f"{structure}_voxels"] = int(structure_mask(reference, structure).sum())
        for which, labels in (("", whole), ("gated_", gated)):
            counts = overlap_counts(structure_mask(labels, structure), structure_mask(reference, structure))
            row[f"{structure}_{which}found"] = int(counts.true_positives)
            row[f"{structure}_{which}dice"] = float(dice(counts))
    return row


def summarize_gate(trials: pd.DataFrame, structures: Sequence[str]) -> pd.DataFrame:
    """Rows of `try_gate` summed up: `quantity, without_gate, with_gate`; Dice is the mean over cases."""
    total = trials.sum(numeric_only=True)
    rows = [
        ("slices segmented", total.n_slices, total.n_slices - total.n_spared),
        ("seconds", total.whole_seconds, total.gated_seconds),
    ]
    for structure in structures:
        name = structure.replace("tumor", "tumour")
        found, means = (
            [f"{structure}_{which}{what}" for which in ("", "gated_")] for what in ("found", "dice")
        )
        rows.append((f"{name} voxels found, of {total[f'{structure}_voxels']:.0f}", *total[found]))
        rows.append((f"{name} Dice per case", *trials[means].mean()))
    return pd.DataFrame(rows, columns=["quantity", "without_gate", "with_gate"])


def _timed(work: Callable[[], Answer]) -> tuple[Answer, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began
