"""Does disagreement of models tell where errors are? A patient, a tumour and a slice at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, rankdata, spearmanr
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.structure_dice import structure_dice
from livseg_lib.experiments.finishing.majority_vote import MajorityVote
from livseg_lib.inference.agreement import disagreement, majority_vote, volume_agreement
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.postprocessing.components import label_components
from livseg_lib.volumes import Volume

LESION_COLUMNS = ("patient", "case", "lesion", "volume_ml", "agreement", "is_true")


@dataclass(frozen=True)
class UncertainSlice:
    """A slice on which models disagree about tumours; all arrays are (H, W)."""

    case: str
    index: int
    """From the feet."""
    voxels: np.ndarray
    """int16 HU."""
    disagreement: np.ndarray
    """Share of the models in the minority, float32, 0 to 0.5."""
    reference: np.ndarray
    vote: np.ndarray

    @property
    def amount(self) -> float:
        """Disagreement of all its pixels."""
        return float(self.disagreement.sum())


@dataclass(frozen=True)
class AgreementStudy:
    """What `study_agreement` found."""

    patients: pd.DataFrame
    """A row a case and structure: patient, case, structure, models, models_finding, volume_ml and
    volume_ml_std (over the models), reference_ml, vote_ml, pairwise_dice, vote_dice."""
    lesions: pd.DataFrame
    """A row a tumour of the vote: LESION_COLUMNS. `agreement` is the mean share of models over its voxels,
    above 0.5 to 1; `is_true`: it touches a true tumour."""
    most_uncertain: UncertainSlice
    """The slice of all cases with most disagreement about tumours."""


def study_agreement(vote: MajorityVote, cases: Sequence[Case]) -> AgreementStudy:
    """Compare the vote's members with each other and with the truth; predictions come from disk."""
    patients, lesions, slices = [], [], []
    for case in tqdm(list(cases), "agreement", unit="patient"):
        volume = case.read_volume()
        reference = case.read_labels(volume)
        volumes, box = vote.member_labels(case, volume, reference)
        whose = {"patient": case.patient, "case": case.case_id}
        truth, ml = reference[box], volume.voxel_volume_ml
        patients += [whose | row for row in structure_rows(volumes, truth, ml)]
        lesions += [whose | row for row in lesion_rows(volumes, truth, ml)]
        slices.append(_most_uncertain_slice(case, volume, reference, volumes, box))
    return AgreementStudy(
        pd.DataFrame(patients),
        pd.DataFrame(lesions, columns=LESION_COLUMNS),
        max(slices, key=lambda each: each.amount),
    )


def structure_rows(
    volumes: Sequence[np.ndarray], reference: np.ndarray, voxel_volume_ml: float
) -> list[dict]:
    """`AgreementStudy.patients` of one case; labels 0/1/2, uint8 (d, h, w), of one box."""
    vote = majority_vote(volumes)
    rows = volume_agreement(volumes, voxel_volume_ml).to_dict("records")
    for row, structure in zip(rows, STRUCTURES, strict=True):
        for name, labels in (("reference_ml", reference), ("vote_ml", vote)):
            row[name] = np.count_nonzero(structure_mask(labels, structure)) * voxel_volume_ml
        row["vote_dice"] = structure_dice(vote, reference, structure)
    return rows


def lesion_rows(volumes: Sequence[np.ndarray], reference: np.ndarray, voxel_volume_ml: float) -> list[dict]:
    """`AgreementStudy.lesions` of one case; labels 0/1/2, uint8 (d, h, w), of one box."""
    ids, count = label_components(structure_mask(majority_vote(volumes), "tumor"))
    inside = ids > 0
    numbers = ids[inside]
    votes = np.sum([structure_mask(labels, "tumor")[inside] for labels in volumes], axis=0)
    true = np.bincount(numbers, structure_mask(reference, "tumor")[inside], minlength=count + 1)
    voxels = np.bincount(numbers, minlength=count + 1)
    share = np.bincount(numbers, votes / len(volumes), minlength=count + 1)
    return [
        {
            "lesion": lesion,
            "volume_ml": voxels[lesion] * voxel_volume_ml,
            "agreement": share[lesion] / voxels[lesion],
            "is_true": bool(true[lesion]),
        }
        for lesion in range(1, count + 1)
    ]


def summarize_agreement(study: AgreementStudy, seed: int) -> pd.DataFrame:
    """How well agreement tells what is right: level, question, measure, value, p, n, n_undefined.

    "patient": Spearman's rank correlation of the mean pairwise tumour Dice with the vote's tumour Dice, p by
    permutation of the patients (two-sided). "lesion": ROC-AUC of `agreement` for true tumours; n counts
    tumours, which of one patient are alike, so that it has no p. NaN where it is undefined.
    """
    tumors = study.patients[study.patients.structure == "tumor"]
    pairs = tumors.groupby("patient")[["pairwise_dice", "vote_dice"]].mean()
    defined, lesions = pairs.dropna(), study.lesions
    value, p = _rank_correlation(defined.pairwise_dice.to_numpy(), defined.vote_dice.to_numpy(), seed)
    of_both_kinds = lesions.is_true.nunique() == 2
    auc = roc_auc_score(lesions.is_true.astype(bool), lesions.agreement) if of_both_kinds else np.nan
    return pd.DataFrame(
        [
            {
                "level": "patient",
                "question": "the more models agree, the better the vote?",
                "measure": "rank correlation",
                "value": value,
                "p": p,
                "n": len(defined),
                "n_undefined": len(pairs) - len(defined),
            },
            {
                "level": "lesion",
                "question": "the more models agree, the likelier a true tumour?",
                "measure": "ROC-AUC",
                "value": auc,
                "p": np.nan,
                "n": len(lesions),
                "n_undefined": 0,
            },
        ]
    )


def _rank_correlation(first: np.ndarray, second: np.ndarray, seed: int) -> tuple[float, float]:
    """Spearman's correlation and its two-sided p; NaN below three patients, or where one side is constant."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan, np.nan
    order = np.lexsort([second, first])  # the order of patients decides nothing
    ranks, others = rankdata(first)[order], rankdata(second)[order]
    found = permutation_test(
        (ranks,),
        lambda shuffled, axis: np.sum(shuffled * (others - others.mean()), axis=axis),
        permutation_type="pairings",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(spearmanr(first, second).statistic), float(found.pvalue)


def _most_uncertain_slice(
    case: Case, volume: Volume, reference: np.ndarray, volumes: Sequence[np.ndarray], box: tuple
) -> UncertainSlice:
    unsure = disagreement(volumes, "tumor")
    place = int(unsure.sum(axis=(1, 2)).argmax()) if unsure.size else 0
    index = box[0].start + place
    whole = np.zeros(reference.shape[1:], np.float32)
    vote = np.zeros(reference.shape[1:], np.uint8)
    if unsure.size:
        whole[box[1:]] = unsure[place]
        vote[box[1:]] = majority_vote([labels[place : place + 1] for labels in volumes])[0]
    return UncertainSlice(
        case.case_id, index, volume.voxels[index].copy(), whole, reference[index].copy(), vote
    )
