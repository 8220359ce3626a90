"""Scores of a case and of many: by hand, by the rules of what is undefined, and for thousands of specks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from livseg_lib.errors import InputError
from livseg_lib.evaluation.cases import SCORES, Comparison, Score, score_case, summarize_cases
from livseg_lib.evaluation.froc import find_tumor_candidates
from livseg_lib.evaluation.lesions import detect_lesions, lesion_rows, tumor_overlap
from livseg_lib.evaluation.masks import assd, msd, rmsd, structure_dice, surface_distances
from livseg_lib.postprocessing.measures import measure_tumors

SHAPE = (16, 30, 30)
SPACING = (2.0, 0.8, 0.7)
LIVER, NEAR, FAR = np.s_[2:14, 2:28, 2:28], np.s_[4:8, 4:10, 4:10], np.s_[9:13, 15:25, 15:25]
DISTANCES = ("assd", "rmsd", "msd")


def labels(liver=True, tumors=()) -> np.ndarray:
    volume = np.zeros(SHAPE, np.uint8)
    if liver:
        volume[LIVER] = 1
    for tumor in tumors:
        volume[tumor] = 2
    return volume


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
    assert (
        scores["tumor_burden_error"] == pytest.approx(burden) == pytest.approx((present - predicted) / 8112)
    )
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


NAN = np.nan
TUMOR_KEYS = ("dice", "jaccard", "voe", "rvd", "assd")
EMPTIES = {  # predicted tumours, reference tumours, dice, jaccard, voe, rvd, assd, precision, recall
    "both empty": ((), (), 1, 1, 0, NAN, NAN, 0, 0),
    "surplus": ((NEAR,), (), 0, 0, 1, NAN, NAN, 0, 0),
    "missed": ((), (NEAR,), 0, 0, 1, -1, NAN, 0, 0),
    "found": ((NEAR,), (NEAR,), 1, 1, 0, 0, 0, 1, 1),
}


@pytest.mark.parametrize(
    ("predicted", "present", *TUMOR_KEYS, "precision", "recall"), EMPTIES.values(), ids=EMPTIES
)
def test_empty_tumors(predicted, present, dice, jaccard, voe, rvd, assd, precision, recall):
    scores = score_case(labels(tumors=predicted), labels(tumors=present), SPACING)
    found = [scores[f"tumor_{key}"] for key in TUMOR_KEYS] + [scores["precision"], scores["recall"]]
    np.testing.assert_equal(found, [dice, jaccard, voe, rvd, assd, precision, recall])


def test_shipped_defaults_of_a_missed_liver():
    scores = score_case(labels(liver=False), labels(tumors=(NEAR,)), SPACING, mode="lits_asis")
    assert [scores[f"liver_{key}"] for key in ("dice", "jaccard", "voe")] == [0, 0, 1]
    assert {scores[f"liver_{key}"] for key in ("rvd", *DISTANCES)} == {9001}
    assert scores["tumor_burden_prediction"] == 9001


@pytest.mark.parametrize("mode", ["intended", "lits_asis"])
def test_nothing_on_either_side(mode):
    empty = labels(liver=False)
    scores = score_case(empty, empty, SPACING, mode)
    assert (scores["liver_dice"], scores["tumor_dice"]) == (0, 1)
    assert np.isnan(scores["tumor_burden_reference"]) and np.isnan(scores["liver_rvd"]) == (
        mode == "intended"
    )


def test_mode_changes_the_detection():
    speck = np.s_[2, 2, 2:4]  # comes first and so shifts the ids
    prediction, reference = labels(tumors=(speck, NEAR, FAR)), labels(tumors=(NEAR, FAR))
    for mode, expected in (("intended", (2, 1, 0)), ("lits_asis", (1, 2, 1))):
        scores = score_case(prediction, reference, SPACING, mode)
        found = tuple(scores[key] for key in ("true_positives", "false_positives", "false_negatives"))
        assert found == expected == detect_lesions(prediction, reference, mode=mode)
    with pytest.raises(InputError, match="mode"):
        score_case(prediction, reference, SPACING, "leaderboard")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.permutations((0, 1, 2)))
def test_place_flips_and_axis_order_change_nothing(seed, shift, axes):
    rng = np.random.default_rng(seed)
    pair = np.zeros((2, 10, 11, 12), np.int16)
    for volume in pair:
        volume[1:9, 1:10, 1:11] = rng.random((8, 9, 10)) < 0.95
        for corner in rng.integers(1, 7, (3, 3)):
            volume[tuple(slice(a, a + 3) for a in corner)] = 2
    expected = score_case(*pair, SPACING)
    moved = score_case(*np.pad(pair, ((0, 0), (shift, 0), (0, shift), (1, 1))), SPACING)
    assert moved == pytest.approx(expected, nan_ok=True)
    # Flips and turns give the tumours other ids, which may decide between equal overlaps in detection.
    voxelwise = {key for key in expected if key.startswith("liver_")}
    voxelwise |= {f"tumor_{key}" for key in ("dice", "jaccard", "voe", "rvd", "surface_dice", "burden_error")}
    voxelwise |= {"panoptic_quality", "segmentation_quality", "recognition_quality"}
    flipped = score_case(*pair[:, ::-1, :, ::-1], SPACING)
    turned = score_case(*(v.transpose(axes) for v in pair), [SPACING[a] for a in axes])
    for key in voxelwise:
        assert flipped[key] == pytest.approx(expected[key], nan_ok=True), key
        assert turned[key] == pytest.approx(expected[key], nan_ok=True), key


@pytest.mark.parametrize("dtype", [float, bool])
def test_other_arrays_are_refused(dtype):
    with pytest.raises(InputError, match="not integer labels"):
        score_case(labels().astype(dtype), labels(), SPACING)
    with pytest.raises(InputError, match="shape"):
        score_case(labels()[1:], labels(), SPACING)


UNKNOWN = (np.nan,) * 3
SMALL_LIVER, TUMOR, ELSEWHERE = np.s_[1:9, 1:11, 1:11], np.s_[2:5, 2:6, 2:6], np.s_[6:8, 7:10, 7:10]
ALL_DISTANCES = ("assd", "rmsd", "msd", "hd95")


def rules_labels(has_liver: bool, tumor=None) -> np.ndarray:
    volume = np.zeros((10, 12, 12), np.uint8)
    if has_liver:
        volume[SMALL_LIVER] = 1
    if tumor is not None:
        volume[tumor] = 2
    return volume


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
        for name in ("rvd", "surface_dice", *ALL_DISTANCES):
            defined = sum(f"{structure}_{name}" not in names for names in rules)
            assert summary[structure]["n_defined"][name] == defined, name
    defined = [score for names, score in zip(rules, cases, strict=True) if "lesion_dice" not in names]
    assert summary["lesions"]["n_defined_lesion_dice"] == len(defined) < len(cases)
    assert summary["lesions"]["lesion_dice"] == pytest.approx(np.mean([c["lesion_dice"] for c in defined]))
    found = [c["n_tumors_matched"] for c in cases]
    objects = sum(c["n_tumors_prediction"] + c["n_tumors_reference"] for c in cases)
    assert summary["lesions"]["panoptic_quality"] == pytest.approx(2 * sum(found) / objects)  # all exact hits


def test_one_entry_makes_a_score(monkeypatch):
    def extra_ml(pair: Comparison) -> float:
        return float(pair.counts.false_positives) * np.prod(pair.spacing_mm) / 1000

    monkeypatch.setitem(SCORES, "extra_ml", Score(extra_ml, "extra (ml)"))
    monkeypatch.setitem(SCORES, "furthest", Score(lambda pair: pair.distances.both.max(), of_each_tumor=True))
    found, surplus = np.s_[9:13, 15:25, 15:23], np.s_[4:6, 20:22, 4:6]
    scores = score_case(labels(tumors=(found, surplus)), labels(tumors=(NEAR, FAR)), SPACING)
    assert (
        scores["tumor_extra_ml"] == pytest.approx(8 * 2.0 * 0.8 * 0.7 / 1000)
        and scores["liver_extra_ml"] == 0
    )
    assert scores["tumor_furthest"] == scores["tumor_msd"] > 0 and scores["liver_furthest"] == 0
    summary = summarize_cases([scores, scores])["tumor"]
    assert summary["extra_ml"] == scores["tumor_extra_ml"] and summary["n_defined"]["extra_ml"] == 2


SMALL_SPACING = (2.0, 1.0, 1.0)
SMALL, LARGE = np.s_[1:3, 1:4, 1:4], np.s_[4:8, 6:12, 6:12]  # 18 and 144 voxels
HALF_LARGE = np.s_[4:8, 6:12, 6:10]  # 96 of LARGE's voxels: detected


def small_labels(*tumors, liver=True) -> np.ndarray:
    volume = np.full((10, 14, 14), int(liver), np.uint8)
    for tumor in tumors:
        volume[tumor] = 2
    return volume


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


def test_tumors():
    summary = summarize_cases(cases())["tumor"]
    second = 2 * 96 / (96 + 162)
    assert summary["dice_per_case"] == pytest.approx((1 + second + 1 + 0 + 0 + 0) / 6)
    assert summary["dice_global"] == pytest.approx(2 * (162 + 96) / (324 + (96 + 162) + 0 + 18 + 144 + 18))
    assert (summary["n_cases"], summary["n_empty_reference"], summary["n_missed"]) == (6, 2, 2)
    assert summary["rvd"] == pytest.approx(np.mean([0, 96 / 162 - 1, -1, -1]))
    assert summary["n_defined"]["rvd"] == 4 and summary["n_defined"]["dice_per_case"] == 6


def test_tumor_distances_weigh_every_detected_tumor_alike():
    each = cases()
    summary = summarize_cases(each)["tumor"]
    for name in ("assd", "rmsd", "msd"):  # 0 twice in the first case, once something in the second
        assert summary[name] == pytest.approx(each[1][f"tumor_{name}"] / 3)
        assert summary["n_defined"][name] == 3
    assert summary["msd"] == pytest.approx(2 / 3)


def test_detection_is_pooled_over_cases():
    found = summarize_cases(cases())["detection"]
    assert [found[key] for key in ("true_positives", "false_positives", "false_negatives")] == [3, 1, 3]
    assert (found["precision"], found["recall"]) == (3 / 4, 3 / 6)
    assert (found["precision_greater_zero"], found["recall_greater_zero"]) == (3 / 4, 3 / 6)


def test_tumor_burden_errors():
    summary = summarize_cases(cases())["tumor_burden"]
    errors = (
        np.array([0, 162 - 96, 0, -18, 144]) / small_labels().size
    )  # undefined in the last case: no liver there
    assert summary["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert summary["max_error"] == pytest.approx(144 / small_labels().size)
    assert summary["n_defined"] == 5


def test_greatest_burden_error_is_signed_only_as_shipped():
    surplus = [(small_labels(LARGE), small_labels(SMALL)), (small_labels(), small_labels(SMALL))]
    errors = {}
    for mode in ("intended", "lits_asis"):
        scored = [score_case(prediction, reference, SMALL_SPACING, mode) for prediction, reference in surplus]
        errors[mode] = summarize_cases(scored, mode)["tumor_burden"]["max_error"] * small_labels().size
    assert errors == pytest.approx({"intended": 126, "lits_asis": 18})


def test_shipped_defaults():
    each = [score_case(small_labels(liver=False), small_labels(SMALL), SMALL_SPACING, "lits_asis")] * 2
    summary = summarize_cases(each, "lits_asis")
    assert (summary["liver"]["dice_per_case"], summary["liver"]["voe"], summary["liver"]["assd"]) == (
        0,
        1,
        9001,
    )
    assert (summary["tumor"]["assd"], summary["tumor"]["n_defined"]["assd"]) == (9001, 0)
    assert np.isnan(summarize_cases(each)["tumor"]["assd"])


def test_table_and_list_agree_and_none_is_refused():
    assert summarize_cases(pd.DataFrame(cases())) == summarize_cases(cases())
    with pytest.raises(InputError, match="no case"):
        summarize_cases([])


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
    assert (
        found["segmentation_quality"] == pytest.approx((2 + 96 / 144) / 3) and found["n_tumors_matched"] == 3
    )
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
    labels = np.ones((32, 64, 64), np.uint8)
    labels[::2, ::2, first::2] = 2
    return labels


@pytest.fixture(scope="module")
def found():
    return score_case(specks(0), specks(0), SMALL_SPACING)


def test_each_is_found_by_itself(found):
    for name in ("n_tumors_prediction", "n_tumors_reference", "true_positives", "n_tumors_matched"):
        assert found[name] == 16384, name
    assert found["false_positives"] == found["false_negatives"] == 0
    assert found["lesion_dice"] == found["panoptic_quality"] == 1.0
    assert found["tumor_assd"] == found["tumor_hd95"] == 0.0


def test_the_table_holds_only_tumours_that_meet():
    overlap = tumor_overlap(specks(0), specks(1))
    assert overlap.table.nnz <= 2 * 16384 + 1 and overlap.pairs == []
    same = tumor_overlap(specks(0), specks(0))
    assert same.pairs[-1] == ((16384,), (16384,)) and len(same.pairs) == 16384


def test_each_has_a_row_with_its_size_and_its_place():
    rows = lesion_rows(specks(0), specks(0), SMALL_SPACING)
    assert len(rows) == 2 * 16384 and rows.detected.all() and (rows.iou == 1).all()
    assert rows.longest_diameter_mm.unique() == pytest.approx([0.5]) and (rows.volume_ml == 0.002).all()
    table = measure_tumors(None, specks(0), SMALL_SPACING)
    assert table.centre_slice.tolist() == np.repeat(np.arange(0, 32, 2), 32 * 32).tolist()


def test_candidates_of_a_curve_are_paired_one_to_one():
    candidates = find_tumor_candidates(specks(0) == 2, specks(0) == 2)
    assert len(candidates.found) == 16384 and len(candidates.false_positives) == 0
