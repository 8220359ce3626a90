"""The cascades of systems E, G, H, I and J as lists of steps, and what puts their trained parts together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.evaluation.published import published_rows
from livseg_lib.inference import Evaluation, lits_rows
from livseg_lib.inference.cascade import Cascade
from livseg_lib.inference.cascade_folder import LEARNT, StepPlan, load_cascade, save_cascade
from livseg_lib.paths import RunFolders

MARGIN_MM = 15.0
"""Around the liver found so far: more than a coarse outline is wrong by."""

COARSE_LIVER = (
    StepPlan("coarse liver", "network", "coarse_liver"),
    StepPlan("its largest piece", "finish", "keep_largest_liver"),
)

CASCADES: dict[str, tuple[StepPlan, ...]] = {
    # E: a 3D U-Net on the slices that show liver, by blocks
    "unet3d": (
        *COARSE_LIVER,
        StepPlan("blocks of slices", "network", "unet3d_blocks", "slices", MARGIN_MM),
        StepPlan("largest liver", "finish", "keep_largest_liver"),
    ),
    # G: coarse liver, then liver and lesions from neighbouring slices of its surroundings
    "cascade_25d": (
        *COARSE_LIVER,
        StepPlan("fine liver and lesions", "network", "residual_25d", "box", MARGIN_MM),
        StepPlan("largest liver", "finish", "keep_largest_liver"),
    ),
    # H: liver, tumours inside it, a random forest against false alarms
    "cascade_forest": (
        StepPlan("liver", "network", "unet"),
        StepPlan("its largest piece", "finish", "keep_largest_liver"),
        StepPlan("tumours", "network", "unet_lesions", "box", MARGIN_MM),
        StepPlan("forest", "forest", "candidate_forest", "box", MARGIN_MM),
    ),
    # I: coarse liver, fine liver, tumours with the liver as a further channel
    "cascade_cdnn": (
        *COARSE_LIVER,
        StepPlan("fine liver", "network", "cdnn_liver", "box", MARGIN_MM),
        StepPlan("largest liver", "finish", "keep_largest_liver"),
        StepPlan("tumours", "network", "cdnn_tumor", "box", MARGIN_MM),
    ),
    # J: liver in 3D, superpixels told apart by a classifier, outlines drawn to the edges
    "cascade_superpixels": (
        *COARSE_LIVER,
        StepPlan("liver in blocks", "network", "unet3d_blocks", "slices", MARGIN_MM),
        StepPlan("largest liver", "finish", "keep_largest_liver"),
        StepPlan("superpixels", "superpixels", "superpixel_classifier", "box", MARGIN_MM),
        StepPlan("active contour", "contour", "3", "box", MARGIN_MM),
    ),
}
"""System -> its steps. A new cascade is a new entry; its learnt parts lie in `models/<using>/` of the run."""


def assemble_cascade(system: str, folders: RunFolders) -> Cascade:
    """Copy the run's trained parts of `CASCADES[system]` into `models/<system>/` and load it from there."""
    plans = CASCADES[system]
    sources = {plan.using: folders.model(plan.using) for plan in plans if plan.part in LEARNT}
    training = training_of_parts(list(sources.values()))
    return load_cascade(save_cascade(folders.model(system), system, plans, sources, training))


def training_of_parts(parts: list[Path]) -> dict:
    """What the tables say of a cascade's training: the most patients of a part, the seconds of all."""
    facts = [_training(part) for part in parts]
    return {
        "n_train_patients": max(each["n_train_patients"] for each in facts),
        "seconds": sum(each["seconds"] for each in facts),
        "parts": {part.name: each for part, each in zip(parts, facts, strict=True)},
    }


def _training(part: Path) -> dict:
    name = "model.json" if (part / "model.json").exists() else "forest.json"
    return json.loads((part / name).read_text())["training"]


def cascade_row(cascade: Cascade, evaluation: Evaluation) -> dict:
    """A row of cascades.csv: what a volume takes in seconds, and how far the tumour burden is off.

    Seconds are those of all steps in memory, reading and scoring left out; the burden's error (system I) is
    NaN where the cascade finds no tumours.
    """
    seconds = pd.DataFrame(evaluation.patients).groupby("case")["predict_seconds"].first()
    burden = {row["structure"]: row for row in lits_rows(cascade, evaluation)}.get("tumor", {})
    published = published_rows().query("source == 'I'").set_index("metric")["value"]
    is_i = cascade.system == "cascade_cdnn"
    return {
        "system": cascade.system,
        "steps": len(cascade.steps),
        "seconds_a_volume": seconds.mean(),
        "slowest_seconds": seconds.max(),
        "published_seconds": published["seconds_per_volume"] if is_i else np.nan,
        "tumor_burden_rmse": burden.get("tumor_burden_rmse", np.nan),
        "published_burden_rmse": published["tumor_burden_rmse"] if is_i else np.nan,
        "cases_without_liver_found": sum(
            row["liver_prediction_voxels"] == 0 for row in evaluation.case_scores
        ),
    }
