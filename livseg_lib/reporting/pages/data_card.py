"""The data card of a run: its data set as a datasheet (Gebru et al. 2018, arXiv:1803.09010)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from livseg_lib.reporting.cells import table_view
from livseg_lib.reporting.pages import card_wording as words
from livseg_lib.reporting.pages.card_sections import CardSection, Tables, facts_of, linked
from livseg_lib.reporting.wording import DATASETS

UNKNOWN_ORIGIN = {"motivation": words.MISSING, "collection": words.MISSING, "licence": words.MISSING}


def data_card(tables: Tables, manifest: Mapping) -> list[CardSection]:
    """The data card, from cases.csv, findings.csv, splits_summary.csv, class_counts.csv and the manifest."""
    dataset = str(manifest.get("dataset") or "")
    origin = {part: linked(text) for part, text in words.ORIGINS.get(dataset, UNKNOWN_ORIGIN).items()}
    phantom = [words.PHANTOM_CAVEAT] if dataset == "phantom" else []
    return [
        CardSection("Why it was made", [origin["motivation"], *phantom]),
        CardSection("What is in it", facts=_composition(tables.get("cases"), dataset, manifest)),
        CardSection("How it was collected and labelled", [origin["collection"]]),
        CardSection("How it was checked", _checked(tables.get("findings")), tables=_findings(tables)),
        CardSection("How it was divided", [words.BY_PATIENT], tables=_division(tables)),
        CardSection("Uses", words.DATA_USES),
        CardSection("Licence", [origin["licence"]]),
        CardSection("Upkeep", words.DATA_UPKEEP, facts_of([("Checksum", manifest.get("data_checksum"))])),
    ]


def _composition(cases: pd.DataFrame | None, dataset: str, manifest: Mapping) -> list:
    known = pd.DataFrame() if cases is None else cases
    shapes = _numbers(known, "shape")
    spacing = _numbers(known, "spacing_mm")
    return facts_of(
        [
            ("Data set", DATASETS.get(dataset, dataset)),
            ("Cases", manifest.get("n_cases", len(known) or None)),
            ("Cases that can be used", manifest.get("n_usable")),
            ("Patients", known["patient"].nunique() if "patient" in known else None),
            ("Slices a case", _range(shapes[:, 0], "")),
            ("Rows and columns", _range(shapes[:, 1:].ravel(), "")),
            ("Slice distance", _range(spacing[:, 0], " mm")),
            ("Pixel side", _range(spacing[:, 1:].ravel(), " mm")),
            ("HU, lowest to highest", _hounsfield(known)),
            ("Cases with tumours", _with_tumor(known)),
            ("Tumours a case", _range(_column(known, "n_tumors"), "")),
            ("Liver", _range(_column(known, "liver_ml"), " ml")),
        ]
    )


def _numbers(cases: pd.DataFrame, column: str) -> np.ndarray:
    """Float64 (N, 3) from texts such as "(51, 512, 512)"; NaN for those that are no three numbers."""
    texts = cases[column].astype(str) if column in cases else []
    parts = (text.strip("()").split(",") for text in texts)
    rows = [pd.to_numeric(pd.Series(part), errors="coerce") for part in parts if len(part) == 3]
    return np.array(rows, float).reshape(-1, 3)


def _column(cases: pd.DataFrame, name: str) -> np.ndarray:
    return pd.to_numeric(cases[name], errors="coerce").to_numpy(float) if name in cases else np.array([])


def _range(values: np.ndarray, unit: str) -> str | None:
    """Such as "0.6 to 0.8 mm"; None where nothing is known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = (
        f"{bound:,.5g}".replace(",", "\u202f").replace("-", "−") for bound in (known.min(), known.max())
    )
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _hounsfield(cases: pd.DataFrame) -> str | None:
    return _range(np.concatenate([_column(cases, "hu_low"), _column(cases, "hu_high")]), "")


def _with_tumor(cases: pd.DataFrame) -> str | None:
    """Counted in voxels, which pictures have, too."""
    voxels = _column(cases, "tumor_voxels")
    return f"{int((voxels > 0).sum())} of {len(voxels)}" if len(voxels) else None


def _checked(findings: pd.DataFrame | None) -> list[str]:
    if findings is None or not {"case", "severity"} <= set(findings):
        return [f"{words.MISSING.capitalize()}: notebook 00_prepare_data has not been run."]
    number = findings.groupby("severity")["case"].nunique()
    return [
        "Every file was read to its end before anything was learnt. "
        f"Excluded: {number.get('error', 0)} cases. Kept with a warning: {number.get('warning', 0)}."
    ]


def _findings(tables: Tables) -> list:
    findings = tables.get("findings", pd.DataFrame(columns=["severity"]))
    told = findings[findings["severity"].isin(("error", "warning"))] if "severity" in findings else findings
    return [("What was found", table_view(told))] if len(told) else []


def _division(tables: Tables) -> list:
    captions = {"splits_summary": "Patients", "class_counts": "Slices by what they show"}
    return [(caption, table_view(tables[name])) for name, caption in captions.items() if name in tables]
