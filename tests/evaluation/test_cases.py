"""Scores of a case and of many: by hand, by the rules of what is undefined, and for thousands of specks."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from solids import NOWHERE, labelled

from livseg_lib.errors import InputError
from livseg_lib.evaluation.cases import SCORES, Comparison, Score, score_case, summarize_cases
from livseg_lib.evaluation.lesions import MODES, tumor_overlap
from livseg_lib.evaluation.masks import assd, msd, rmsd, structure_dice, surface_distances

SHAPE = (16, 30, 30)
SPACING = (2.0, 0.8, 0.7)
LIVER, NEAR, FAR = np.s_[2:14, 2:28, 2:28], np.s_[4:8, 4:10, 4:10], np.s_[9:13, 15:25, 15:25]
DISTANCES = ("assd", "rmsd", "msd")


def labels(liver=True, tumors=()) -> np.ndarray:
    return labelled(SHAPE, *tumors, liver=LIVER if liver else NOWHERE)


def test_hand_values():
    # The prediction finds FAR cut to 4 x 10 x 8 and one that is not there; it misses NEAR.
    found, surplus = np.s_[9:13, 15:25, 15:23], np.s_[4:6, 20:22, 4:6]
    scores = score_case(labels(tumors=(found, surplus)), labels(tumors=(NEAR, FAR)), SPACING)
    assert (scores["liver_dice"], scores["liver_rvd"]) == (1, 0)  # a tumour is liver too
    predicted, present, common = 320 + 8, 144 + 400, 320
    assert scores["tumor_dice"] == pytest.approx(2 * common / (predicted + present))
    assert scores["tumor_voe"] == pytest.approx(1 - common / (predicted + present - common))
    assert scores["tumor_rvd"] == pytest.approx((predicted - present) / present)
    sizes = [scores[f"tumor_{key}_voxels"] for key in ("intersection", "prediction", "reference")]
    assert sizes == [common, predicted, present]
    assert [scores[key] for key in ("true_positives", "false_positives", "false_negatives")] == [1, 1, 1]
    assert (scores["precision"], scores["recall"]) == (0.5, 0.5)
    burden = scores["tumor_burden_reference"] - scores["tumor_burden_prediction"]
    assert scores["tumor_burden_error"] == burden == pytest.approx((present - predicted) / 8112)
    assert scores["tumor_msd"] == pytest.approx(2 * 0.7)  # of the detected pair alone


def test_detection_at_zero_overlap_has_its_own_names():
    touching = np.s_[4:8, 4:10, 4:6]  # a third of NEAR
    scores = score_case(labels(tumors=(touching,)), labels(tumors=(NEAR, FAR)), SPACING)
    assert (scores["precision"], scores["recall"]) == (0, 0)
    assert (scores["precision_greater_zero"], scores["recall_greater_zero"]) == (1, 0.5)
    assert (scores["true_positives_greater_zero"], scores["false_negatives_greater_zero"]) == (1, 1)
    assert scores["n_tumors_scored"] == 0 and np.isnan([scores[f"tumor_{d}"] for d in DISTANCES]).all()


def test_tumor_distances_are_the_mean_over_detected_tumors():
    near, far = np.s_[4:8, 4:10, 4:9], np.s_[9:12, 15:25, 15:25]
    prediction, reference = labels(tumors=(near, far)), labels(tumors=(NEAR, FAR))
    scores = score_case(prediction, reference, SPACING)
    pairs = []
    for mine, theirs in ((near, NEAR), (far, FAR)):
        masks = labels(False, (mine,)) == 2, labels(False, (theirs,)) == 2
        pairs.append(surface_distances(*masks, SPACING))
    for name, score in (("assd", assd), ("rmsd", rmsd), ("msd", msd)):
        assert scores[f"tumor_{name}"] == pytest.approx(np.mean([score(pair) for pair in pairs]))


UNKNOWN = (np.nan,) * 3
SMALL_LIVER, TUMOR, ELSEWHERE = np.s_[1:9, 1:11, 1:11], np.s_[2:5, 2:6, 2:6], np.s_[6:8, 7:10, 7:10]
ALL_DISTANCES = ("assd", "rmsd", "msd", "hd95")


def rules_labels(has_liver: bool, *tumor) -> np.ndarray:
    return labelled((10, 12, 12), *tumor, liver=SMALL_LIVER if has_liver else NOWHERE)


PREDICTIONS = {
    "nothing": rules_labels(False),
    "liver": rules_labels(True),
    "tumour": rules_labels(True, TUMOR),
    "tumour elsewhere": rules_labels(True, ELSEWHERE),
    "tumour without liver": rules_labels(False, TUMOR),
}
REFERENCES = {name: PREDICTIONS[name] for name in ("nothing", "liver", "tumour")}
COMBINATIONS = list(product(PREDICTIONS, REFERENCES, (True, False)))


def undefined(predicted: str, present: str, has_spacing: bool, mode: str) -> set[str]:
    """The rules of the module, written once more."""
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
        names |= {f"liver_{name}" for name in ALL_DISTANCES}
    if not (detected and has_spacing):
        names |= {f"tumor_{name}" for name in ALL_DISTANCES}
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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("predicted", "present", "has_spacing"), COMBINATIONS)
def test_what_is_undefined_and_nothing_else_is_nan(predicted, present, has_spacing, mode):
    spacing = SPACING if has_spacing else UNKNOWN
    scores = score_case(PREDICTIONS[predicted], REFERENCES[present], spacing, mode)
    nan = {name for name, value in scores.items() if np.isnan(value)}
    assert nan == undefined(predicted, present, has_spacing, mode)
    if predicted == present == "nothing":
        assert (scores["liver_dice"], scores["tumor_dice"]) == (0, 1)
    if present == "tumour" and not predicted.startswith("tumour"):
        names = ("tumor_dice", "tumor_surface_dice", "lesion_dice", "panoptic_quality", "recall")
        assert [scores[name] for name in names] == [0] * 5


def test_the_summary_counts_what_is_defined():
    cases = [
        score_case(PREDICTIONS[predicted], REFERENCES[present], SPACING if known else UNKNOWN)
        for predicted, present, known in COMBINATIONS
    ]
    summary = summarize_cases(cases)
    rules = [undefined(*each, "intended") for each in COMBINATIONS]
    for structure, name in product(("liver", "tumor"), ("rvd", "surface_dice", *ALL_DISTANCES)):
        defined = sum(f"{structure}_{name}" not in names for names in rules)
        assert summary[structure]["n_defined"][name] == defined, name
    defined = [score for names, score in zip(rules, cases, strict=True) if "lesion_dice" not in names]
    assert summary["lesions"]["n_defined_lesion_dice"] == len(defined) < len(cases)
    assert summary["lesions"]["lesion_dice"] == pytest.approx(np.mean([c["lesion_dice"] for c in defined]))


def test_one_entry_makes_a_score(monkeypatch):
    def extra_ml(pair: Comparison) -> float:
        return float(pair.counts.false_positives) * np.prod(pair.spacing_mm) / 1000

    monkeypatch.setitem(SCORES, "extra_ml", Score(extra_ml, "extra (ml)"))
    monkeypatch.setitem(SCORES, "furthest", Score(lambda pair: pair.distances.both.max(), of_each_tumor=True))
    found, surplus = np.s_[9:13, 15:25, 15:23], np.s_[4:6, 20:22, 4:6]
    scores = score_case(labels(tumors=(found, surplus)), labels(tumors=(NEAR, FAR)), SPACING)
    assert scores["tumor_extra_ml"] == pytest.approx(8 * 2.0 * 0.8 * 0.7 / 1000)
    assert scores["liver_extra_ml"] == 0
    assert scores["tumor_furthest"] == scores["tumor_msd"] > 0 and scores["liver_furthest"] == 0
    summary = summarize_cases([scores, scores])["tumor"]
    assert summary["extra_ml"] == scores["tumor_extra_ml"] and summary["n_defined"]["extra_ml"] == 2


SMALL_SPACING = (2.0, 1.0, 1.0)
SMALL, LARGE = np.s_[1:3, 1:4, 1:4], np.s_[4:8, 6:12, 6:12]  # 18 and 144 voxels
HALF_LARGE = np.s_[4:8, 6:12, 6:10]  # 96 of LARGE's voxels: detected


def small_labels(*tumors, liver=True) -> np.ndarray:
    return labelled((10, 14, 14), *tumors, liver=np.s_[:] if liver else NOWHERE)


def cases(mode="intended") -> list[dict]:
    pairs = [
        (small_labels(SMALL, LARGE), small_labels(SMALL, LARGE)),  # perfect: two detected
        (small_labels(HALF_LARGE), small_labels(SMALL, LARGE)),  # one detected, one missed
        (small_labels(), small_labels()),  # no tumour on either side
        (small_labels(SMALL), small_labels()),  # a surplus one
        (small_labels(), small_labels(LARGE)),  # a missed one
        (small_labels(liver=False), small_labels(SMALL)),  # nothing predicted at all
    ]
    return [score_case(prediction, reference, SMALL_SPACING, mode) for prediction, reference in pairs]


def test_summary_by_hand():
    each = cases()
    summary = summarize_cases(each)
    assert summary == summarize_cases(pd.DataFrame(each)) == summarize_cases(pd.DataFrame(each, [0] * 6))
    tumor, second = summary["tumor"], 2 * 96 / (96 + 162)
    assert tumor["dice_per_case"] == pytest.approx((1 + second + 1 + 0 + 0 + 0) / 6)
    assert tumor["dice_global"] == pytest.approx(2 * (162 + 96) / (324 + (96 + 162) + 0 + 18 + 144 + 18))
    assert (tumor["n_cases"], tumor["n_empty_reference"], tumor["n_missed"]) == (6, 2, 2)
    assert tumor["rvd"] == pytest.approx(np.mean([0, 96 / 162 - 1, -1, -1]))
    assert tumor["n_defined"]["rvd"] == 4 and tumor["n_defined"]["dice_per_case"] == 6
    for name in DISTANCES:  # every detected tumour alike: 0 twice in the first case, once something
        assert tumor[name] == pytest.approx(each[1][f"tumor_{name}"] / 3)
        assert tumor["n_defined"][name] == 3
    assert tumor["msd"] == pytest.approx(2 / 3)
    found = summary["detection"]
    assert [found[key] for key in ("true_positives", "false_positives", "false_negatives")] == [3, 1, 3]
    for suffix in ("", "_greater_zero"):
        assert (found[f"precision{suffix}"], found[f"recall{suffix}"]) == (3 / 4, 3 / 6)
    burden, voxels = summary["tumor_burden"], small_labels().size
    errors = np.array([0, 162 - 96, 0, -18, 144]) / voxels  # undefined in the last case: no liver there
    assert burden["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert (burden["max_error"], burden["n_defined"]) == (pytest.approx(144 / voxels), 5)
    with pytest.raises(InputError, match="no case"):
        summarize_cases([])


def test_as_shipped_the_greatest_burden_error_is_signed_and_what_is_missed_has_defaults():
    surplus = [(small_labels(LARGE), small_labels(SMALL)), (small_labels(), small_labels(SMALL))]
    for mode, expected in (("intended", 126), ("lits_asis", 18)):
        scored = [score_case(prediction, reference, SMALL_SPACING, mode) for prediction, reference in surplus]
        error = summarize_cases(scored, mode)["tumor_burden"]["max_error"]
        assert error * small_labels().size == pytest.approx(expected)
    each = [score_case(small_labels(liver=False), small_labels(SMALL), SMALL_SPACING, "lits_asis")] * 2
    assert each[0]["tumor_burden_prediction"] == 9001
    summary = summarize_cases(each, "lits_asis")
    assert [summary["liver"][name] for name in ("dice_per_case", "jaccard", "voe")] == [0, 0, 1]
    assert {summary["liver"][name] for name in ("rvd", *DISTANCES)} == {9001}
    assert (summary["tumor"]["assd"], summary["tumor"]["n_defined"]["assd"]) == (9001, 0)
    assert np.isnan(summarize_cases(each)["tumor"]["assd"])


def test_panoptic_quality_of_all_cases_is_that_of_one_with_all_their_tumours():
    pairs = [
        (small_labels(SMALL, LARGE), small_labels(SMALL, LARGE)),  # two matches of IoU 1
        (small_labels(HALF_LARGE), small_labels(SMALL, LARGE)),  # one of 2 / 3, one missed
        (small_labels(SMALL), small_labels()),  # none, one surplus
    ]
    found = summarize_cases([score_case(*pair, SMALL_SPACING) for pair in pairs])["lesions"]
    beside_each_other = [np.concatenate([pair[side] for pair in pairs]) for side in (0, 1)]
    whole = score_case(*beside_each_other, SMALL_SPACING)
    for name in ("panoptic_quality", "segmentation_quality", "recognition_quality"):
        assert found[name] == pytest.approx(whole[name])
    assert found["segmentation_quality"] == pytest.approx((2 + 96 / 144) / 3)
    assert found["n_tumors_matched"] == 3
    assert found["lesion_dice"] == pytest.approx((1 + 0.8 / 2 + 0) / 3)


pairs = arrays(np.uint8, (2, 2, 3, 3), elements=st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(pairs)
@example(np.zeros((2, 2, 3, 3), np.uint8))  # both empty
@example(np.stack([np.full((2, 3, 3), 2, np.uint8), np.ones((2, 3, 3), np.uint8)]))  # tumours without liver
def test_as_score_case_has_it(labels):
    scores = score_case(*labels, (1.0, 1.0, 1.0))
    for structure in ("liver", "tumor"):
        assert structure_dice(*labels, structure) == pytest.approx(scores[f"{structure}_dice"])


def specks(first: int) -> np.ndarray:
    """16,384 tumours of one voxel in a liver of 32 x 64 x 64, the first of each pair of rows at `first`."""
    return labelled((32, 64, 64), np.s_[::2, ::2, first::2])


def test_thousands_of_specks_are_told_apart():
    found = score_case(specks(0), specks(0), SMALL_SPACING)
    for name in ("n_tumors_prediction", "n_tumors_reference", "true_positives", "n_tumors_matched"):
        assert found[name] == 16384, name
    assert found["lesion_dice"] == found["panoptic_quality"] == 1.0 and found["false_positives"] == 0
    assert found["tumor_assd"] == found["tumor_hd95"] == 0.0
    overlap = tumor_overlap(specks(0), specks(1))
    assert overlap.table.nnz <= 2 * 16384 + 1 and overlap.pairs == []
