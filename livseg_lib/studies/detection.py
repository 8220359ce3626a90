"""System A: does this picture show a tumour? A segmentation network, asked picture by picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation.probabilities import (
    PresenceRule,
    choose_presence_rule,
    is_predicted,
    presence_levels,
    presence_scores,
)
from livseg_lib.evaluation.statistics import mean_with_interval
from livseg_lib.inference.predict import predict_planes, stored_labels, stored_pictures
from livseg_lib.runs import derived_seed
from livseg_lib.systems import published_rows
from livseg_lib.training.model_folder import TrainedModel

AREAS = (1, 4, 8, 16, 32, 64)
"""Smallest areas to choose from, pixels of a picture of 128 x 128."""
ANSWERS = {True: "tumour", False: "no tumour"}


def candidate_areas(size: int) -> tuple[int, ...]:
    """AREAS in pixels of a picture of `size` x `size`: the same share of it."""
    return tuple(max(round(area * (size / 128) ** 2), 1) for area in AREAS)


def choose_detector(trained: TrainedModel, validation: pd.DataFrame, folder: Path) -> PresenceRule:
    """The rule with the best balanced accuracy on all slices of the validation patients.

    `validation` are classified slices (`case`, `array_index`, `class`), their arrays lie in `folder`.
    Raises InputError where `trained` outlines no tumours, or validation slices are all of one kind.
    """
    areas = candidate_areas(trained.recipe.size)
    levels, truth = _levels(trained, validation, folder, areas), _shows_tumor(validation)
    return choose_presence_rule(levels, truth, areas)


def detect(trained: TrainedModel, rule: PresenceRule, slices: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """`slices` (as of `choose_detector`) with `truth` and `predicted` (bool), and `probability`: the highest
    threshold at which the rule's area would still be reached, 0 to 1."""
    levels = _levels(trained, slices, folder, (rule.smallest_area,))[:, 0]
    return slices.assign(
        truth=_shows_tumor(slices),
        predicted=is_predicted(levels, rule.threshold),
        probability=levels / 255,
    )


def detection_row(system: str, rule: PresenceRule, answers: pd.DataFrame, seed: int) -> dict:
    """A row of detection.csv from what `detect` gave for the slices of one split; interval over patients."""
    predicted, truth = answers["predicted"].to_numpy(bool), answers["truth"].to_numpy(bool)
    bootstrap_seed = derived_seed(seed, "bootstrap")
    published = published_rows().query("source == 'A' and metric == 'overall_accuracy'").iloc[0]
    scores = presence_scores(predicted, truth)
    del scores["accuracy"]
    return {
        "system": system,
        "source": "A",
        "split": answers["split"].iloc[0],
        "n_patients": answers["patient"].nunique(),
        "n_pictures": scores.pop("n_pictures"),
        **mean_with_interval("accuracy", predicted == truth, answers["patient"], True, seed=bootstrap_seed),
        "majority_share": scores.pop("majority_share"),
        "published_accuracy": published["value"],
        **scores,
        "threshold": rule.threshold,
        "smallest_area_pixels": rule.smallest_area,
    }


def examples(
    answers: pd.DataFrame, folder: Path, each: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Pictures for `contact_sheet`: up to `each` of every kind of right and wrong answer, drawn by `seed`."""
    for truth, predicted in ((True, True), (True, False), (False, True), (False, False)):
        kind = answers[(answers["truth"] == truth) & (answers["predicted"] == predicted)]
        drawn = kind.sample(min(each, len(kind)), random_state=derived_seed(seed, "examples"))
        for row in drawn.sort_values("probability", ascending=False).itertuples():
            grey = stored_pictures(folder, row.case)[row.array_index, ..., 0]
            verdict = "right" if truth == predicted else "wrong"
            title = f"{verdict}: {'tumour' if predicted else 'none'} ({row.probability:.2f})"
            yield np.asarray(grey), np.asarray(stored_labels(folder, row.case)[row.array_index]), title


def _shows_tumor(slices: pd.DataFrame) -> np.ndarray:
    """By the scan's own grid: a tumour too small for the picture's pixels is a tumour still."""
    return slices["class"].to_numpy(dtype=int) == 2


def _levels(trained: TrainedModel, slices: pd.DataFrame, folder: Path, areas: tuple[int, ...]) -> np.ndarray:
    """`presence_levels` of the tumour map for each row of `slices`, a case in memory at a time."""
    if "tumor" not in trained.structures:
        problem = f"outlines {' and '.join(trained.structures)} only."
        raise InputError(trained.system, problem, "Train it with the target tumor or both.")
    channel = trained.structures.index("tumor")
    levels = np.zeros((len(slices), len(areas)), np.uint8)
    rows_of_case = slices.reset_index(drop=True).groupby("case", sort=False)
    for case_id, rows in rows_of_case:
        pictures = stored_pictures(folder, case_id)
        chosen = (pictures[index] for index in rows["array_index"])
        levels[rows.index] = presence_levels(predict_planes(trained.network, chosen)[..., channel], areas)
    return levels
