"""A trained classifier of superpixels, saved as a folder and loaded again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import keras

from livseg_lib.descriptions import between, list_of, record, require_equal
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.superpixel_candidates import CandidateRecipe
from livseg_lib.preprocessing.patches import PatchRecipe
from livseg_lib.sampling.patch_batches import KINDS
from livseg_lib.training.network_folder import (
    COMMON,
    MM,
    SHARE,
    TrainedNetwork,
    read_network,
    write_network,
)

SCHEMA = record(
    {
        "kinds": {"const": list(KINDS)},
        "threshold": SHARE,
        "candidates": record(
            {"scales_mm": list_of(MM, 1, 16)},
            {"least_contrast_hu": between(-4096, 4096), "most_a_scale": between(1, 100000, "integer")},
        ),
        "patch": record(
            {
                "size_mm": list_of(MM, 3, 3),
                "voxels": list_of(between(1, 256, "integer"), 3, 3),
                "widths_hu": list_of(between(1, 65536), 1, 16),
            }
        ),
    }
)


@dataclass(frozen=True)
class TrainedClassifier(TrainedNetwork):
    """A network that tells tumour from liver, with all that its use needs to know (system J)."""

    candidates: CandidateRecipe
    """Which superpixels it is asked about."""
    patch: PatchRecipe
    """What it is shown of each."""
    threshold: float
    """Mean probability over a voxel's superpixels from which it is tumour, chosen on validation patients."""
    training: dict = field(default_factory=dict)
    """What it was trained on and how long: data set, patients, seconds, epochs."""


def save_classifier(trained: TrainedClassifier, folder: Path) -> Path:
    """Write the folder (see `network_folder`)."""
    own = {
        "kinds": list(KINDS),
        "threshold": trained.threshold,
        "candidates": trained.candidates.to_dict(),
        "patch": trained.patch.to_dict(),
    }
    return write_network(folder, trained, own)


def load_classifier(folder: Path) -> TrainedClassifier:
    """Rebuild what `save_classifier` wrote. Raises InputError where the folder is not whole."""
    trained = read_network(folder, SCHEMA, _build, _describe, "a livseg classifier of superpixels")
    shape = (*trained.patch.voxels, trained.patch.channels)
    require_equal(tuple(trained.network.input_shape[1:]), shape, "patches of", folder)
    require_equal(trained.network.output_shape[-1], len(KINDS), "kinds:", folder)
    return trained


def _build(description: dict) -> keras.Model:
    shape, kinds = description["input_shape"], description["kinds"]
    return build_classifier(description["architecture"], shape, len(kinds), **description["options"])


def _describe(description: dict, network: keras.Model) -> TrainedClassifier:
    kept = (*COMMON, "threshold")
    return TrainedClassifier(
        network=network,
        candidates=CandidateRecipe.from_dict(description["candidates"]),
        patch=PatchRecipe.from_dict(description["patch"]),
        **{name: description[name] for name in kept},
    )
