"""When a score of a case is NaN: every combination of what is there and what is found, in both modes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.evaluation.cases import score_case, summarize_cases

SPACING, UNKNOWN = (2.0, 0.8, 0.7), (np.nan,) * 3
LIVER, TUMOR, ELSEWHERE = np.s_[1:9, 1:11, 1:11], np.s_[2:5, 2:6, 2:6], np.s_[6:8, 7:10, 7:10]
DISTANCES = ("assd", "rmsd", "msd", "hd95")


def labels(has_liver: bool, tumor=None) -> np.ndarray:
    volume = np.zeros((10, 12, 12), np.uint8)
    if has_liver:
        volume[LIVER] = 1
    if tumor is not None:
        volume[tumor] = 2
    return volume


PREDICTIONS = {
    "nothing": labels(False),
    "liver": labels(True),
    "tumour": labels(True, TUMOR),
    "tumour elsewhere": labels(True, ELSEWHERE),
    "tumour without liver": labels(False, TUMOR),
}
REFERENCES = {name: PREDICTIONS[name] for name in ("nothing", "liver", "tumour")}
COMBINATIONS = list(product(PREDICTIONS, REFERENCES, (True, False)))


def undefined(predicted: str, present: str, has_spacing: bool, mode: str) -> set[str]:
    """The rules of `case_scores`, written once more."""
    livers = predicted not in ("nothing", "tumour without liver"), present != "nothing"
    tumors = predicted.startswith("tumour"), present == "tumour"
    detected = all(tumors) and predicted != "tumour elsewhere"
    names = set()
    for structure, there in (("liver", livers), ("tumor", tumors)):
        if not there[1]:
            names.add(f"{structure}_rvd")
        if there == (False, False) or (all(there) and not has_spacing):
            names.add(f"{structure}_surface_dice")
    if not (all(livers) and has_spacing):
        names |= {f"liver_{name}" for name in DISTANCES}
    if not (detected and has_spacing):
        names |= {f"tumor_{name}" for name in DISTANCES}
    if not any(tumors):
        names |= {"lesion_dice", "panoptic_quality", "recognition_quality"}
    if not detected:
        names.add("segmentation_quality")
    if not livers[0]:
        names |= {"tumor_burden_prediction", "tumor_burden_error"}
    if not livers[1]:
        names |= {"tumor_burden_reference", "tumor_burden_error"}
    if mode == "lits_asis" and not livers[0]:  # 9001 takes the place of what is undefined
        names -= {f"liver_{name}" for name in ("rvd", "assd", "rmsd", "msd")} | {"tumor_burden_prediction"}
        names -= {"tumor_burden_error"} if livers[1] else set()
    return names


@pytest.mark.parametrize("mode", ["intended", "lits_asis"])
@pytest.mark.parametrize(("predicted", "present", "has_spacing"), COMBINATIONS)
def test_what_is_undefined_and_nothing_else_is_nan(predicted, present, has_spacing, mode):
    spacing = SPACING if has_spacing else UNKNOWN
    scores = score_case(PREDICTIONS[predicted], REFERENCES[present], spacing, mode)
    assert {name for name, value in scores.items() if np.isnan(value)} == undefined(
        predicted, present, has_spacing, mode
    )
    missed_tumor = present == "tumour" and not predicted.startswith("tumour")
    if missed_tumor:
        names = ("tumor_dice", "tumor_surface_dice", "lesion_dice", "panoptic_quality", "recall")
        assert [scores[name] for name in names] == [0] * 5


def test_the_summary_counts_what_is_defined():
    cases = [
        score_case(PREDICTIONS[predicted], REFERENCES[present], SPACING if known else UNKNOWN)
        for predicted, present, known in COMBINATIONS
    ]
    summary = summarize_cases(cases)
    rules = [undefined(*each, "intended") for each in COMBINATIONS]
    for structure in ("liver", "tumor"):
        for name in ("rvd", "surface_dice", *DISTANCES):
            defined = sum(f"{structure}_{name}" not in names for names in rules)
            assert summary[structure]["n_defined"][name] == defined, name
    defined = [score for names, score in zip(rules, cases, strict=True) if "lesion_dice" not in names]
    assert summary["lesions"]["n_defined_lesion_dice"] == len(defined) < len(cases)
    assert summary["lesions"]["lesion_dice"] == pytest.approx(np.mean([c["lesion_dice"] for c in defined]))
    found = [c["n_tumors_matched"] for c in cases]
    objects = sum(c["n_tumors_prediction"] + c["n_tumors_reference"] for c in cases)
    assert summary["lesions"]["panoptic_quality"] == pytest.approx(2 * sum(found) / objects)  # all exact hits


SHARES = ("dice", "jaccard", "voe", "surface_dice")
SYMMETRIC = ("dice", "jaccard", "voe", "surface_dice", "intersection_voxels")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_ranges_and_exchange(seed, liver_share, tumor_share):
    rng = np.random.default_rng(seed)
    pair = np.zeros((2, 6, 7, 8), np.uint8)
    pair[:, 1:5, 1:6, 1:7] = rng.random((2, 4, 5, 6)) < liver_share
    pair[rng.random(pair.shape) < 0.3 * tumor_share] = 2
    pair[:, 0, 0, 0] = 1  # a liver on either side, so that both are treated alike
    scores, exchanged = score_case(*pair, SPACING), score_case(*pair[::-1], SPACING)
    shares = [f"{structure}_{name}" for structure in ("liver", "tumor") for name in SHARES]
    shares += ["lesion_dice", "panoptic_quality", "segmentation_quality", "recognition_quality"]
    assert all(0 <= scores[name] <= 1 or np.isnan(scores[name]) for name in shares)
    for name in (*DISTANCES, "hd95"):
        assert scores[f"liver_{name}"] >= 0
    symmetric = [f"{structure}_{name}" for structure in ("liver", "tumor") for name in SYMMETRIC]
    symmetric += [f"liver_{name}" for name in DISTANCES]
    symmetric += ["panoptic_quality", "segmentation_quality", "recognition_quality", "n_tumors_matched"]
    for name in symmetric:
        assert exchanged[name] == pytest.approx(scores[name], nan_ok=True), name
    assert exchanged["tumor_burden_error"] == pytest.approx(-scores["tumor_burden_error"])
