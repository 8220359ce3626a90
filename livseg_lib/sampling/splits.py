"""Who is in training, validation and test: whole patients, in an editable file, and no leak goes unseen.

Splitting by slice (system C) puts slices of one patient on both sides and inflates every score: neighbours
look alike, so a network is examined on what it was taught. Systems are split by `split_patients`, which
never looks at a slice. `deal_protocols` deals slices as published studies do, for the audit of the split
(notebook 21) ALONE: do not judge a system by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from livseg_lib.errors import InputError
from livseg_lib.files import write_atomically
from livseg_lib.labels import STRUCTURES
from livseg_lib.preprocessing.extraction import read_text_table
from livseg_lib.runs import derived_seed

SPLITS = ("train", "validation", "test")
NO_FOLD = -1
"""The fold of test patients: cross-validation never sees them."""

_DEAL_ANEW = "Mend the file, or delete it to have all patients dealt anew."


def list_patients(slices: pd.DataFrame) -> pd.DataFrame:
    """One row a patient, `patient` (str) and `has_tumor` (bool), from diagnosed slices (column `class`)."""
    worst = slices["class"].groupby(slices["patient"].astype(str)).max()
    return pd.DataFrame({"patient": worst.index.astype(str), "has_tumor": worst.to_numpy(dtype=int) == 2})


def split_patients(
    patients: pd.DataFrame,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Deal patients to train, validation and test, and the first two to `folds` folds as well.

    `patients` has a row each, with `patient` and `has_tumor`. Returns `patient, has_tumor, split, fold`,
    sorted by patient; the order of the rows that came in changes nothing. No part is empty; but for that,
    sizes are less than a patient away from the fractions. Patients with tumour are spread in the same way,
    so that each part has one where there are three. `fold` is 0 to folds - 1 in train and validation (fewer
    folds where they hold fewer patients) and -1 in test. Raises InputError for fewer than 3 patients,
    a patient on two rows, or fractions that are not positive with sum 1.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not np.isclose(sum(fractions), 1.0):
        raise InputError("fractions", f"are {tuple(fractions)}.", "Give three positive numbers with sum 1.")
    if folds < 2:
        raise InputError("folds", f"is {folds}.", "Cross-validation needs at least 2.")
    table = _in_dealing_order(patients, seed)
    table["split"] = _deal_parts(len(table), fractions)
    return _with_folds(table, folds, seed)


def load_or_create_splits(
    path: Path,
    patients: pd.DataFrame,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """The splits in `path`, or new ones (`split_patients`), written there.

    A file that exists is respected, whatever the other arguments say: edit its `split` column freely. Its
    `fold` column may be deleted, and is then dealt anew. Raises InputError, saying what to mend, where the
    file does not hold every patient exactly once or leaves a part empty.
    """
    path = Path(path)
    if path.exists():
        return _read_splits(path, patients, folds, seed)
    splits = split_patients(patients, fractions, folds, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, splits.to_csv(index=False).encode())
    return splits


def attach_split(slices: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """`slices` with the `split` and `fold` of their patients; raises InputError on any leak."""
    assert_no_leak(slices.drop(columns=["split", "fold"], errors="ignore"), splits)
    of_patient = splits.set_index(splits["patient"].astype(str))
    patient = slices["patient"].astype(str)
    return slices.assign(split=patient.map(of_patient["split"]), fold=patient.map(of_patient["fold"]))


def assert_no_leak(slices: pd.DataFrame, splits: pd.DataFrame) -> None:
    """Raise InputError unless every patient, case and array of `slices` lies on one side only.

    `splits` has a row a patient (`patient, split`). Where `slices` carry a `split` of their own, as after
    `attach_split`, that column must tell the same.
    """
    patient = slices["patient"].astype(str)
    rows = splits.assign(patient=splits["patient"].astype(str)).drop_duplicates(["patient", "split"])
    _refuse_two_sides("patient", rows["patient"], rows["split"])
    side = patient.map(rows.set_index("patient")["split"])
    if side.isna().any():
        problem = f"have no split for {_some(patient[side.isna()])}."
        raise InputError("splits", problem, "Deal the patients of these very slices.")
    for sides in (side, slices["split"]) if "split" in slices else (side,):
        for column in ("patient", "case", "array"):
            if column in slices:
                _refuse_two_sides(column, slices[column].astype(str), sides)
    if "split" in slices and (slices["split"] != side).any():
        problem = f"differ from the split column of the slices for {_some(patient[slices['split'] != side])}."
        raise InputError("splits", problem, "Attach the splits to the slices again.")


def _refuse_two_sides(kind: str, names: pd.Series, sides: pd.Series) -> None:
    sides_seen = sides.groupby(names.to_numpy()).nunique(dropna=False)
    torn = sides_seen.index[sides_seen > 1]
    if len(torn):
        problem = f"leak: {kind} {_some(torn)} lies on two sides."
        raise InputError("splits", problem, f"Put every slice of one {kind} on one side.")


def _in_dealing_order(patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Patients with tumour first, each kind shuffled; a function of the set of patients and the seed."""
    table = patients[["patient", "has_tumor"]].astype({"patient": str, "has_tumor": bool})
    if table["patient"].duplicated().any():
        repeated = _some(table["patient"][table["patient"].duplicated()])
        raise InputError("patients", f"list {repeated} more than once.", "Give one row a patient.")
    if len(table) < 3:
        few = ("No patient", "One patient", "Two patients")[len(table)]
        problem = f"{few} cannot be split into training, validation and test: "
        problem += "that needs at least 3 patients (better 10 or more)."
        raise InputError("splits", problem, "Use `livseg predict` for a single scan.")
    table = table.sort_values("patient", ignore_index=True)
    table = table.iloc[np.random.default_rng(seed).permutation(len(table))]
    return table.sort_values("has_tumor", ascending=False, kind="stable", ignore_index=True)


