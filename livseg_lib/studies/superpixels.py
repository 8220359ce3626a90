"""System J's classifier of superpixels: trained, checked, looked at.

What the superpixel classifier of system J learns from (Bai et al. 2019).

training     candidates inside their livers: the superpixels that are tumour, and some that are not
validation   theirs tell the best epoch; `paint_cases` asks the classifier about all of them
test         is not read here

System J's classifier on validation patients: its threshold, its ceiling, and what the contour adds.

System J in pictures: superpixels on a slice, patches, one tumour before and after the contour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.evaluation.probabilities import ProbabilityHistogram, choose_threshold, is_predicted
from livseg_lib.inference.cascade import ContourPart, paint_levels, tumor_probabilities, with_tumors
from livseg_lib.inference.predict import stored_labels, stored_pictures
from livseg_lib.labels import TUMOR, structure_mask
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.components import largest_component
from livseg_lib.postprocessing.superpixels import (
    TUMOR_SHARE,
    CandidateRecipe,
    PatchExtraction,
    PatchRecipe,
    extract_patches,
    find_candidates,
    tumor_shares,
)
from livseg_lib.preprocessing.geometry import case_around_liver
from livseg_lib.preprocessing.windows import WINDOWS, apply_window
from livseg_lib.reporting.studies.superpixels import PatchPicture
from livseg_lib.runs import derived_seed
from livseg_lib.sampling.blocks import KINDS, PatchBatches
from livseg_lib.sampling.splits import select_slices
from livseg_lib.systems import CASCADES, MARGIN_MM
from livseg_lib.training.fit import ClassAccuracy, FitSettings, Stage, fit
from livseg_lib.training.model_folder import TrainedClassifier
from livseg_lib.volumes import Volume

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


@dataclass(frozen=True, eq=False)
class PaintedCase:
    """One case around its true liver, with what the classifier says of it."""

    case: Case
    volume: Volume
    truth: np.ndarray
    """Labels 0/1/2, uint8 (D, H, W)."""
    levels: np.ndarray
    """Probability of tumour times 255, uint8 (D, H, W)."""
    faultless: np.ndarray
    """The same, were the classifier always right: what superpixels can tell at best."""

    def labels_at(self, threshold: float) -> np.ndarray:
        """Labels 0/1/2 of what it finds from this probability on."""
        return with_tumors(structure_mask(self.truth, "liver"), is_predicted(self.levels, threshold))


def paint_cases(trained: TrainedClassifier, cases: Sequence[Case]) -> Iterator[PaintedCase]:
    """Each case in its turn, so that one is in memory. Raises InputError for one without liver."""
    for case in region_cases(cases):
        volume = case.read_volume()
        truth = case.read_labels(volume)
        liver, tumor = (structure_mask(truth, structure) for structure in ("liver", "tumor"))
        candidates = find_candidates(volume, liver, trained.candidates)
        found = tumor_probabilities(trained, volume, liver, candidates)
        is_tumor = (tumor_shares(candidates, tumor) >= TUMOR_SHARE).astype(np.float32)
        levels, faultless = (paint_levels(candidates, values, liver.shape) for values in (found, is_tumor))
        yield PaintedCase(case, volume, truth, levels, faultless)


def choose_superpixel_threshold(trained: TrainedClassifier, cases: Sequence[Case]) -> float:
    """The threshold with the best mean Dice over validation cases, inside their true livers."""
    histograms = []
    for painted in paint_cases(trained, cases):
        histogram = ProbabilityHistogram()
        histogram.add(painted.levels, structure_mask(painted.truth, "tumor"))
        histograms.append(histogram)
    return choose_threshold(histograms)


def contour_of_system() -> ContourPart:
    """The active contour as system J uses it."""
    [plan] = [plan for plan in CASCADES["cascade_superpixels"] if plan.part == "contour"]
    return ContourPart(float(plan.using))


def contour_effect(trained: TrainedClassifier, cases: Sequence[Case]) -> pd.DataFrame:
    """A row a case: patient, case, tumor_ml, and the tumours' Dice inside the true liver: `faultless_dice`
    (a classifier that is always right, from 0.5 on), `dice_before` and `dice_after` the contour.

    NaN where there is no tumour and none is found.
    """
    contour, rows = contour_of_system(), []
    for painted in paint_cases(trained, cases):
        tumor, before = structure_mask(painted.truth, "tumor"), painted.labels_at(trained.threshold)
        masks = {
            "faultless_dice": is_predicted(painted.faultless, 0.5),
            "dice_before": structure_mask(before, "tumor"),
            "dice_after": structure_mask(contour(painted.volume, before), "tumor"),
        }
        row = {"patient": painted.case.patient, "case": painted.case.case_id}
        row["tumor_ml"] = tumor.sum() * painted.volume.voxel_volume_ml
        rows.append(row | {name: float(dice(overlap_counts(mask, tumor))) for name, mask in masks.items()})
    return pd.DataFrame(rows)


WINDOW = WINDOWS["liver_narrow"]
FIELD_MARGIN_MM = 15.0
"""Shown around a tumour."""


def superpixel_view(recipe: CandidateRecipe, case: Case, trained: TrainedClassifier | None = None) -> dict:
    """What `reporting.studies.superpixels.superpixel_scales` draws: the slice with most tumour, or liver.

    Candidates have the value 1, or the probability that `trained` gives them.
    """
    [case] = region_cases([case])
    volume = case.read_volume()
    truth = case.read_labels(volume)
    liver = structure_mask(truth, "liver")
    index = int((truth == truth.max()).sum(axis=(1, 2)).argmax())
    candidates = find_candidates(volume, liver, recipe)
    values = np.ones(len(candidates.table))
    if trained is not None:
        values = tumor_probabilities(trained, volume, liver, candidates)
    return {
        "grey": apply_window(volume.voxels[index], WINDOW),
        "labels": truth[index],
        "candidates": candidates,
        "values": values,
        "index": index,
    }


def patch_pictures(
    patches: pd.DataFrame, folder: Path, depth: int, each: int, seed: int
) -> list[PatchPicture]:
    """Up to `each` patches of tumour, then of liver, drawn by `seed`: the slice with most superpixel."""
    pictures = []
    for kind in ("tumor", "liver"):
        rows = patches[patches.region == kind]
        for row in rows.sample(min(each, len(rows)), random_state=seed).itertuples():
            slices = slice(row.array_index, row.array_index + depth)
            labels = np.asarray(stored_labels(folder, row.array)[slices])
            index = int((labels == TUMOR).sum(axis=(1, 2)).argmax())
            grey = np.asarray(stored_pictures(folder, row.array)[slices][index, ..., 0])
            title = f"{kind.replace('tumor', 'tumour')}, {row.scale_mm:g} mm"
            pictures.append(PatchPicture(grey, labels[index], title))
    return pictures


def contour_views(
    trained: TrainedClassifier, case: Case
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The slice that shows most of the tumour found, cut out around it: grey uint8 (h, w), true labels
    (h, w), and the labels before and after the contour, of tumours alone.

    Of the largest tumour where nothing is found. Raises InputError where there is no tumour.
    """
    [painted] = paint_cases(trained, [case])
    before = painted.labels_at(trained.threshold)
    after = contour_of_system()(painted.volume, before)
    tumor = structure_mask(painted.truth, "tumor")
    if not tumor.any():
        raise InputError(case.case_id, "has no tumour to look at.", "Choose a patient with one.")
    shown = largest_component(tumor & structure_mask(before, "tumor"))
    shown = shown if shown.any() else largest_component(tumor)
    index = int(shown.sum(axis=(1, 2)).argmax())
    cut = (index, *_square_around(shown[index], painted.volume.spacing_mm[1:]))
    grey = apply_window(painted.volume.voxels[cut], WINDOW)
    truth, before, after = (
        np.where(labels[cut] == TUMOR, labels[cut], 0) for labels in (painted.truth, before, after)
    )
    return grey, truth, {"superpixels": before, "active contour": after}


def _square_around(mask: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns of a square around `mask` (H, W), as far as the picture goes."""
    places = [indices * step for indices, step in zip(np.nonzero(mask), spacing_mm, strict=True)]
    half_mm = max(np.ptp(place) for place in places) / 2 + FIELD_MARGIN_MM
    middles = [(place.min() + place.max()) / 2 for place in places]
    return tuple(
        slice(max(0, int((middle - half_mm) / step)), int((middle + half_mm) / step) + 1)
        for middle, step in zip(middles, spacing_mm, strict=True)
    )
