"""Scores of slices and of names given to them, and what a split by slice makes of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from livseg_lib.errors import InputError
from livseg_lib.evaluation import slices
from livseg_lib.evaluation.masks import dice, overlap_counts

PROBABILITIES = np.array(
    [
        [[0.9, 0.6], [0.2, 0.1]],  # two predicted, one of them right, none missed
        [[0.4, 0.1], [0.1, 0.1]],  # present by 0.30 but not predicted by 0.5; there is something
        [[0.1, 0.1], [0.1, 0.1]],  # nothing, rightly
        [[0.35, 0.0], [0.0, 0.0]],  # present by 0.30, but there is nothing
    ]
)
REFERENCE = np.zeros((4, 2, 2), bool)
REFERENCE[0, 0, 0] = REFERENCE[1, 0] = True


@pytest.mark.parametrize("planes", [PROBABILITIES, np.rint(PROBABILITIES * 255).astype(np.uint8)])
def test_hand_values(planes):
    rows = slices.score_slices(planes, REFERENCE, threshold=0.5)
    nan = np.nan
    expected = {
        "dice": [2 / 3, 0, nan, nan],
        "iou": [1 / 2, 0, nan, nan],
        "pixel_accuracy": [3 / 4, 1 / 2, 1, 1],
        "precision": [1 / 2, nan, nan, nan],
        "recall": [1, 0, nan, nan],
        "n_reference": [1, 2, 0, 0],
        "n_predicted": [2, 0, 0, 0],
        "present_reference": [True, True, False, False],
        "present_predicted": [True, True, False, True],
    }
    assert list(rows) == list(expected)
    for column, values in expected.items():
        np.testing.assert_allclose(rows[column].astype(float), values, err_msg=column)


def test_summary_counts_what_is_undefined():
    summary = slices.summarize_slices(slices.score_slices(PROBABILITIES, REFERENCE, threshold=0.5))
    assert (summary["n_slices"], summary["n_slices_present"], summary["presence_accuracy"]) == (4, 2, 0.75)
    assert (summary["dice"], summary["n_undefined_dice"]) == (pytest.approx(1 / 3), 2)
    assert (summary["precision"], summary["n_undefined_precision"]) == (0.5, 3)
    assert (summary["pixel_accuracy"], summary["n_undefined_pixel_accuracy"]) == (pytest.approx(13 / 16), 0)
    nothing = slices.summarize_slices(slices.score_slices(PROBABILITIES[:0], REFERENCE[:0], 0.5))
    assert nothing["n_slices"] == 0 and np.isnan([nothing["dice"], nothing["presence_accuracy"]]).all()
    with pytest.raises(InputError, match="shape"):
        slices.score_slices(PROBABILITIES, REFERENCE[:2], 0.5)


CLASSES = ("chest", "liver", "pelvis")


def test_confusion_by_hand():
    truth = ["chest"] * 3 + ["liver"] * 5 + ["pelvis"] * 2
    called = ["chest", "chest", "liver", "liver", "liver", "liver", "chest", "pelvis", "pelvis", "pelvis"]
    confusion = slices.confusion_matrix(truth, called, CLASSES)
    np.testing.assert_array_equal(confusion, [[2, 1, 0], [1, 3, 1], [0, 0, 2]])
    assert slices.accuracy(confusion) == 0.7
    scores = slices.class_scores(confusion).set_index("class")
    found = scores.loc["liver", ["precision", "recall", "specificity", "f1"]].tolist()
    assert found == pytest.approx([3 / 4, 3 / 5, 4 / 5, 6 / 9])
    assert scores.loc["chest", "specificity"] == pytest.approx(6 / 7)
    assert scores.loc[slices.MACRO, "recall"] == pytest.approx((2 / 3 + 3 / 5 + 1) / 3)
    assert scores.n_slices.tolist() == [3, 5, 2, 10]


def test_undefined_is_nan_and_counted_never_zero():
    counts = slices.confusion_matrix(["liver"] * 3, ["liver"] * 3, CLASSES)
    scores = slices.class_scores(counts).set_index("class")
    assert scores.loc["chest", ["precision", "recall", "f1"]].isna().all()
    assert scores.loc["chest", "specificity"] == 1 and np.isnan(scores.loc["liver", "specificity"])
    assert scores.loc[slices.MACRO, ["precision", "recall", "specificity", "f1"]].tolist() == [1, 1, 1, 1]
    assert scores.n_undefined.tolist() == [3, 1, 3, 7]
    counts = slices.confusion_matrix(["chest"], ["liver"], CLASSES)
    never_called = slices.class_scores(counts).set_index("class")
    assert np.isnan(never_called.loc["chest", "precision"]) and never_called.loc["chest", "recall"] == 0
    assert np.isnan(slices.accuracy(slices.confusion_matrix([], [], CLASSES)))


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="2 names for 1 truths"):
        slices.confusion_matrix(["liver"], ["liver", "liver"], CLASSES)
    with pytest.raises(InputError, match="lack 'spleen'"):
        slices.confusion_matrix(["liver"], ["spleen"], CLASSES)


def test_thresholds_by_hand():
    scores, truth = np.array([0.9, 0.8, 0.3, 0.2, 0.95]), np.array([True, True, True, True, False])
    found = [slices.threshold_for_recall(scores, truth, r) for r in (1.0, 0.75, 0.7, 0.25, 1e-12)]
    assert found == [0.2, 0.3, 0.3, 0.9, 0.9]
    with pytest.raises(InputError, match="nothing to find"):
        slices.threshold_for_recall(scores, ~truth & False, 0.99)
    with pytest.raises(InputError, match="recall"):
        slices.threshold_for_recall(scores, truth, 0.0)


planes = arrays.arrays(np.uint8, (3, 4, 4), elements=st.integers(1, 254))
masks = arrays.arrays(bool, (3, 4, 4))


def table(**dice_of: list[float | None]) -> pd.DataFrame:
    """Rows of protocols: patient and slice follow the place in the list, two slices a patient."""
    rows = [
        {"protocol": protocol, "patient": f"p{i // 2}", "case": f"c{i // 2}", "slice": i % 2}
        | dict.fromkeys(slices.SLICE_METRICS, value)
        | {"n_reference": 10, "n_predicted": 10, "present_reference": True, "distance": 1.0}
        for protocol, values in dice_of.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


@settings(max_examples=20, deadline=None)
@given(planes, masks)
def test_the_loss_is_the_one_that_networks_learn_by(levels, reference):
    from livseg_lib.training.losses import get_loss

    own = np.mean([slices.bce_dice_loss(*pair) for pair in zip(levels, reference, strict=True)])
    truth, probability = reference[..., None].astype(np.float32), (levels / 255)[..., None].astype(np.float32)
    assert own == pytest.approx(float(get_loss("bce_picture_dice")(truth, probability)), abs=1e-4)


def test_a_certain_error_costs_a_bounded_loss():
    right, wrong = np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8)
    truth = np.ones((2, 2), bool)
    assert slices.bce_dice_loss(right, truth) == pytest.approx(-np.log(1 - 0.5 / 255))
    assert slices.bce_dice_loss(wrong, truth) == pytest.approx(np.log(510) + 1 - 1 / 5)


def test_overlaps_belong_to_slices_that_show_the_structure():
    reference = np.zeros((2, 2, 2), bool)
    reference[0, 0] = True
    levels = np.zeros((2, 2, 2), np.uint8)
    levels[:, 0, 0] = 255  # half of the first, a false alarm in the second
    rows = slices.score_held_out(levels, reference)
    assert rows["dice"].iloc[0] == pytest.approx(2 / 3) and rows["recall"].iloc[0] == 0.5
    assert rows.loc[1, list(slices.OVERLAPS)].isna().all()
    assert rows["presence_accuracy"].tolist() == [1.0, 0.0]
    assert rows["pixel_accuracy"].tolist() == [0.75, 0.75]
    seen = np.full((1, 2, 2), 90, np.uint8)  # 0.35: present only
    faint = slices.score_held_out(seen, np.ones((1, 2, 2), bool))
    assert faint["presence_accuracy"].tolist() == [1.0] and faint["dice"].tolist() == [0.0]


@settings(max_examples=30, deadline=None)
@given(planes, masks)
def test_pooled_dice_is_that_of_all_pixels_together(levels, reference):
    scores = slices.score_held_out(levels, reference).assign(patient="p")
    expected = dice(overlap_counts(levels >= 128, reference)) if reference.any() else np.nan
    assert slices.patient_table(scores)["pooled_dice"].tolist() == pytest.approx([expected], nan_ok=True)


def test_inflation_by_hand():
    scores = table(a=[0.9, 0.7, 0.5, 0.5, 1.0, 0.8], b=[0.4, 0.2, 0.5, 0.3, 0.6, 0.6])
    found = slices.inflation_table(scores, {"the split": ("a", "b")}).set_index("metric")
    # Patients gain 0.5, 0.1 and 0.3.
    assert found.loc["dice", "difference"] == pytest.approx(30.0) and found.loc["dice", "unit"] == "points"
    assert found.loc["loss", "difference"] == pytest.approx(0.3) and found.loc["loss", "unit"] == "loss"
    assert 9.99 <= found.loc["dice", "low"] < 30 < found.loc["dice", "high"] <= 50.01
    assert (found["n_patients"] == 3).all() and (found["n_undefined"] == 0).all()


def test_patients_weigh_alike_however_many_slices_they_have():
    scores = table(a=[1.0, 1.0, 0.0, 0.0])
    crowded = pd.concat([scores, scores[scores.patient == "p0"], scores[scores.patient == "p0"]])
    values = slices.protocol_values(crowded).set_index("metric")
    assert values.loc["dice", "value"] == 0.5 and values.loc["dice", "over_slices"] == 0.75


def test_undefined_scores_are_counted_and_patients_without_any_left_out():
    scores = table(a=[0.5, 0.5, 0.9, 0.9], b=[0.2, 0.4, np.nan, np.nan])
    values = slices.protocol_values(scores).set_index(["protocol", "metric"])
    absent = scores.assign(present_reference=[True] * 7 + [False])
    counts = slices.protocol_values(absent).set_index(["protocol", "metric"])[["n_slices", "n_undefined"]]
    assert counts.loc[("b", "dice")].tolist() == [2, 1] and counts.loc[("b", "loss")].tolist() == [2, 2]
    assert values.loc[("b", "precision"), ["n_slices", "n_undefined", "n_patients"]].tolist() == [2, 2, 1]
    row = slices.inflation_table(scores, {"q": ("a", "b")}).set_index("metric").loc["precision"]
    assert (row["n_patients"], row["n_undefined"]) == (1, 1) and row["difference"] == pytest.approx(20)


@pytest.mark.parametrize("seed", range(3))
def test_distance_goes_with_its_slice_whatever_the_order_of_rows(seed):
    scores = table(slice=[0.9, 0.5, 0.9, 0.5], patient=[0.3, 0.1, 0.3, 0.1])
    by_slice = scores["protocol"] == "slice"
    scores.loc[by_slice, "distance"] = [1.0, 7.0, 1.0, 7.0]
    scores.loc[~by_slice, "distance"] = np.nan
    found = slices.by_distance(scores.sample(frac=1, random_state=seed), [("slice", "patient")])
    assert found.protocol.tolist() == ["slice", "patient"] * 2 and (found.n_slices == 2).all()
    assert found.from_slices.tolist() == [1, 1, 5, 5] and found.to_slices.tolist() == [1, 1, 9, 9]
    assert found.value.tolist() == pytest.approx([0.9, 0.3, 0.5, 0.1])
