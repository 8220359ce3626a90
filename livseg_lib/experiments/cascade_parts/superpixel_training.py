"""What the superpixel classifier of system J learns from (Bai et al. 2019).

training     candidates inside their livers: the superpixels that are tumour, and some that are not
validation   theirs tell the best epoch; `superpixel_checks` asks the classifier about all of them
test         is not read here
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.experiments.cascade_parts.cascades import MARGIN_MM
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.superpixel_candidates import CandidateRecipe
from livseg_lib.postprocessing.superpixel_extraction import PatchExtraction, extract_patches
from livseg_lib.preprocessing.patches import PatchRecipe
from livseg_lib.preprocessing.region import case_around_liver
from livseg_lib.runs import derived_seed
from livseg_lib.sampling.patch_batches import KINDS, PatchBatches
from livseg_lib.sampling.selection import select_slices
from livseg_lib.training.classifier_folder import TrainedClassifier
from livseg_lib.training.fit import FitSettings, Stage, fit
from livseg_lib.training.metrics import ClassAccuracy

PART = "superpixel_classifier"
"""Its name, and that of its folder."""


@dataclass(frozen=True)
class ClassifierPlan:
    """All that decides about a classifier, besides its patients."""

    stages: tuple[Stage, ...]
    options: dict = field(default_factory=dict)
    """Of the network `architecture`."""
    architecture: str = "fractal3d"
    candidates: CandidateRecipe = field(default_factory=CandidateRecipe)
    patch: PatchRecipe = field(default_factory=PatchRecipe)
    most_of_a_kind: int = 100
    """Patches of tumour, and of liver, that a patient gives at most."""
    most_growth_mm: float = 3.0
    """The true livers are grown by up to so much, at random: those in use are not exact either."""
    negative_ratio: float = 2.0
    """Patches of liver for each one of tumour, over all patients."""
    batch_size: int = 32
    patches_per_epoch: int | None = None
    """A smaller set comes round again; None takes each patch once."""
    augmentation: str = "basic"
    schedule: str = "cosine"
    seed: int = 0
    """Root seed of the run."""

    @property
    def extraction(self) -> PatchExtraction:
        """What is cut from a patient."""
        seed = derived_seed(self.seed, PART, "patches")
        return PatchExtraction(self.candidates, self.patch, self.most_of_a_kind, self.most_growth_mm, seed)

    def choose(self, patches: pd.DataFrame, purpose: str) -> pd.DataFrame:
        """All patches of tumour, and of liver as many as the ratio says. InputError where none is tumour."""
        return select_slices(patches, "tumor", self.negative_ratio, derived_seed(self.seed, purpose))

    def batches(self, patches: pd.DataFrame, folder: Path, training: bool) -> PatchBatches:
        """Augmented and in random order for a training; as they are, each once, for its validation."""
        settings = {"shuffle": False}
        if training:
            settings = {"augmentation": self.augmentation, "slices_per_epoch": self.patches_per_epoch}
            settings["seed"] = derived_seed(self.seed, PART)
        return PatchBatches(patches, folder, self.patch.voxels[0], self.batch_size, **settings)


def region_cases(cases: Sequence[Case]) -> list[Case]:
    """The cases as the cascade's step sees them, but around the true liver. Each has to have one."""
    return [case_around_liver(case, "box", MARGIN_MM) for case in cases]


def extract_split(
    cases: Sequence[Case], split: pd.Series, plan: ClassifierPlan, folder: Path, workers: int = 2
) -> pd.DataFrame:
    """Patches of the cases whose `split`, by case id, is train or validation, with that as a column.

    Cases without liver must have no `split`.
    """
    usable = [case for case in cases if split.get(case.case_id) in ("train", "validation")]
    patches = extract_patches(region_cases(usable), plan.extraction, folder, workers)
    return patches.assign(split=patches["case"].map(split))


def train_classifier(
    plan: ClassifierPlan, patches: pd.DataFrame, folder: Path, checkpoints: Path, run_name: str
) -> tuple[TrainedClassifier, pd.DataFrame]:
    """Train on the patches of training patients; resumes from `checkpoints`. With a row an epoch.

    The best epoch is that of the lowest loss on validation patients, or training ones where no validation
    patient has a tumour. The threshold is 0.5 until it is chosen.
    """
    chosen = plan.choose(patches[patches.split == "train"], "train")
    checked = patches[patches.split == "validation"]
    training, validation = plan.batches(chosen, folder, training=True), None
    if (checked.region == "tumor").any():
        validation = plan.batches(plan.choose(checked, "validation"), folder, training=False)
    keras.utils.set_random_seed(derived_seed(plan.seed, PART, "weights"))
    network = build_classifier(plan.architecture, training.input_shape, len(KINDS), **plan.options)
    history = fit(
        network,
        training,
        validation,
        lambda: [ClassAccuracy(name="accuracy")],
        FitSettings(plan.stages, "cross_entropy", schedule=plan.schedule),
        checkpoints,
        asdict(plan),
    )
    facts = {
        "run": run_name,
        "n_train_patients": int(chosen.patient.nunique()),
        "n_patches": len(chosen),
        "n_tumor_patches": int((chosen.region == "tumor").sum()),
        "epochs": len(history),
        "seconds": float(history.seconds.sum()),
        "peak_memory_mb": int(history.memory_mb.max()),
        "made_by": history.attrs["made_by"],
    }
    what = (PART, plan.architecture, plan.options, network, plan.candidates, plan.patch)
    return TrainedClassifier(*what, threshold=0.5, training=facts), history