def _deal_parts(count: int, fractions: tuple[float, float, float]) -> list[str]:
    """Names of the parts that `count` patients go to, one after another.

    Each goes to the part furthest below its fraction; an empty part goes first, test before validation.
    As any beginning of the row is balanced, so are the patients with tumour, who stand first, and the
    others, who are what is left.
    """
    share = dict(zip(SPLITS, fractions, strict=True))
    dealt = {"train": 0, "test": 0, "validation": 0}
    parts = []
    for number in range(1, count + 1):
        part = max(dealt, key=lambda name: (dealt[name] == 0, share[name] * number - dealt[name]))
        dealt[part] += 1
        parts.append(part)
    return parts


def _with_folds(table: pd.DataFrame, folds: int, seed: int) -> pd.DataFrame:
    """`patient, has_tumor, split` with `fold`: patients outside test dealt round, tumour first."""
    table = table.merge(_in_dealing_order(table, seed)[["patient"]], how="right", on="patient")
    development = (table["split"] != "test").to_numpy()
    folds = min(folds, int(development.sum()))
    table["fold"] = np.where(development, (np.cumsum(development) - 1) % folds, NO_FOLD)
    return table.sort_values("patient", ignore_index=True)


def _read_splits(path: Path, patients: pd.DataFrame, folds: int, seed: int) -> pd.DataFrame:
    known = _in_dealing_order(patients, seed)
    table = read_text_table(path, ("patient", "split"), _DEAL_ANEW)
    table = table[table.columns.intersection(["patient", "split", "fold"])]
    table = table.apply(lambda cells: cells.str.strip())
    if findings := _findings(table, set(known["patient"])):
        raise InputError(path, " ".join(findings), _DEAL_ANEW)
    splits = known.merge(table, on="patient").sort_values("patient", ignore_index=True)
    if "fold" not in splits:
        return _with_folds(splits, folds, seed)
    return splits.assign(fold=splits["fold"].astype(int))


def _findings(table: pd.DataFrame, known: set[str]) -> list[str]:
    """What is wrong with an edited file, a sentence each."""
    patient, split = table["patient"], table["split"]
    checks = [
        (patient[patient.duplicated()], "on more than one line: keep one line for {}."),
        (patient[~patient.isin(known)], "not in the data: remove the line of {}."),
        (sorted(known - set(patient)), "missing: add a line for {}."),
        (split[~split.isin(SPLITS)], "no split: write train, validation or test in place of {}."),
        ([name for name in SPLITS if not (split == name).any()], "empty: give some patients to {}."),
    ]
    if "fold" in table:
        whole = table["fold"].isin([str(fold) for fold in range(NO_FOLD, len(table))])
        agrees = (table["fold"] == str(NO_FOLD)) == (split == "test")
        remedy = "in test with a fold other than -1, or elsewhere without a fold (0, 1, ...): mend {}, or "
        checks.append((patient[~(whole & agrees)], remedy + "delete the whole column fold."))
    return [f"Found {sentence.format(_some(names))}" for names, sentence in checks if len(names)]


def _some(names) -> str:
    """Up to five different names, in order, for a message."""
    names = sorted({str(name) or "(blank)" for name in names})
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


CHOICES = {"tumor": 2, "liver": 1, "all": 0}
"""The lowest class (0 empty, 1 liver only, 2 liver and tumour) that each choice takes whole."""

AUTOMATIC = {"liver": "liver", "tumor": "tumor", "both": "tumor"}
"""Choice for each target: with both, livers are seen on tumour slices and among the negatives."""


def resolve_choice(choice: str, target: str) -> str:
    """`choice` as it is; for "auto" the one that suits the target."""
    return AUTOMATIC[target] if choice == "auto" else choice


