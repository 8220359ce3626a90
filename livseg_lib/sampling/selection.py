"""Which slices a network learns from."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError

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
            raise InputError(
                f"target {structure}",
                f"cannot be learnt: none of {len(slices)} slices shows any {structure}.",
                "Choose another target (make reproduce TARGET=liver).",
            )


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
    wanted = slices["class"].to_numpy(dtype=int) >= CHOICES[choice]
    positive, negative = np.flatnonzero(wanted), np.flatnonzero(~wanted)
    if not len(positive):
        problem = f"{choice!r} leaves none of {len(slices)} slices."
        raise InputError("slice choice", problem, "Choose another, or add patients that show it.")
    count = min(round(negative_ratio * len(positive)), len(negative))
    drawn = np.random.default_rng(seed).choice(negative, count, replace=False)
    return slices.iloc[np.sort(np.concatenate([positive, drawn]))].reset_index(drop=True)


def cases_without_liver(slices: pd.DataFrame) -> pd.DataFrame:
    """The cases whose classified slices (`class`) show no annotation at all: system E leaves them out.

    Columns `patient, case, slices, reason`, a row a case, in the order of the table.
    """
    best = slices.groupby(["patient", "case"], sort=False)["class"].agg(["size", "max"]).reset_index()
    without = best[best["max"] == 0].rename(columns={"size": "slices"}).drop(columns="max")
    return without.assign(reason="no liver or tumour in any slice").reset_index(drop=True)
