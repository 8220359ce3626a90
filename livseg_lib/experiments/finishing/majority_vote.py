"""All systems of a run as one: a voxel is what more than half of them say; scored like any other system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.arrays import Box
from livseg_lib.experiments.finishing.finished_systems import prediction_seconds, set_seconds
from livseg_lib.experiments.stored_labels import stored_labels
from livseg_lib.inference import Evaluation, evaluate_labels
from livseg_lib.inference.agreement import majority_vote
from livseg_lib.labels import STRUCTURES
from livseg_lib.paths import RunFolders
from livseg_lib.reporting import read_table
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
