"""What the superpixel classifier of system J learns from (Bai et al. 2019), and what it is worth.

training     candidates inside their livers: the superpixels that are tumour, and some that are not
validation   theirs tell the best epoch; asked about all of them, they choose the threshold
test         is not read here
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from skimage.segmentation import mark_boundaries

from livseg_lib.datasets.case import Case, read_each
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.evaluation.probabilities import ProbabilityHistogram, choose_threshold, is_predicted
from livseg_lib.inference.cascade import ContourPart, paint_levels, tumor_probabilities, with_tumors
from livseg_lib.labels import KINDS, TUMOR, fullest_slice, structure_mask
from livseg_lib.models import keras
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing import superpixels
from livseg_lib.preprocessing.geometry import case_around_liver
from livseg_lib.preprocessing.windows import WINDOWS, apply_window
from livseg_lib.reporting.pictures import Tile
from livseg_lib.runs import derived_seed
from livseg_lib.sampling.blocks import PatchBatches
from livseg_lib.sampling.splits import select_slices
from livseg_lib.systems import CASCADES, LIVER_MARGIN_MM
from livseg_lib.training.fit import ClassAccuracy, FitSettings, Stage, fit, training_facts
from livseg_lib.training.model_folder import TrainedClassifier
from livseg_lib.volumes import Volume

PART = "superpixel_classifier"  # its name, and that of its folder


@dataclass(frozen=True)
class ClassifierPlan:
    """All that decides about a classifier, besides its patients."""

    stages: tuple[Stage, ...]
    options: dict = field(default_factory=dict)  # of the network `architecture`
    architecture: str = "fractal3d"
    extraction: superpixels.PatchExtraction = field(default_factory=superpixels.PatchExtraction)
    negative_ratio: float = 2.0  # patches of liver for each one of tumour, over all patients
    batch_size: int = 32
    patches_per_epoch: int | None = None  # a smaller set comes round again; None takes each patch once
    augmentation: str = "basic"
    schedule: str = "cosine"
    seed: int = 0  # root seed of the run

    def choose(self, patches: pd.DataFrame, purpose: str) -> pd.DataFrame:
        """All patches of tumour, and of liver as many as the ratio says. InputError where none is tumour."""
        return select_slices(patches, "tumor", self.negative_ratio, derived_seed(self.seed, purpose))

    def batches(self, patches: pd.DataFrame, folder: Path, training: bool) -> PatchBatches:
        """Augmented and in random order for a training; as they are, each once, for its validation."""
        settings = {"shuffle": False}
        if training:
            settings = {"augmentation": self.augmentation, "slices_per_epoch": self.patches_per_epoch}
            settings["seed"] = derived_seed(self.seed, PART)
        return PatchBatches(patches, folder, self.extraction.patch.voxels[0], self.batch_size, **settings)


def _around_true_liver(case: Case) -> Case:
    """As the cascade's step sees it, but around the true liver, which it has to have."""
    return case_around_liver(case, "box", LIVER_MARGIN_MM)


def extract_split(
    cases: Sequence[Case], split: pd.Series, plan: ClassifierPlan, folder: Path, workers: int = 2
) -> pd.DataFrame:
    """Patches of the cases whose `split`, by case id, is train or validation, with that as a column.

    Cases without liver must have no `split`.
    """
    usable = [_around_true_liver(c) for c in cases if split.get(c.case_id) in ("train", "validation")]
    patches = superpixels.extract_patches(usable, plan.extraction, folder, workers)
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
    settings = FitSettings(plan.stages, "cross_entropy", schedule=plan.schedule)
    how = settings, checkpoints, asdict(plan)
    history = fit(network, training, validation, lambda: [ClassAccuracy(name="accuracy")], *how)
    facts = training_facts(chosen, history, settings, plan.batch_size, plan.patches_per_epoch)
    facts |= {"run": run_name, "n_tumor_patches": int((chosen.region == "tumor").sum())}
    described = PART, plan.architecture, plan.options, network
    asked = plan.extraction.candidates, plan.extraction.patch
    return TrainedClassifier(*described, *asked, threshold=0.5, training=facts), history


