"""The cascades of systems E, G, H, I and J as lists of steps, and what puts their trained parts together."""

from __future__ import annotations

import json
from pathlib import Path

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
