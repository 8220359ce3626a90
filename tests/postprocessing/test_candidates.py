"""Features against hand values on boxes and balls, what holds for any candidate, and which ones stay."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from solids import ball, box, scan

from livseg_lib.errors import InputError
from livseg_lib.postprocessing import candidates

SPACING_MM = (3.0, 1.0, 0.5)
SHAPE = (20, 60, 100)
LIVER = box(SHAPE, (1, 5, 10), (19, 55, 90))
LIVER.setflags(write=False)  # as of a file that is mapped into memory
SPACINGS = [(1.0, 1.0, 1.0), (2.0, 0.7, 0.7), (0.8, 1.5, 0.6)]


def features_of(tumor: np.ndarray, liver=LIVER, hu=None, spacing_mm=SPACING_MM):
    hu = scan(liver, tumor) if hu is None else hu
    return candidates.candidate_features(tumor, liver, hu, spacing_mm)[0]


def test_a_box_has_the_values_of_its_sides():
    row = features_of(box(SHAPE, (6, 20, 30), (10, 26, 78))).loc[1]  # 12 x 6 x 24 mm
    assert row.volume_ml == pytest.approx(1.728)
    assert row.diameter_mm == pytest.approx((6 * 1728 / np.pi) ** (1 / 3))
    assert (row.elongation, row.flatness, row.extent) == pytest.approx((0.5, 0.25, 1.0))
    assert row.longest_axis_mm == pytest.approx(24 * np.sqrt(5 / 3))
    # From the liver's faces: 12 mm of voxels above, 9 of them + 1 to the first outside; 6 mm right at W.
    sheet, thread = box(SHAPE, (8, 20, 20), (9, 50, 80)), box(SHAPE, (8, 30, 20), (9, 31, 80))
    rows = [features_of(mask).loc[1] for mask in (sheet, thread)]
    assert [each.elongation for each in rows] == pytest.approx([1, 0.1])
    assert rows[0].flatness == pytest.approx(0.1) and max(each.sphericity for each in rows) < 0.6
    assert row.gap_mm == pytest.approx(min((90 - 77) * 0.5, (20 - 4) * 1.0, (6 - 0) * 3.0))


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_ball_is_round_whatever_the_spacing(spacing_mm):
    shape = tuple(int(30 / mm) for mm in spacing_mm)
    inside = ball(shape, (14, 14, 14), 10, spacing_mm)
    np.testing.assert_allclose(candidates.principal_lengths_mm(inside, np.array(spacing_mm)), 20, rtol=0.03)
    assert 0.85 < candidates.sphericity(inside, np.array(spacing_mm)) <= 1
    liver = np.ones(shape, bool)
    row = features_of(inside, liver, spacing_mm=spacing_mm).loc[1]
    assert row.diameter_mm == pytest.approx(20, rel=0.03)
    assert row.elongation > 0.96 and row.flatness > 0.94 and row.extent == pytest.approx(np.pi / 6, rel=0.15)


def test_hu_are_compared_with_the_liver_around():
    tumor = box(SHAPE, (6, 20, 30), (10, 26, 78))
    hu = scan(LIVER, tumor, contrast_hu=50)
    hu[LIVER & ~tumor & (np.indices(SHAPE)[1] > 35)] = 140  # far from it: the median, not the rim
    row = features_of(tumor, hu=hu).loc[1]
    assert (row.mean_hu, row.std_hu, row.p10_hu, row.median_hu, row.p90_hu) == (50, 0, 50, 50, 50)
    assert (row.rim_contrast_hu, row.liver_contrast_hu) == (50, 50)
    hu[tumor] = np.where(np.arange(tumor.sum()) % 2, 40, 60)
    row = features_of(tumor, hu=hu).loc[1]
    assert (row.mean_hu, row.std_hu, row.p10_hu, row.p90_hu) == (50, 10, 40, 60)
    neighbours = box(SHAPE, (6, 5, 30), (10, 11, 50)) | box(SHAPE, (6, 12, 30), (10, 18, 50))  # beside air
    assert features_of(neighbours).rim_contrast_hu.tolist() == [50, 50]


def test_a_sharp_border_has_a_larger_gradient_than_a_blurred_one():
    tumor = box(SHAPE, (6, 20, 30), (10, 40, 70))
    sharp = scan(np.ones(SHAPE, bool), tumor)
    blurred = gaussian_filter(sharp.astype(float), (1.3, 4, 8)).astype(np.int16)
    liver = np.ones(SHAPE, bool)
    gradients = [features_of(tumor, liver, hu).loc[1].border_gradient for hu in (sharp, blurred)]
    assert gradients[0] > 2 * gradients[1] > 0


def test_a_single_voxel_has_all_features_but_texture():
    tumor = np.zeros(SHAPE, bool)
    tumor[8, 30, 50] = True
    row = features_of(tumor).loc[1]
    texture = [name for name in candidates.FEATURES if name.startswith("texture_")]
    assert row[texture].isna().all() and np.isfinite(row.drop(texture)).all()
    assert (row.volume_ml, row.elongation, row.extent) == pytest.approx((0.0015, 1 / 3, 1))


def test_candidates_outside_any_liver_have_no_depth_and_no_contrast():
    tumor = box(SHAPE, (8, 28, 40), (9, 32, 60))
    row = features_of(tumor, np.zeros(SHAPE, bool)).loc[1]
    assert (row.depth_mm, row.gap_mm) == (0, 0)
    assert np.isnan([row.rim_contrast_hu, row.liver_contrast_hu]).all() and row.volume_ml > 0


def test_the_table_follows_the_ids():
    tumor = box(SHAPE, (2, 10, 20), (4, 12, 30)) | box(SHAPE, (8, 28, 40), (12, 40, 60))
    table, ids = candidates.candidate_features(tumor, LIVER, scan(LIVER, tumor), SPACING_MM)
    assert list(table.columns) == list(candidates.FEATURES) and table.index.tolist() == [1, 2]
    np.testing.assert_array_equal(ids > 0, tumor)
    volumes = np.bincount(ids.ravel())[1:] * np.prod(SPACING_MM) / 1000
    np.testing.assert_allclose(table.volume_ml, volumes)
    near = features_of(box(SHAPE, (8, 6, 40), (9, 8, 44))).loc[1]
    assert near.depth_mm == pytest.approx(2.5)
    with pytest.raises(InputError, match="without a size in mm"):
        features_of(tumor, spacing_mm=(np.nan,) * 3)
    with pytest.raises(InputError, match="not volumes of one shape"):
        candidates.candidate_features(tumor, LIVER[1:], tumor * np.int16(1), SPACING_MM)


@pytest.mark.parametrize("shape", [(4, 8, 8), (1, 8, 8)])
def test_nothing_gives_an_empty_table_and_a_single_slice_works(shape):
    nothing, liver = np.zeros(shape, bool), np.ones(shape, bool)
    table, ids = candidates.candidate_features(nothing, liver, scan(liver, nothing), SPACING_MM)
    assert table.shape == (0, len(candidates.FEATURES)) and not ids.any()
    assert candidates.match_candidates(ids, liver).shape == (0,)
    tumor = box(shape, (0, 2, 2), (1, 6, 6))
    row = features_of(tumor, liver).loc[1]  # in a liver as large as the scan, without a surface
    assert row.index[row.isna()].tolist() == ["depth_mm", "gap_mm"] and not np.isinf(row).any()
    whole = features_of(liver, liver).loc[1]
    assert whole.volume_ml > 0 and np.isnan(whole.border_gradient)


@pytest.mark.parametrize(("overlap", "expected"), [(0.0, [True, True, False]), (0.5, [False, True, False])])
def test_a_candidate_is_true_by_the_share_of_its_voxels(overlap, expected):
    ids = np.zeros((1, 3, 4), np.uint16)
    ids[0, 0], ids[0, 1], ids[0, 2] = 1, 2, 3
    reference = np.zeros(ids.shape, bool)
    reference[0, 0, :2], reference[0, 1, :3] = True, True
    assert candidates.match_candidates(ids, reference, overlap).tolist() == expected
    with pytest.raises(InputError):
        candidates.match_candidates(ids, reference, 1.0)


@pytest.mark.parametrize(
    ("pixel_mm", "contrast"),
    # 8 columns of 0 and 100 HU by turns (levels 2 and 8 of 18.75 HU): pairs that differ, of all pairs.
    [
        (1.0, 36 * 98 / (48 + 48 + 98)),  # 2 pixels along rows: the same column; diagonals of 1 pixel differ
        (2.0, 36 * (56 + 98) / (56 + 56 + 98)),  # the next pixel
        (5.0, 36 * (56 + 98) / (56 + 56 + 98)),  # pixels are never less than one apart
        (0.5, 36 * 50 / (32 + 32 + 50)),  # 4 pixels; diagonals of 3
    ],
)
def test_texture_compares_pixels_2_mm_apart(pixel_mm, contrast):
    hu = np.tile(np.array([0, 100], np.int16), (1, 8, 4))
    found = candidates.texture_features(hu, np.ones(hu.shape, bool), np.array([5.0, pixel_mm, pixel_mm]))
    assert found["texture_contrast"] == pytest.approx(contrast)
    row = features_of(ball(SHAPE, (27, 30, 25), 10, SPACING_MM)).loc[1]  # what lies around it does not count
    assert (row.texture_contrast, row.texture_homogeneity, row.texture_energy) == (0, 1, 1)


PROBABILITY = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.3])
TRUTH = np.array([True, False, True, False, True, False])


@pytest.mark.parametrize(
    ("least_recall", "threshold", "recall", "false_after"),
    [
        (1.0, 0.4, 1, 2),
        (0.67, 0.4, 1, 2),
        (0.66, 0.65, 2 / 3, 1),
        (0.3, 0.85, 1 / 3, 0),
        (1e-12, 0.85, 1 / 3, 0),
    ],
)
def test_fewest_false_alarms_at_the_recall_asked_for(least_recall, threshold, recall, false_after):
    chosen = candidates.choose_forest_threshold(PROBABILITY, TRUTH, least_recall)
    assert (chosen.threshold, chosen.recall) == pytest.approx((threshold, recall))
    assert chosen[2:] == (3, 3, false_after, "")


def test_what_cannot_be_chosen_is_said():
    nothing = candidates.choose_forest_threshold(np.zeros(0), np.zeros(0, bool))
    assert nothing.threshold == 0 and nothing.note.startswith("There was no candidate ")
    false_only = candidates.choose_forest_threshold(PROBABILITY, np.zeros(6, bool))
    assert false_only.false_after == 6 and "no true tumour among 6 candidates" in false_only.note
    true_only = candidates.choose_forest_threshold(PROBABILITY, np.ones(6, bool))
    assert true_only.recall == 1 and "nothing to filter" in true_only.note
    with pytest.raises(InputError):
        candidates.choose_forest_threshold(PROBABILITY, TRUTH, 0)


def test_filtering_drops_whole_candidates_and_nothing_else():
    ids = np.array([[[0, 1, 1, 2], [3, 3, 0, 2]]], np.uint16)
    kept = candidates.filter_candidates(ids, np.array([0.2, 0.5, 0.9]), 0.5)
    np.testing.assert_array_equal(kept, ids >= 2)
    assert candidates.filter_candidates(ids, np.zeros(3), 0.0).sum() == (ids > 0).sum()
    with pytest.raises(InputError, match="up to 3, but there are 2"):
        candidates.filter_candidates(ids, np.zeros(2), 0.5)
    assert not candidates.filter_candidates(np.zeros((1, 2, 2), np.uint16), np.zeros(0), 0.5).any()
