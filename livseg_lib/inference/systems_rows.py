"""An evaluation summed up: the rows of systems.csv, published figures beside ours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.evaluation.published import published_rows
from livseg_lib.evaluation.slice_scores import summarize_slices
from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval
from livseg_lib.evaluation.summary import summarize_cases
from livseg_lib.evaluation.surface import SURFACE_TOLERANCE_MM
from livseg_lib.inference.evaluate import Evaluation, ScoredSystem

PUBLISHED = {
    "unet": ("C", "U-Net", "dice"),
    "resnet50_unet": ("B", "ResNet-50", "dice"),
    "unet_mse": ("A", "U-Net trained with mean squared error", "overall_accuracy"),
    "unet++": ("D", "UNet++", "iou"),
    "manet": ("D", "MAnet", "iou"),
    "deeplabv3+": ("D", "DeepLabV3+", "iou"),
    "attention_unet": ("B", "Attention U-Net", ""),
    "unet3d": ("E", "64-slice volumetric U-Net", ""),
    "cascade_25d": ("G", "2.5D residual U-Net", "dice_per_case"),
    "cascade_forest": ("H", "Cascade with candidate filter", "dice_per_case"),
    "cascade_cdnn": ("I", "Hierarchical CDNN", "dice_per_case"),
    "cascade_superpixels": ("J", "Multi-scale candidates and fractal residual network", "dice_per_case"),
}
"""System -> (source letter, name, metric) of the published figure that stands beside it; B only names
the Attention U-Net. D's are those of its validation set, where liver and tumour count together."""


def systems_rows(system: ScoredSystem, evaluation: Evaluation, seed: int) -> list[dict]:
    """One row of systems.csv a structure. Means are over test patients; intervals by bootstrap."""
    patients = pd.DataFrame(evaluation.patients)
    slices = pd.concat(evaluation.slices, ignore_index=True)
    rows = []
    for structure in system.structures:
        of_structure = patients[patients["structure"] == structure]
        means = of_structure.groupby("patient")[["dice", "iou", "precision", "recall"]].mean()
        low, high = bootstrap_interval(means["dice"], seed=seed)
        summary = summarize_slices(slices[slices["structure"] == structure])
        rows.append(
            {
                "system": system.system,
                "target": structure,
                "split_by": "patient",
                "n_train_patients": system.training.get("n_train_patients"),
                "n_test_patients": len(means),
                "dice_per_case": means["dice"].mean(),
                "dice_per_case_low": low,
                "dice_per_case_high": high,
                "dice_global": _global_dice(evaluation, structure),
                **means[["iou", "precision", "recall"]].mean().to_dict(),
                "roc_auc": _area_under_curve(evaluation, structure),
                "presence_accuracy": summary["presence_accuracy"],
                **_published(system.system, structure),
                "train_seconds": system.training.get("seconds"),
                "parameters": system.parameters,
            }
        )
    return rows


def _global_dice(evaluation: Evaluation, structure: str) -> float:
    scores = pd.DataFrame(evaluation.case_scores)
    voxels = scores[f"{structure}_prediction_voxels"].sum() + scores[f"{structure}_reference_voxels"].sum()
    return float(2 * scores[f"{structure}_intersection_voxels"].sum() / voxels) if voxels else np.nan


def _area_under_curve(evaluation: Evaluation, structure: str) -> float:
    histogram = evaluation.histograms.get(structure)
    return histogram.auc() if histogram else np.nan


def _published(system: str, structure: str) -> dict:
    letter, name, metric = PUBLISHED.get(system, ("", "", ""))
    table = published_rows()
    found = table[
        (table["source"] == letter)
        & (table["system"] == name)
        & (table["metric"] == metric)
        & table["target"].isin((structure, "both"))
    ]
    if found.empty:
        return {"source": letter}
    row = found.iloc[-1]  # D prints training before validation
    return {
        "source": letter,
        "published_metric": f"{metric}, {row['protocol']}",
        "published_value": row["value"],
    }


def lits_rows(system: ScoredSystem, evaluation: Evaluation) -> list[dict]:
    """The benchmark's summary (system K, mode "intended") and what we add, a row a structure of `system`."""
    summary = summarize_cases(evaluation.case_scores)
    rows = []
    for structure in system.structures:
        row = {"system": system.system, "structure": structure, **summary[structure]}
        defined = row.pop("n_defined")
        row |= {f"n_defined_{name}": defined[name] for name in ("dice_per_case", "assd", "surface_dice")}
        row["surface_tolerance_mm"] = SURFACE_TOLERANCE_MM
        if structure == "tumor":
            detection = ("precision", "recall", "precision_greater_zero", "recall_greater_zero")
            row |= {name: summary["detection"][name] for name in detection} | summary["lesions"]
        if structure == "tumor" and "liver" in system.structures:  # the burden needs both
            row |= {f"tumor_burden_{name}": summary["tumor_burden"][name] for name in ("rmse", "max_error")}
        rows.append(row)
    return rows
