"""Where systems agree, and their majority vote.

All systems of a run as one: a voxel is what more than half of them say; scored like any other system.

Does disagreement of models tell where errors are? A patient, a tumour and a slice at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, rankdata, spearmanr
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import Box, structure_dice
from livseg_lib.inference.evaluate import Evaluation, evaluate_labels
from livseg_lib.inference.variants import disagreement, majority_vote, volume_agreement
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.postprocessing.components import label_components
from livseg_lib.runs import RunFolders
from livseg_lib.studies.finishing import prediction_seconds, set_seconds, stored_labels
from livseg_lib.tables import read_table
from livseg_lib.volumes import Volume

SYSTEM = "majority_vote"


@dataclass(frozen=True)
class MajorityVote:
    """A system without a network of its own; tables take it as a `ScoredSystem`."""

    folders: RunFolders
    members: tuple[str, ...]
    """Systems whose predictions of the test patients lie on disk."""
    training: dict
    """The most training patients of a member, and the seconds of all."""
    parameters: int
    """Of all members; parts that they share are counted for each."""
    structures: tuple[str, ...] = STRUCTURES
    system: str = SYSTEM

    def predict(self, case: Case, volume: Volume) -> np.ndarray:
        """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`, from the members' predictions on disk."""
        volumes, box = self.member_labels(case, volume)
        labels = np.zeros(volume.voxels.shape, np.uint8)
        labels[box] = majority_vote(volumes)
        return labels

    def member_labels(self, case: Case, volume: Volume, *others: np.ndarray) -> tuple[list[np.ndarray], Box]:
        """What each member says, uint8 (d, h, w), in the smallest box with all labels, and that box.

        The box holds the labels of `others` (D, H, W) too. One whole prediction in memory at a time.
        """
        return stored_labels(self.folders, self.members, case, volume, *others)


def assemble_vote(folders: RunFolders, members: Sequence[str]) -> MajorityVote:
    """The vote of `members`, with what systems.csv tells of them. Raises InputError for less than three."""
    if len(members) < 3:
        problem = f"are no majority: {', '.join(members) or 'none'}."
        raise InputError("members", problem, "Train and evaluate at least three systems.")
    rows = read_table(folders.tables / "systems.csv").query("split_by == 'patient'")
    facts = rows[rows.system.isin(members)].groupby("system")
    training = {
        "n_train_patients": facts.n_train_patients.max().max(),
        "seconds": facts.train_seconds.max().sum(min_count=len(members)),
    }
    return MajorityVote(folders, tuple(members), training, int(facts.parameters.max().sum()))


def find_members(folders: RunFolders, cases: Sequence[Case]) -> list[str]:
    """Systems with a model that outline liver and tumour and were scored on all of `cases`.

    Baselines have no model; neither has an earlier vote.
    """
    wanted = {(case.case_id, structure) for case in cases for structure in STRUCTURES}
    patients = read_table(folders.tables / "patients.csv")
    return [
        system
        for system, rows in patients.groupby("system", sort=False)
        if wanted <= set(zip(rows.case.astype(str), rows.structure, strict=True))
        and (folders.model(system) / "model.json").exists()
    ]


def evaluate_vote(vote: MajorityVote, cases: Sequence[Case]) -> Evaluation:
    """`evaluate_labels` of the vote; seconds are those of all its members' predictions."""
    folders = vote.folders
    evaluation = evaluate_labels(vote, vote.predict, cases, folders.predictions(vote.system))
    patients = read_table(folders.tables / "patients.csv")
    seconds = pd.DataFrame(
        {name: prediction_seconds(patients[patients.system == name]) for name in vote.members}
    )
    set_seconds(evaluation, seconds.sum(axis=1, min_count=len(vote.members)))
    return evaluation


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
