from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.evaluation.cases import score_case, summarize_cases

SPACING = (2.0, 1.0, 1.0)
SMALL, LARGE = np.s_[1:3, 1:4, 1:4], np.s_[4:8, 6:12, 6:12]  # 18 and 144 voxels
HALF_LARGE = np.s_[4:8, 6:12, 6:10]  # 96 of LARGE's voxels: detected


def labels(*tumors, liver=True) -> np.ndarray:
    volume = np.full((10, 14, 14), int(liver), np.uint8)
    for tumor in tumors:
        volume[tumor] = 2
    return volume


def cases(mode="intended") -> list[dict]:
    pairs = [
        (labels(SMALL, LARGE), labels(SMALL, LARGE)),  # perfect: two detected
        (labels(HALF_LARGE), labels(SMALL, LARGE)),  # one detected, one missed
        (labels(), labels()),  # no tumour on either side
        (labels(SMALL), labels()),  # a surplus one
        (labels(), labels(LARGE)),  # a missed one
        (labels(liver=False), labels(SMALL)),  # nothing predicted at all
    ]
    return [score_case(prediction, reference, SPACING, mode) for prediction, reference in pairs]


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


def test_liver():
    summary = summarize_cases(cases())["liver"]
    assert summary["dice_per_case"] == pytest.approx(5 / 6)
    assert (summary["n_cases"], summary["n_empty_reference"], summary["n_missed"]) == (6, 0, 1)
    assert summary["assd"] == 0 and summary["n_defined"]["assd"] == 5  # the missed one is counted, not hidden


def test_detection_is_pooled_over_cases():
    found = summarize_cases(cases())["detection"]
    assert [found[key] for key in ("true_positives", "false_positives", "false_negatives")] == [3, 1, 3]
    assert (found["precision"], found["recall"]) == (3 / 4, 3 / 6)
    assert (found["precision_greater_zero"], found["recall_greater_zero"]) == (3 / 4, 3 / 6)


def test_tumor_burden_errors():
    summary = summarize_cases(cases())["tumor_burden"]
    errors = (
        np.array([0, 162 - 96, 0, -18, 144]) / labels().size
    )  # undefined in the last case: no liver there
    assert summary["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert summary["max_error"] == pytest.approx(144 / labels().size)
    assert summary["n_defined"] == 5


def test_greatest_burden_error_is_signed_only_as_shipped():
    surplus = [(labels(LARGE), labels(SMALL)), (labels(), labels(SMALL))]
    errors = {}
    for mode in ("intended", "lits_asis"):
        scored = [score_case(prediction, reference, SPACING, mode) for prediction, reference in surplus]
        errors[mode] = summarize_cases(scored, mode)["tumor_burden"]["max_error"] * labels().size
    assert errors == pytest.approx({"intended": 126, "lits_asis": 18})


def test_shipped_defaults():
    each = [score_case(labels(liver=False), labels(SMALL), SPACING, "lits_asis")] * 2
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


def test_unknown_spacing_leaves_only_the_distances_undefined():
    each = [score_case(labels(SMALL), labels(SMALL), (np.nan,) * 3)]
    summary = summarize_cases(each)
    assert np.isnan(summary["liver"]["assd"]) and summary["tumor"]["n_defined"]["assd"] == 0
    assert summary["tumor"]["dice_per_case"] == 1


def test_panoptic_quality_of_all_cases_is_that_of_one_with_all_their_tumours():
    pairs = [
        (labels(SMALL, LARGE), labels(SMALL, LARGE)),  # two matches of IoU 1
        (labels(HALF_LARGE), labels(SMALL, LARGE)),  # one of 2 / 3, one missed
        (labels(SMALL), labels()),  # none, one surplus
    ]
    found = summarize_cases([score_case(*pair, SPACING) for pair in pairs])["lesions"]
    beside_each_other = [np.concatenate([pair[side] for pair in pairs]) for side in (0, 1)]
    whole = score_case(*beside_each_other, SPACING)
    for name in ("panoptic_quality", "segmentation_quality", "recognition_quality"):
        assert found[name] == pytest.approx(whole[name])
    assert (
        found["segmentation_quality"] == pytest.approx((2 + 96 / 144) / 3) and found["n_tumors_matched"] == 3
    )
    assert found["lesion_dice"] == pytest.approx((1 + 0.8 / 2 + 0) / 3)


def test_surface_dice_is_a_mean_over_cases_and_hd95_over_detected_tumours():
    each = cases()
    summary = summarize_cases(each)["tumor"]
    shares = [case["tumor_surface_dice"] for case in each]
    assert np.isnan(shares[2]) and shares[3:] == [0, 0, 0]  # nothing on either side; on one side
    assert summary["surface_dice"] == pytest.approx(np.nanmean(shares))
    assert summary["n_defined"]["surface_dice"] == 5
    assert summary["hd95"] == pytest.approx(each[1]["tumor_hd95"] / 3)