class PaintedCase(NamedTuple):
    """One case around its true liver, with what the classifier says of it."""

    case: Case
    volume: Volume
    truth: np.ndarray  # labels 0/1/2, uint8 (D, H, W)
    levels: np.ndarray  # probability of tumour times 255, uint8 (D, H, W)
    faultless: np.ndarray  # the same, were the classifier always right: what superpixels can tell at best


def paint_cases(trained: TrainedClassifier, cases: Sequence[Case]) -> Iterator[PaintedCase]:
    """Each case in its turn, so that one is in memory. Raises InputError for one without liver."""
    for case, volume, truth in read_each(map(_around_true_liver, cases), PART):
        liver, tumor = (structure_mask(truth, structure) for structure in ("liver", "tumor"))
        candidates = superpixels.dark_superpixels(volume, liver, trained.candidates)
        found = tumor_probabilities(trained, volume, liver, candidates)
        is_tumor = (superpixels.tumor_shares(candidates, tumor) >= superpixels.TUMOR_SHARE).astype(np.float32)
        levels, faultless = (paint_levels(candidates, values, liver.shape) for values in (found, is_tumor))
        yield PaintedCase(case, volume, truth, levels, faultless)


def choose_superpixel_threshold(trained: TrainedClassifier, cases: Sequence[Case]) -> float:
    """The threshold with the best mean Dice over validation cases, inside their true livers."""
    histograms = [ProbabilityHistogram() for _ in cases]
    for histogram, painted in zip(histograms, paint_cases(trained, cases), strict=True):
        histogram.add(painted.levels, structure_mask(painted.truth, "tumor"))
    return choose_threshold(histograms)


def contour_effect(trained: TrainedClassifier, cases: Sequence[Case]) -> pd.DataFrame:
    """patient, case, tumor_ml, and the tumours' Dice inside the true liver: `faultless_dice` (a classifier
    that is always right, from 0.5 on), `dice_before` and `dice_after` the contour of system J; NaN of two
    empty masks."""
    [step] = [plan for plan in CASCADES["cascade_superpixels"] if plan.part == "contour"]
    contour, rows = ContourPart(float(step.using)), []
    for case, volume, truth, levels, faultless in paint_cases(trained, cases):
        tumor = structure_mask(truth, "tumor")
        before = with_tumors(structure_mask(truth, "liver"), is_predicted(levels, trained.threshold))
        masks = {
            "faultless_dice": is_predicted(faultless, 0.5),
            "dice_before": structure_mask(before, "tumor"),
            "dice_after": structure_mask(contour(volume, before), "tumor"),
        }
        row = {"patient": case.patient, "case": case.case_id}
        row["tumor_ml"] = tumor.sum() * volume.voxel_volume_ml
        rows.append(row | {name: float(dice(overlap_counts(mask, tumor))) for name, mask in masks.items()})
    return pd.DataFrame(rows)


def superpixel_tiles(
    recipe: superpixels.CandidateRecipe, case: Case, trained: TrainedClassifier | None = None
) -> list[Tile]:
    """A picture a scale of the slice with most tumour, or liver: borders of superpixels, the tumour outlined.

    Candidates are tinted by 1, or by the probability that `trained` gives them.
    """
    case = _around_true_liver(case)
    volume = case.read_volume()
    truth = case.read_labels(volume)
    candidates, index = superpixels.dark_superpixels(volume, truth > 0, recipe), fullest_slice(truth)
    values = 1.0 if trained is None else tumor_probabilities(trained, volume, truth > 0, candidates)
    pictures = []
    for scale_mm, ids in candidates.ids.items():
        depth, *plane = candidates.box
        grey = apply_window(volume.voxels[index][tuple(plane)], WINDOWS["liver_narrow"])
        picture = mark_boundaries(grey, ids[index - depth.start], color=(0.6, 0.6, 0.6), mode="inner") * 255
        title = f"{scale_mm:g} mm, {ids.max()} superpixels"
        tint = superpixels.paint(candidates, values, scale_mm)[index - depth.start]
        labels = truth[index][tuple(plane)]
        only_tumor = np.where(labels == TUMOR, labels, 0)
        pictures.append(Tile(picture.astype(np.uint8), title, only_tumor, heat=tint))
    return pictures
