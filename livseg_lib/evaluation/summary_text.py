"""The scores of a data set as lines for people to read in a terminal."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.labels import STRUCTURES

ROWS = {
    "dice_per_case": "Dice per case",
    "dice_global": "Dice global",
    "voe": "VOE",
    "rvd": "RVD",
    "assd": "ASSD (mm)",
    "rmsd": "RMSD (mm)",
    "msd": "MSD, Hausdorff (mm)",
    "hd95": "HD95 (mm)",
    "surface_dice": "surface Dice",
}
"""Score of `summarize_cases` -> how it reads, in the order of the table."""


def summary_lines(scores: dict) -> list[str]:
    """The mapping of `evaluate_folders` as lines: structures, detection, tumour burden, tumours by size.

    Every mean comes with the number of cases (of tumour distances: detected tumours) behind it.
    """
    summary = scores["summary"]
    title = f"{summary['n_cases']} cases, mode {scores['mode']}, surface Dice at "
    return [
        f"{title}{scores['surface_tolerance_mm']:g} mm; in brackets: over how many",
        "",
        *_structures(summary),
        "",
        *_detection(summary["detection"]),
        "",
        *_lesions_and_burden(summary["lesions"], summary["tumor_burden"]),
        "",
        *_sizes(scores["lesions_by_size"]),
    ]


def _structures(summary: dict) -> list[str]:
    found = [summary[structure] for structure in STRUCTURES]
    rows = {name: [_with_count(each, key) for each in found] for key, name in ROWS.items()}
    rows |= {
        "nothing to find": [str(each["n_empty_reference"]) for each in found],
        "missed altogether": [str(each["n_missed"]) for each in found],
    }
    head = f"{'':22}{'liver':>18}{'tumour':>18}"
    return [head, *(f"{name:22}{liver:>18}{tumor:>18}" for name, (liver, tumor) in rows.items())]


def _with_count(structure: dict, score: str) -> str:
    """ "0.912 (8)"; a global score has no count of its own."""
    count = structure["n_defined"].get(score)
    return _number(structure[score]) + ("" if count is None else f" ({count})")


def _detection(found: dict) -> list[str]:
    lines = [f"{'tumours found':22}{'precision':>11}{'recall':>11}{'found':>8}{'surplus':>9}{'missed':>8}"]
    for suffix, name in (("", "IoU > 0.5"), ("_greater_zero", "IoU > 0")):
        shares = [_number(found[f"{share}{suffix}"]) for share in ("precision", "recall")]
        counts = [found[f"{each}s{suffix}"] for each in ("true_positive", "false_positive", "false_negative")]
        lines.append("{:22}{:>11}{:>11}{:>8}{:>9}{:>8}".format(f"  at {name}", *shares, *counts))
    return lines


def _lesions_and_burden(lesions: dict, burden: dict) -> list[str]:
    parts = (_number(lesions[f"{part}_quality"]) for part in ("panoptic", "segmentation", "recognition"))
    quality = "{} = segmentation {} x recognition {}".format(*parts)
    error = f"RMSE {_number(burden['rmse'])}, largest {_number(burden['max_error'])} ({burden['n_defined']})"
    rows = {
        "lesion-wise Dice": f"{_number(lesions['lesion_dice'])} ({lesions['n_defined_lesion_dice']})",
        "panoptic quality": f"{quality} ({lesions['n_tumors_matched']})",
        "tumour burden error": error,
    }
    return [f"{name:24}{text}" for name, text in rows.items()]


def _sizes(rows: list[dict]) -> list[str]:
    """Every class with its counts: a share of few tumours says little."""
    table = pd.DataFrame(
        {
            "longest diameter": [row["size_class"] for row in rows],
            "recall": [_share(row, "recall", "reference") for row in rows],
            "precision": [_share(row, "precision", "prediction") for row in rows],
        }
    )
    return table.to_string(index=False, justify="right").splitlines()


def _share(row: dict, share: str, side: str) -> str:
    return f"{_number(row[share])} ({row[f'n_{side}_detected']} of {row[f'n_{side}']})"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
