"""Does uncertainty point at errors? Maps of it as a warning of wrong pixels near an outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.saliency import warning_auc
from livseg_lib.evaluation.statistics import summarize
from livseg_lib.inference.explain import over_models, over_variants
from livseg_lib.inference.explained_slice import outlined, outlined_labels
from livseg_lib.inference.predict import predict_batches, predict_planes, stored_labels, stored_pictures
from livseg_lib.inference.variants import predictive_entropy
from livseg_lib.labels import structure_mask
from livseg_lib.preprocessing.recipe import OWN_PICTURE, Recipe
from livseg_lib.studies.explain import ExplainedNetwork
from livseg_lib.training.model_folder import TrainedModel

WARNING_COLUMNS = ("patient", "case", "structure", "source", "measure", "roc_auc", "n_pixels", "n_wrong")


@dataclass(frozen=True)
class WarnedSlice:
    """The slice of the study with most wrong pixels; arrays are (s, s), the size of the pictures."""

    case: str
    index: int
    grey: np.ndarray
    """uint8."""
    reference: np.ndarray
    """Labels 0/1/2."""
    prediction: np.ndarray
    """Labels 0/1/2."""
    wrong: np.ndarray
    """bool, the structure's pixels near the outline."""
    warnings: dict[str, np.ndarray]
    """"source, measure" -> float32."""

    @property
    def amount(self) -> int:
        """Wrong pixels."""
        return int(np.count_nonzero(self.wrong))


def who_warns(networks: Sequence[ExplainedNetwork], recipe: Recipe) -> list[TrainedModel]:
    """The first network that sees pictures by `recipe` as they are, and all others like it of its target.

    None where no network does.
    """
    whole = [network.trained for network in networks if network.region == "scan"]
    seeing = [each for each in whole if (each.recipe, each.inputs) == (recipe, OWN_PICTURE)]
    return [each for each in seeing if each.target == seeing[0].target]


def study_warnings(
    models: Sequence[TrainedModel],
    cases: Sequence[Case],
    folder: Path,
    structure: str,
    variants: Sequence[str],
    near_pixels: float,
    slices_each: int,
) -> tuple[pd.DataFrame, WarnedSlice | None]:
    """ROC-AUC of each warning for wrong pixels of the first of `models`, a row a case and warning.

    Of each case up to `slices_each` of the extracted slices in `folder` that it outlines something of, and
    in them the pixels up to `near_pixels` from its outline: what it misses elsewhere no map can warn of
    here. Columns: WARNING_COLUMNS. A warning is a source, the answer itself, `variants` of the picture or
    all `models`, and a measure; beside them stands how near a pixel is to the outline, which needs no
    second answer at all. Cases of which nothing is outlined have rows with NaN.
    """
    rows, worst, trained = [], None, models[0]
    for case in tqdm(list(cases), "uncertainty", unit="patient"):
        pictures, truth = stored_pictures(folder, case.case_id), stored_labels(folder, case.case_id)
        planes = predict_planes(trained.network, pictures) / np.float32(255)
        found = outlined(trained, planes, structure)
        chosen = _evenly(np.flatnonzero(found.any(axis=(1, 2))), slices_each)
        found, reference = found[chosen], np.asarray(truth[chosen])
        distance = _distance_to_outline(found)
        warnings = _warnings(models, pictures[chosen], structure, variants)
        warnings["outline", "nearness"] = -distance
        near = distance <= near_pixels
        wrong = near & (found != structure_mask(reference, structure))
        counts = (np.count_nonzero(near), np.count_nonzero(wrong))
        for name, warning in warnings.items():
            auc = warning_auc(warning[near], wrong[near])
            rows.append((case.patient, case.case_id, structure, *name, auc, *counts))
        if len(chosen):
            place = int(wrong.sum(axis=(1, 2)).argmax())
            shown = WarnedSlice(
                case.case_id,
                int(chosen[place]),
                pictures[chosen[place]][..., 0],
                reference[place],
                outlined_labels(trained, planes[chosen[place]]),
                wrong[place],
                {", ".join(name): warning[place] for name, warning in warnings.items()},
            )
            worst = shown if worst is None else max(worst, shown, key=lambda each: each.amount)
    return pd.DataFrame(rows, columns=list(WARNING_COLUMNS)), worst


def summarize_warnings(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a source and measure: mean ROC-AUC over patients with its 95 % bootstrap interval.

    Columns: source, measure, roc_auc, roc_auc_low, roc_auc_high, n_patients, n_undefined. Several cases of
    one patient count as their mean.
    """
    return summarize(rows, ["source", "measure"], "roc_auc", seed=seed)


def _warnings(
    models: Sequence[TrainedModel], pictures: np.ndarray, structure: str, variants: Sequence[str]
) -> dict[tuple[str, str], np.ndarray]:
    """(source, measure) -> float32 (n, s, s)."""
    images = pictures / np.float32(255)
    ask, *others = (partial(_probability, each, structure) for each in models)
    answer, sources = ask(images), {}
    if variants:
        sources["variants"] = over_variants(ask, images, variants)
    if others:
        asked = (other(images) for other in others)
        sources["models"] = over_models(chain([answer], asked))
    found = {("one answer", "entropy"): predictive_entropy(answer)[..., 0]}
    for source, uncertainty in sources.items():
        found[source, "entropy"] = uncertainty.entropy[..., 0]
        found[source, "deviation"] = uncertainty.deviation[..., 0]
    return found


def _probability(trained: TrainedModel, structure: str, images: np.ndarray) -> np.ndarray:
    """Of one structure, float32 (n, s, s, 1), in pictures float32 (n, s, s, C), 0 to 1."""
    channel = trained.structures.index(structure)
    answers = predict_batches(trained.network, images * np.float32(255))
    parts = [answer[..., channel : channel + 1].clip(0, 1) for answer in answers]
    return np.concatenate([np.zeros((0, *images.shape[1:-1], 1), np.float32), *parts])


def _distance_to_outline(masks: np.ndarray) -> np.ndarray:
    """Pixels from the outline of each mask, float32 (n, s, s), inside as outside: 0.5 on either side of it.

    The masks hold something each.
    """
    distances = [distance_transform_edt(mask) + distance_transform_edt(~mask) for mask in masks]
    return np.reshape(distances, masks.shape).astype(np.float32) - np.float32(0.5)


def _evenly(slices: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of them, evenly spread."""
    if len(slices) <= count:
        return slices
    return slices[np.linspace(0, len(slices) - 1, count).round().astype(int)]
