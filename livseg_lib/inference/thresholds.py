"""The probability from which a pixel counts, chosen on validation patients."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import keras

from livseg_lib.evaluation.probabilities.probability_histogram import ProbabilityHistogram
from livseg_lib.evaluation.probabilities.thresholds import choose_threshold
from livseg_lib.inference.blocks import predict_stack
from livseg_lib.inference.stored_slices import stored_labels, stored_pictures
from livseg_lib.labels import structure_mask
from livseg_lib.preprocessing.network_input import OWN_PICTURE, NetworkInput


def choose_thresholds(
    network: keras.Model,
    structures: tuple[str, ...],
    case_ids: Iterable[str],
    folder: Path,
    inputs: NetworkInput = OWN_PICTURE,
) -> dict[str, float]:
    """For each structure the threshold with the best mean Dice over the validation cases `case_ids`.

    Counted on all slices of a case at picture size. A network that sees the liver is shown the true one.
    Never call it with test patients.
    """
    histograms: dict[str, list[ProbabilityHistogram]] = {structure: [] for structure in structures}
    for case_id in case_ids:
        labels = stored_labels(folder, case_id)
        pictures = inputs.compose(stored_pictures(folder, case_id), structure_mask(labels, "liver"))
        planes = predict_stack(network, pictures, len(labels), inputs.block_overlap)
        for channel, structure in enumerate(structures):
            histogram = ProbabilityHistogram()
            histogram.add(planes[..., channel], structure_mask(labels, structure))
            histograms[structure].append(histogram)
    return {structure: choose_threshold(found) for structure, found in histograms.items()}
