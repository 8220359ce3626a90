"""Slices of nothing but the liver and its surroundings, for networks that come later in a cascade."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.preprocessing import Recipe, diagnose_slices, extract_dataset
from livseg_lib.preprocessing.region import case_around_liver


def extract_around_liver(
    cases: Sequence[Case],
    slices: pd.DataFrame,
    recipe: Recipe,
    folder: Path,
    region: str,
    margin_mm: float,
    workers: int = 2,
) -> tuple[pd.DataFrame, Path]:
    """Extract the regions around the true livers of the training and validation patients.

    `slices` are the run's classified ones; test patients are left alone, and so are cases without liver
    (`sampling.selection.cases_without_liver` lists them). Returns the classified slices of the regions,
    with split and fold, and the folder below `folder` that holds their arrays.
    """
    known = slices.groupby("case")[["class", "split", "fold"]].agg(
        {"class": "max", "split": "first", "fold": "first"}
    )
    usable = known[(known["class"] > 0) & known["split"].isin(["train", "validation"])]
    regions = [case_around_liver(case, region, margin_mm) for case in cases if case.case_id in usable.index]
    target = folder / f"liver-{region}-{margin_mm:g}mm-{recipe.size}"
    rows = diagnose_slices(extract_dataset(regions, recipe, target, workers, write_png=False))
    return rows.join(usable[["split", "fold"]], on="case"), target
