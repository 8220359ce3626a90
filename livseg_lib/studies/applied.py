"""Trained systems tried on a scan of one's own: shows that they work on it, not how well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.inference.systems import System, outline
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.postprocessing.components import label_components
from livseg_lib.volumes import Volume, keep_prediction


def apply_systems(
    systems: dict[str, System], case: Case, volume: Volume, liver: np.ndarray | None, masks: Path
) -> Iterator[tuple[dict, np.ndarray]]:
    """For each system a row of applied.csv and the labels 0/1/2, uint8 (D, H, W), kept in `masks`/<system>/.

    With a known `liver`, bool (D, H, W), systems look for tumours alone.
    """
    for name, system in systems.items():
        began = time.perf_counter()
        labels = outline(system, volume, liver)
        seconds = time.perf_counter() - began
        keep_prediction(labels, volume, masks / name, case.case_id)
        yield (
            {
                "case": case.case_id,
                "outlined_by": name,
                **describe_labels(labels, volume),
                "seconds": seconds,
            },
            labels,
        )


def describe_labels(labels: np.ndarray, volume: Volume) -> dict:
    """Volumes in ml, mean and standard deviation in HU, and how many tumours; NaN where there is nothing."""
    described: dict = {}
    for structure in STRUCTURES:
        hu = volume.voxels[structure_mask(labels, structure)]
        described |= {
            f"{structure}_ml": len(hu) * volume.voxel_volume_ml,
            f"{structure}_mean_hu": float(hu.mean()) if len(hu) else np.nan,
            f"{structure}_deviation_hu": float(hu.std()) if len(hu) else np.nan,
        }
    return described | {"tumors": label_components(structure_mask(labels, "tumor"))[1]}


def systems_of_run(table: pd.DataFrame, models: Path) -> list[str]:
    """Names of the systems in systems.csv that outline liver or tumours and lie in `models`, in its order."""
    outlines = table["target"].isin(STRUCTURES) & (table["split_by"] == "patient")
    names = dict.fromkeys(table["system"][outlines])
    return [name for name in names if (models / name / "model.json").exists()]
