"""Train, validation and test by patient, in an editable file, with a hard check against leaks.

Splitting by slice (system C) puts slices of one patient on both sides and inflates every score, so that
nothing here ever looks at a slice: whole patients are dealt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.atomic import write_atomically
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.slice_table import read_text_table

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
    sorted by patient; the order of the rows that came in changes nothing. Sizes are as close to the
    fractions as whole patients allow, and no part is empty; patients with tumour are spread in the same
    way, so that each part has one where there are three. `fold` is 0 to folds - 1 in train and validation
    (fewer folds where they hold fewer patients) and -1 in test. Raises InputError for fewer than 3
    patients, a patient on two rows, or fractions that are not positive with sum 1.
    """
    _check_plan(fractions, folds)
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


def _refuse_two_sides(what: str, names: pd.Series, sides: pd.Series) -> None:
    sides_seen = sides.groupby(names.to_numpy()).nunique(dropna=False)
    torn = sides_seen.index[sides_seen > 1]
    if len(torn):
        problem = f"leak: {what} {_some(torn)} lies on two sides."
        raise InputError("splits", problem, f"Put every slice of one {what} on one side.")


def _check_plan(fractions: tuple[float, float, float], folds: int) -> None:
    if len(fractions) != 3 or min(fractions) <= 0 or not np.isclose(sum(fractions), 1.0):
        problem = f"are {tuple(fractions)}."
        raise InputError("fractions", problem, "Give three positive numbers with sum 1.")
    if folds < 2:
        raise InputError("folds", f"is {folds}.", "Cross-validation needs at least 2.")


def _in_dealing_order(patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Patients with tumour first, each kind shuffled; a function of the set of patients and the seed."""
    table = pd.DataFrame(
        {"patient": patients["patient"].astype(str), "has_tumor": patients["has_tumor"].astype(bool)}
    )
    if table["patient"].duplicated().any():
        repeated = _some(table["patient"][table["patient"].duplicated()])
        raise InputError("patients", f"list {repeated} more than once.", "Give one row a patient.")
    if len(table) < 3:
        raise InputError(
            "splits",
            f"{['No patient', 'One patient', 'Two patients'][len(table)]} cannot be split into training, "
            "validation and test: that needs at least 3 patients (better 10 or more).",
            "Use `livseg predict` for a single scan.",
        )
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
    table = _read_table(path)
    findings = _findings(table, set(known["patient"]))
    if findings:
        raise InputError(path, " ".join(findings), _DEAL_ANEW)
    splits = known.merge(table, on="patient").sort_values("patient", ignore_index=True)
    if "fold" not in splits:
        return _with_folds(splits, folds, seed)
    return splits.assign(fold=splits["fold"].astype(int))


def _read_table(path: Path) -> pd.DataFrame:
    """`patient, split` and, where there is one, `fold`, all text."""
    table = read_text_table(path, ("patient", "split"), _DEAL_ANEW)
    table = table[[column for column in ("patient", "split", "fold") if column in table]]
    return table.apply(lambda column: column.str.strip())


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
