from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.evaluation.cases import score_case
from livseg_lib.evaluation.lesions import detect_lesions, lesion_rows
from livseg_lib.evaluation.masks import assd, msd, rmsd, surface_distances

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


def test_perfect_prediction():
    truth = labels(tumors=(NEAR, FAR))
    scores = score_case(truth, truth, SPACING)
    ones = ("liver_dice", "liver_jaccard", "tumor_dice", "tumor_jaccard", "precision", "recall")
    zeros = [f"{name}_{score}" for name in ("liver", "tumor") for score in ("voe", "rvd", *DISTANCES)]
    assert {scores[key] for key in ones} == {1} and {scores[key] for key in zeros} == {0}
    assert scores["tumor_burden_reference"] == pytest.approx((4 * 6 * 6 + 4 * 10 * 10) / (12 * 26 * 26))
    assert scores["tumor_burden_error"] == 0
    assert (scores["n_tumors_reference"], scores["n_tumors_scored"], scores["true_positives"]) == (2, 2, 2)


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


def test_missed_liver():
    scores = score_case(labels(liver=False), labels(), SPACING)
    assert [scores[f"liver_{key}"] for key in ("dice", "jaccard", "voe", "rvd")] == [0, 0, 1, -1]
    assert np.isnan([scores[f"liver_{key}"] for key in DISTANCES]).all()
    assert np.isnan([scores["tumor_burden_prediction"], scores["tumor_burden_error"]]).all()


def test_prediction_without_label_one_has_no_liver():
    scores = score_case(labels(liver=False, tumors=(NEAR,)), labels(tumors=(NEAR,)), SPACING)
    assert (scores["liver_dice"], scores["liver_prediction_voxels"]) == (0, 0)
    assert (scores["tumor_dice"], scores["tumor_assd"]) == (1, 0)
    assert np.isnan(scores["tumor_burden_prediction"])


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


def test_without_spacing_only_the_distances_are_unknown():
    prediction, reference = labels(tumors=(NEAR,)), labels(tumors=(NEAR, FAR))
    known, unknown = (score_case(prediction, reference, sp) for sp in (SPACING, (np.nan, np.nan, np.nan)))
    scores = (*DISTANCES, "hd95", "surface_dice")
    in_mm = {f"{name}_{score}" for name in ("liver", "tumor") for score in scores}
    assert {key for key in known if known[key] != unknown[key]} == in_mm
    assert np.isnan([unknown[key] for key in in_mm]).all()


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


def ellipsoid(volume: np.ndarray, centre, radii, label: int) -> None:
    """Paint an ellipsoid (voxels) into `volume`."""
    box = tuple(slice(int(c - r) - 1, int(c + r) + 2) for c, r in zip(centre, radii, strict=True))
    grid = np.ogrid[box]
    inside = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1
    volume[box][inside] = label


def test_a_large_case_is_scored_in_seconds():
    rng = np.random.default_rng(0)
    reference, prediction = np.zeros((2, 450, 512, 512), np.uint8)
    ellipsoid(reference, (225, 250, 200), (120, 110, 140), 1)
    ellipsoid(prediction, (229, 254, 205), (118, 113, 138), 1)
    centres = [(z, y, x) for z in (160, 225, 290) for y in (200, 300) for x in (110, 150, 190, 230, 270)]
    for centre in centres:
        radii = rng.uniform(4, 18, 3)
        ellipsoid(reference, centre, radii, 2)
        ellipsoid(prediction, centre + rng.uniform(-3, 3, 3), radii * rng.uniform(0.8, 1.2), 2)
    start = time.process_time()
    scores = score_case(prediction, reference, (0.8, 0.7, 0.7))
    rows = lesion_rows(prediction, reference, (0.8, 0.7, 0.7))
    assert scores["n_tumors_reference"] == 30 == (rows.kind == "reference").sum()
    assert scores["liver_dice"] > 0.9
    assert time.process_time() - start < 30
