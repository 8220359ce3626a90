"""How published studies deal slices to folds. HERE ONLY TO SHOW WHAT SUCH A SPLIT DOES.

DO NOT JUDGE A SYSTEM BY THIS. A split by slice puts slices of one patient on both sides, and neighbours
look alike: the network is examined on what it was taught. Systems are split by `sampling.splits`, which
never looks at a slice; only the audit of the split (notebook 21) deals slices, to measure that error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from livseg_lib.errors import InputError
from livseg_lib.labels import STRUCTURES
from livseg_lib.runs import derived_seed


@dataclass(frozen=True)
class Protocol:
    """One way to judge a network by its slices."""

    name: str
    deals: str
    """"slice": slices go to folds one by one; "patient": all slices of a patient go together."""
    positives_only: bool
    """Learns and publishes on slices that show the structure alone, as system C does."""


@dataclass(frozen=True)
class Fold:
    """One training and the slices that it has not seen; rows have `is_positive`."""

    training: pd.DataFrame
    held_out: pd.DataFrame


def audit_protocols(slices: pd.DataFrame, structure: str) -> tuple[Protocol, ...]:
    """Both ways to deal, each with all slices and with positive ones alone (system C's comes first).

    Where every slice shows the structure those are the same, and two protocols are left.
    """
    word = "tumour" if structure == STRUCTURES[1] else structure
    every = [Protocol(deals, deals, False) for deals in ("slice", "patient")]
    if slices["is_positive"].all():
        return tuple(every)
    only = [Protocol(f"{deals}, {word} only", deals, True) for deals in ("slice", "patient")]
    return only[0], every[0], only[1], every[1]


def mark_positives(slices: pd.DataFrame, structure: str) -> pd.DataFrame:
    """`slices` with `is_positive`: whether they show any of `structure` in the scan's own labels."""
    return slices.assign(is_positive=slices[f"{structure}_pixels"].to_numpy(dtype=int) > 0)


def deal_protocols(
    slices: pd.DataFrame, protocols: Sequence[Protocol], folds: int, seed: int
) -> dict[str, list[Fold]]:
    """Protocol -> its folds. Each holds every slice of `slices` out once, whatever it trains on.

    Slices are dealt once a way of dealing. Chance and the size of patients make the parts differ a little:
    every training keeps as many positive slices as the smallest has, and as many negative ones, drawn by
    the seed. So protocols that choose alike train on equally many slices.
    """
    dealt = {deals: deal_to_folds(slices, deals, folds, seed) for deals in ("slice", "patient")}
    counts = [
        np.bincount(slices["is_positive"][fold_of != fold], minlength=2)
        for fold_of in dealt.values()
        for fold in range(folds)
    ]
    negatives, positives = np.min(counts, axis=0)
    found: dict[str, list[Fold]] = {}
    for protocol in protocols:
        wanted = {True: positives, False: 0 if protocol.positives_only else negatives}
        found[protocol.name] = [
            Fold(
                draw(slices[dealt[protocol.deals] != fold], wanted, derived_seed(seed, protocol.deals, fold)),
                slices[dealt[protocol.deals] == fold],
            )
            for fold in range(folds)
        ]
    return found


def deal_to_folds(slices: pd.DataFrame, deals: str, folds: int, seed: int) -> np.ndarray:
    """The fold of each row, int (n,): shuffled and cut, positive slices spread evenly.

    By "patient" as evenly as whole patients allow. Raises InputError for fewer than two folds, or fewer
    positive slices or patients than folds.
    """
    positive = slices["is_positive"].to_numpy()
    enough = min(positive.sum(), slices["patient"][positive].nunique())
    if folds < 2 or enough < folds:
        problem = f"are {folds}, with {enough} patients that show the structure."
        raise InputError("audit folds", problem, "Give 2 or more, and no more than there are such patients.")
    rng = int(seed) % 2**32
    if deals == "patient":
        parts = StratifiedGroupKFold(folds, shuffle=True, random_state=rng).split(
            slices, positive, slices["patient"]
        )
    else:
        parts = StratifiedKFold(folds, shuffle=True, random_state=rng).split(slices, positive)
    fold_of = np.empty(len(slices), int)
    for fold, (_, held_out) in enumerate(parts):
        fold_of[held_out] = fold
    return fold_of


def draw(slices: pd.DataFrame, wanted: dict[bool, int], seed: int) -> pd.DataFrame:
    """So many positive (True) and negative (False) rows, without replacement, in their order.

    The positive ones are the same however many negative ones are wanted.
    """
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(slices["is_positive"] == kind))[: wanted[kind]]
        for kind in (True, False)
    ]
    return slices.iloc[np.sort(np.concatenate(rows))]


def nearest_training_slice(held_out: pd.DataFrame, training: pd.DataFrame) -> np.ndarray:
    """For each held-out row the row number in `training` of the nearest slice of the same patient.

    int (n,), -1 where the patient has none. Nearest in `slice` numbers within one `case`.
    """
    nearest = np.full(len(held_out), -1)
    cases, numbers = training["case"].to_numpy(), training["slice"].to_numpy(dtype=int)
    for case, rows in held_out.reset_index(drop=True).groupby("case"):
        own = np.flatnonzero(cases == case)
        if len(own):
            distance = np.abs(rows["slice"].to_numpy(dtype=int)[:, None] - numbers[own])
            nearest[rows.index] = own[distance.argmin(axis=1)]
    return nearest
