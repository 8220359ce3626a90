"""An evaluation summed up: the rows of systems.csv, published figures beside ours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.evaluation.bootstrap import bootstrap_interval
from livseg_lib.evaluation.published import published_rows
from livseg_lib.evaluation.slice_scores import summarize_slices
from livseg_lib.evaluation.summary import summarize_cases
from livseg_lib.inference.evaluate import Evaluation
from livseg_lib.training.model_folder import TrainedModel

PUBLISHED = {"unet": ("C", "U-Net", "dice"), "resnet50_unet": ("B", "ResNet-50", "dice")}
"""System -> (source letter, name, metric) of the published figure that stands beside it."""


def systems_rows(trained: TrainedModel, evaluation: Evaluation, seed: int) -> list[dict]:
    """One row of systems.csv a structure. Means are over test patients; intervals by bootstrap."""
    patients = pd.DataFrame(evaluation.patients)
    slices = pd.concat(evaluation.slices, ignore_index=True)
    rows = []
    for structure in trained.structures:
        of_structure = patients[patients["structure"] == structure]
        means = of_structure.groupby("patient")[["dice", "iou", "precision", "recall"]].mean()
        low, high = bootstrap_interval(means["dice"], seed=seed)
        summary = summarize_slices(slices[slices["structure"] == structure])
        rows.append(
            {
                "system": trained.system,
                "target": structure,
                "split_by": "patient",
                "n_train_patients": trained.training.get("n_train_patients"),
                "n_test_patients": len(means),
                "dice_per_case": means["dice"].mean(),
                "dice_per_case_low": low,
                "dice_per_case_high": high,
                "dice_global": _global_dice(evaluation, structure),
                **means[["iou", "precision", "recall"]].mean().to_dict(),
                "roc_auc": evaluation.histograms[structure].auc(),
                "presence_accuracy": summary["presence_accuracy"],
                **_published(trained.system, structure),
                "train_seconds": trained.training.get("seconds"),
                "parameters": trained.network.count_params(),
            }
        )
    return rows


def _global_dice(evaluation: Evaluation, structure: str) -> float:
    scores = pd.DataFrame(evaluation.case_scores)
    voxels = scores[f"{structure}_prediction_voxels"].sum() + scores[f"{structure}_reference_voxels"].sum()
    return float(2 * scores[f"{structure}_intersection_voxels"].sum() / voxels) if voxels else np.nan


def _published(system: str, structure: str) -> dict:
    letter, name, metric = PUBLISHED.get(system, ("", "", ""))
    table = published_rows()
    found = table[
        (table["source"] == letter)
        & (table["system"] == name)
        & (table["metric"] == metric)
        & (table["target"] == structure)
    ]
    if found.empty:
        return {"source": letter}
    row = found.iloc[0]
    return {
        "source": letter,
        "published_metric": f"{metric}, {row['protocol']}",
        "published_value": row["value"],
    }


def lits_rows(trained: TrainedModel, evaluation: Evaluation) -> list[dict]:
    """The benchmark's summary (system K, mode "intended"), a row a structure of `trained`."""
    summary = summarize_cases(evaluation.case_scores)
    rows = []
    for structure in trained.structures:
        row = {"system": trained.system, "structure": structure, **summary[structure]}
        defined = row.pop("n_defined")
        row |= {f"n_defined_{name}": defined[name] for name in ("dice_per_case", "assd")}
        if structure == "tumor":
            detection = ("precision", "recall", "precision_greater_zero", "recall_greater_zero")
            row |= {name: summary["detection"][name] for name in detection}
        if trained.target == "both" and structure == "tumor":  # the burden needs both
            row |= {f"tumor_burden_{name}": summary["tumor_burden"][name] for name in ("rmse", "max_error")}
        rows.append(row)
    return rows