def require_structures(slices: pd.DataFrame, structures: tuple[str, ...]) -> None:
    """Refuse a target that the labels never show. Raises InputError."""
    for structure in structures:
        if not (slices[f"{structure}_pixels"] > 0).any():
            problem = f"cannot be learnt: none of {len(slices)} slices shows any {structure}."
            remedy = "Choose another target (make reproduce TARGET=liver)."
            raise InputError(f"target {structure}", problem, remedy)


def select_slices(
    slices: pd.DataFrame, choice: str = "tumor", negative_ratio: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Rows of `slices` (with `class`) to train on, in their order.

    "tumor" takes the slices with tumour (system C), "liver" those with any liver, "all" every slice;
    `negative_ratio` adds that many slices of the lower classes for each one taken, drawn without
    replacement, as far as there are any. Raises InputError for an unknown choice, a negative ratio, or
    where no slice is left.
    """
    if choice not in CHOICES:
        raise InputError("slice choice", f"is {choice!r}.", f"Choose one of {', '.join(CHOICES)}.")
    if not negative_ratio >= 0:
        raise InputError("negative_ratio", f"is {negative_ratio}.", "Give 0 or more.")
    is_positive = slices["class"].to_numpy(dtype=int) >= CHOICES[choice]
    positive, negative = np.flatnonzero(is_positive), np.flatnonzero(~is_positive)
    if not len(positive):
        problem = f"{choice!r} leaves none of {len(slices)} slices."
        raise InputError("slice choice", problem, "Choose another, or add patients that show it.")
    count = min(round(negative_ratio * len(positive)), len(negative))
    added = np.random.default_rng(seed).choice(negative, count, replace=False)
    return slices.iloc[np.sort(np.concatenate([positive, added]))].reset_index(drop=True)


def cases_without_liver(slices: pd.DataFrame) -> pd.DataFrame:
    """The cases whose classified slices (`class`) show no annotation at all: system E leaves them out.

    Columns `patient, case, slices, reason`, a row a case, in the order of the table.
    """
    best = slices.groupby(["patient", "case"], sort=False)["class"].agg(["size", "max"]).reset_index()
    without = best[best["max"] == 0].rename(columns={"size": "slices"}).drop(columns="max")
    return without.assign(reason="no liver or tumour in any slice").reset_index(drop=True)


class Protocol(NamedTuple):
    """One way to judge a network by its slices."""

    name: str
    deals: str
    """"slice": slices go to folds one by one; "patient": all slices of a patient go together."""
    positives_only: bool
    """Learns and publishes on slices that show the structure alone, as system C does."""


class Fold(NamedTuple):
    """One training and the slices that it has not seen; rows have `is_positive`."""

    training: pd.DataFrame
    held_out: pd.DataFrame


def audit_protocols(slices: pd.DataFrame, structure: str) -> tuple[Protocol, ...]:
    """Both ways to deal, each with all slices and with positive ones alone (system C's comes first).

    Where every slice shows the structure those are the same, and two protocols are left.
    """
    word = "tumour" if structure == STRUCTURES[1] else structure
    all_slices = [Protocol(deals, deals, False) for deals in ("slice", "patient")]
    if slices["is_positive"].all():
        return tuple(all_slices)
    positive_slices = [Protocol(f"{deals}, {word} only", deals, True) for deals in ("slice", "patient")]
    return positive_slices[0], all_slices[0], positive_slices[1], all_slices[1]


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
    kinds = {"slice": (StratifiedKFold, None), "patient": (StratifiedGroupKFold, slices["patient"])}
    kind, together = kinds[deals]
    dealer = kind(folds, shuffle=True, random_state=int(seed) % 2**32)
    fold_of = np.empty(len(slices), int)
    for fold, (_, held_out) in enumerate(dealer.split(slices, positive, together)):
        fold_of[held_out] = fold
    return fold_of


def draw(slices: pd.DataFrame, wanted: dict[bool, int], seed: int) -> pd.DataFrame:
    """So many positive (True) and negative (False) rows, without replacement, in their order.

    The positive ones are the same however many negative ones are wanted.
    """
    rng, shows = np.random.default_rng(seed), slices["is_positive"]
    rows = [rng.permutation(np.flatnonzero(shows == kind))[: wanted[kind]] for kind in (True, False)]
    return slices.iloc[np.sort(np.concatenate(rows))]


def nearest_training_slice(held_out: pd.DataFrame, training: pd.DataFrame) -> np.ndarray:
    """For each held-out row the row number in `training` of the nearest slice of the same patient.

    int (n,), -1 where the patient has none. Nearest in `slice` numbers within one `case`.
    """
    nearest = np.full(len(held_out), -1)
    cases, numbers = training["case"].to_numpy(), training["slice"].to_numpy(dtype=int)
    for case, rows in held_out.reset_index(drop=True).groupby("case"):
        of_case = np.flatnonzero(cases == case)
        if len(of_case):
            distance = np.abs(rows["slice"].to_numpy(dtype=int)[:, None] - numbers[of_case])
            nearest[rows.index] = of_case[distance.argmin(axis=1)]
    return nearest
