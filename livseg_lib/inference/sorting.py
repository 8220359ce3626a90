"""A slice sorter and a scan -> what each slice shows, in which order to open them, and which to spare.

Each slice is judged alone: the sorter sees neither its neighbours nor that a liver is one piece.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.evaluation.slices import threshold_for_recall
from livseg_lib.inference.predict import predict_batches, predict_volume, stored_pictures
from livseg_lib.labels import LIVER_REGIONS, structure_mask
from livseg_lib.preprocessing.geometry import blend
from livseg_lib.preprocessing.recipe import Recipe, prepare_slices
from livseg_lib.training.model_folder import TrainedModel, TrainedSorter
from livseg_lib.volumes import Volume

if TYPE_CHECKING:  # only named in signatures
    import keras


def sort_pictures(network: keras.Model, pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Probabilities float32 (N, K) of a stream of pictures, each uint8 (H, W, C)."""
    nothing = np.zeros((0, network.output_shape[-1]), np.float32)
    return np.concatenate([nothing, *predict_batches(network, pictures)])


def sort_stored(network: keras.Model, slices: pd.DataFrame, folder: Path) -> np.ndarray:
    """Probabilities float32 (N, K) of extracted `slices` (`array`, `array_index`), in their order."""
    rows = zip(slices["array"].astype(str), slices["array_index"].astype(int), strict=True)
    return sort_pictures(network, (stored_pictures(folder, array)[index] for array, index in rows))


def sort_volume(sorter: TrainedSorter, volume: Volume) -> np.ndarray:
    """Probabilities float32 (D, K) of `sorter.regions`, for each of the volume's own slices, feet to head."""
    found = sort_pictures(sorter.network, prepare_slices(volume, sorter.recipe))
    depth = len(volume.voxels)
    return np.stack([blend(found, index, depth) for index in range(depth)])


def liver_probability(probabilities: np.ndarray, regions: Sequence[str]) -> np.ndarray:
    """Probability (D,) that a slice shows liver, with tumour or without."""
    return probabilities[:, [region in LIVER_REGIONS for region in regions]].sum(axis=1)


def choose_gate(
    probabilities: np.ndarray, regions: Sequence[str], truth: Sequence[str], recall: float
) -> float:
    """The highest `gate` that lets through at least `recall` of the slices that show liver.

    `truth` (N,) names the true regions of slices of validation patients. Where each of them shows liver
    there is nothing to spare, and the gate is 0: open.
    """
    shows_liver = np.isin(np.asarray(truth, dtype=str), LIVER_REGIONS)
    if shows_liver.all():
        return 0.0
    return threshold_for_recall(liver_probability(probabilities, regions), shows_liver, recall)


class SorterGate:
    """For `predict_volume`: pictures pass that show liver at least as probably as `sorter.gate` asks.

    The pictures must be made by the sorter's own recipe: then a scan is prepared once for both networks.
    `passed` remembers every answer, in order.
    """

    def __init__(self, sorter: TrainedSorter, recipe: Recipe) -> None:
        if recipe != sorter.recipe:
            problem = "was trained on pictures of another recipe than the network that it should spare."
            raise InputError("slice sorter", problem, "Train both on the same extracted slices.")
        self.sorter, self.passed = sorter, []

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Bool (b,) for pictures uint8 (b, H, W, C)."""
        probabilities = sort_pictures(self.sorter.network, pictures)
        answer = liver_probability(probabilities, self.sorter.regions) >= self.sorter.gate
        self.passed.extend(answer.tolist())
        return answer


def reading_table(
    probabilities: np.ndarray, regions: Sequence[str], slice_numbers: Sequence[int] | None = None
) -> pd.DataFrame:
    """Slices in the order in which a reader opens them, a row each.

    First those that are called liver, with tumour or without, by the probability of tumour; then the others,
    by that of liver. Columns: `place` from 1, `slice`, `array_index`, `region`, `probability_<region>`.
    `array_index` counts from 0 at the feet; `slice` does too, or is the picture's own number where
    `slice_numbers` are given. `region` is the most probable one.
    """
    called = np.array(regions)[probabilities.argmax(axis=1)]
    liver = liver_probability(probabilities, regions)
    tumor = probabilities[:, [region == "liver_with_tumor" for region in regions]].sum(axis=1)
    is_liver = np.isin(called, LIVER_REGIONS)
    order = np.lexsort((-liver, np.where(is_liver, -tumor, 0.0), ~is_liver))
    table = pd.DataFrame(probabilities, columns=[f"probability_{region}" for region in regions])
    table.insert(0, "slice", range(len(table)) if slice_numbers is None else list(slice_numbers))
    table.insert(1, "array_index", range(len(table)))
    table.insert(2, "region", called)
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "place", range(1, len(table) + 1))
    return table


def opened_until_tumor(truth_in_order: Sequence[str]) -> int:
    """How many slices a reader opens, in this order of true regions, until one shows tumour; 0: none does."""
    shows = np.asarray(truth_in_order, dtype=str) == "liver_with_tumor"
    return int(shows.argmax()) + 1 if shows.any() else 0


def try_gate(sorter: TrainedSorter, trained: TrainedModel, case: Case) -> dict:
    """Segment `case` with the gate and without it: pictures in all and spared, seconds, what was lost.

    `gated_seconds` include the sorter's. For each structure: `<structure>_voxels` of the truth, those
    `<structure>_found` without the gate and `<structure>_gated_found` with it, and the Dice in the same way,
    NaN where truth and prediction are both empty. Let both networks run once before: else the first case
    takes longer.
    """
    volume = case.read_volume()
    reference, gate = case.read_labels(volume), SorterGate(sorter, trained.recipe)
    times = [time.perf_counter()]
    whole = predict_volume(trained, volume)
    times.append(time.perf_counter())
    gated = predict_volume(trained, volume, gate)
    times.append(time.perf_counter())
    row = {
        "patient": case.patient,
        "case": case.case_id,
        "n_slices": len(gate.passed),
        "n_spared": gate.passed.count(False),
        "whole_seconds": times[1] - times[0],
        "gated_seconds": times[2] - times[1],
    }
    for structure in trained.structures:
        row[f"{structure}_voxels"] = int(structure_mask(reference, structure).sum())
        for prefix, labels in (("", whole), ("gated_", gated)):
            counts = overlap_counts(structure_mask(labels, structure), structure_mask(reference, structure))
            row[f"{structure}_{prefix}found"] = int(counts.true_positives)
            row[f"{structure}_{prefix}dice"] = float(dice(counts))
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
            [f"{structure}_{prefix}{score}" for prefix in ("", "gated_")] for score in ("found", "dice")
        )
        rows.append((f"{name} voxels found, of {total[f'{structure}_voxels']:.0f}", *total[found]))
        rows.append((f"{name} Dice per case", *trials[means].mean()))
    return pd.DataFrame(rows, columns=["quantity", "without_gate", "with_gate"])
