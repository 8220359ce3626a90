"""Overlap and surfaces of two masks: by hand, by properties, and against libraries that others wrote."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from livseg_lib.errors import InputError
from livseg_lib.evaluation import masks


def random_pair(seed: int, *, overlapping: bool = False) -> np.ndarray:
    """Two masks, bool (2, 12, 13, 14), of some boxes each; `overlapping` ones share a box at least."""
    rng = np.random.default_rng(seed)
    pair = np.zeros((2, 12, 13, 14), bool)
    pair[:, 4:6, 4:7, 4:8] = overlapping
    for mask in pair:
        for corner in rng.integers(0, 9, (rng.integers(1, 4), 3)):
            mask[tuple(slice(a, a + n) for a, n in zip(corner, rng.integers(1, 6, 3), strict=True))] = True
    return pair


SHAPES = array_shapes(min_dims=2, max_dims=3, max_side=6)


@settings(max_examples=80, deadline=None)
@given(SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.uint8, shape, elements=st.integers(0, 1))] * 2)))
def test_box_is_the_smallest_that_holds_both(pair):
    points = np.argwhere(pair[0] | pair[1])
    box = masks.foreground_box(*pair)
    ends = list(zip(points.min(0), points.max(0) + 1, strict=True)) if len(points) else [(0, 0)] * len(box)
    assert [(side.start, side.stop) for side in box] == ends


OVERLAP_SCORES = (masks.dice, masks.jaccard, masks.rvd, masks.precision, masks.recall, masks.pixel_accuracy)


def test_hand_values():
    prediction, reference = np.zeros((2, 1, 1, 10), bool)
    prediction[0, 0, :4], reference[0, 0, 1:7] = True, True  # 4 and 6 voxels, 3 in common, 3 in neither
    counts = masks.overlap_counts(prediction, reference)
    assert counts == (3, 1, 3, 3)
    found = [score(counts) for score in OVERLAP_SCORES]
    assert found == pytest.approx([6 / 10, 3 / 7, -2 / 6, 3 / 4, 3 / 6, 6 / 10])
    assert all(isinstance(value, float) for value in found)


def test_undefined_is_nan():
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    both_empty = masks.overlap_counts(empty, empty)
    assert [np.isnan(score(both_empty)) for score in OVERLAP_SCORES] == [True] * 5 + [False]
    surplus, missed = masks.overlap_counts(full, empty), masks.overlap_counts(empty, full)
    assert np.isnan([masks.recall(surplus), masks.rvd(surplus), masks.precision(missed)]).all()
    zeros = [masks.dice(surplus), masks.dice(missed), masks.precision(surplus), masks.recall(missed)]
    assert [*zeros, masks.rvd(missed)] == [0, 0, 0, 0, -1]


def test_counts_along_axes_are_those_of_each_plane():
    prediction, reference = np.random.default_rng(0).random((2, 5, 6, 7)) < 0.4
    counts = masks.overlap_counts(prediction, reference, axis=(1, 2))
    for k in range(5):
        assert masks.overlap_counts(prediction[k], reference[k]) == tuple(c[k] for c in counts)


def test_other_arrays_are_refused():
    mask = np.zeros((2, 2, 2), bool)
    for other, problem in ((mask[:, :, :1], r"shape \(2, 2, 2\)"), (mask.view(np.uint8), "uint8, not bool")):
        with pytest.raises(InputError, match=problem):
            masks.overlap_counts(mask, other)
    labels = mask.astype(np.uint8)
    for prediction, reference in ((labels + 255, labels), (labels, labels.astype(int) - 1)):
        with pytest.raises(InputError, match=r"labels other than 0, 1, 2: (255|-1) \(8 voxels\)"):
            masks.require_label_volumes(prediction, reference)


SPACING = (2.5, 0.7, 0.9)
SCORES = (masks.assd, masks.rmsd, masks.msd)


def scores(prediction, reference, spacing=SPACING) -> list[float]:
    distances = masks.surface_distances(prediction, reference, spacing)
    return [score(distances) for score in SCORES]


def test_eighteen_neighbours_decide_what_is_surface():
    block = np.ones((5, 5, 5), bool)
    for hole, expected in (((1, 1, 1), False), ((1, 1, 2), True), ((1, 2, 2), True)):  # corner, edge, face
        holed = block.copy()
        holed[hole] = False
        assert masks.surface_voxels(holed)[2, 2, 2] == expected
    assert masks.surface_voxels(np.ones((3, 3, 3), bool)).sum() == 26  # outside the volume is background


def brute_force(pair, tolerance_mm) -> list[float]:
    """Every border voxel against every other; neighbours looked up one by one."""
    points = []
    for mask in pair:
        padded = np.pad(mask, 1)
        offsets = [np.array(o) - 1 for o in np.ndindex(3, 3, 3) if np.abs(np.array(o) - 1).sum() <= 2]
        points.append([v for v in np.argwhere(mask) if not all(padded[tuple(v + 1 + o)] for o in offsets)])
    gaps = np.linalg.norm((np.array(points[0])[:, None] - np.array(points[1])[None]) * SPACING, axis=-1)
    nearest = np.concatenate([gaps.min(axis=1), gaps.min(axis=0)])
    share = (nearest <= tolerance_mm + 1e-6).mean()
    return [nearest.mean(), np.sqrt((nearest**2).mean()), nearest.max(), np.percentile(nearest, 95), share]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.0, 3.3]))
def test_agrees_with_brute_force(seed, tolerance_mm):
    pair = random_pair(seed)
    distances = masks.surface_distances(*pair, SPACING)
    found = [*scores(*pair), masks.hd95(distances), masks.surface_dice(distances, tolerance_mm)]
    assert found == pytest.approx(brute_force(pair, tolerance_mm))


def bar(start: int, length: int, size: int = 40) -> np.ndarray:
    """A bar of one voxel's cross-section along the last axis."""
    mask = np.zeros((3, 3, size), bool)
    mask[1, 1, start : start + length] = True
    return mask


def test_impossible_spacing_and_tolerance_are_refused():
    for tolerance_mm in (-1.0, np.nan):
        with pytest.raises(InputError, match="tolerance_mm"):
            masks.surface_dice(masks.surface_distances(bar(3, 5), bar(3, 5), SPACING), tolerance_mm)
    for spacing in ((0, 1, 1), (1, 1), (1, -1, 1)):
        with pytest.raises(InputError, match="spacing_mm"):
            masks.surface_distances(bar(3, 5), bar(3, 5), spacing)


def test_surface_dice_of_a_shifted_bar_by_hand():
    # Of 2 x 10 voxels, all surface, three of each stick out: by 0.9, 1.8 and 2.7 mm.
    distances = masks.surface_distances(bar(5, 10), bar(8, 10), SPACING)
    for tolerance_mm, out in ((0.0, 3), (0.5, 3), (1.0, 2), (2.0, 1), (2.7, 0), (5.0, 0)):
        assert masks.surface_dice(distances, tolerance_mm) == pytest.approx((20 - 2 * out) / 20)


def test_a_distance_equal_to_the_tolerance_is_within_it():
    for step_mm, steps in ((0.6, 4), (0.8, 3), (0.8, 6), (0.85, 4)):  # in float32 a little more than that
        one, other = np.zeros((2, 1, 1, 30), bool)
        one[..., 3], other[..., 3 + steps] = True, True
        distances = masks.surface_distances(one, other, (1.0, 1.0, step_mm))
        assert masks.surface_dice(distances, step_mm * steps) == 1
        assert masks.surface_dice(distances, step_mm * steps * 0.999) == 0


@pytest.mark.parametrize(("predicted", "present"), [(0, 0), (0, 5), (5, 0), (5, 5)])
@pytest.mark.parametrize("spacing", [SPACING, (np.nan, 1.0, 1.0)])
def test_empty_masks_and_unknown_spacing(predicted, present, spacing):
    distances = masks.surface_distances(bar(3, predicted), bar(3, present), spacing)
    is_defined = predicted > 0 and present > 0 and not np.isnan(spacing[0])
    for score in (masks.hd95, *SCORES):
        np.testing.assert_equal(score(distances), 0.0 if is_defined else np.nan)
    of_empty = 0.0 if (predicted > 0) != (present > 0) else np.nan
    np.testing.assert_equal(masks.surface_dice(distances), 1.0 if is_defined else of_empty)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.permutations((0, 1, 2)), st.floats(0, 8))
def test_exchange_translation_flip_and_axis_order_change_nothing(seed, shift, axes, tolerance_mm):
    pair = random_pair(seed)

    def found(pair, spacing=SPACING):
        distances = masks.surface_distances(*pair, spacing)
        return [*scores(*pair, spacing), masks.hd95(distances), masks.surface_dice(distances, tolerance_mm)]

    expected = pytest.approx(found(pair))
    assert found(pair[::-1]) == expected
    assert found(pair[:, ::-1, :, ::-1]) == expected
    assert found(np.pad(pair, ((0, 0), (shift, 1), (0, shift), (2, 0)))) == expected
    assert found([mask.transpose(axes) for mask in pair], [SPACING[axis] for axis in axes]) == expected
    assert found([pair[0]] * 2) == [0, 0, 0, 0, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_overlap_and_distances_are_those_of_medpy(seed):
    medpy = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")
    prediction, reference = random_pair(seed, overlapping=True)
    counts = masks.overlap_counts(prediction, reference)
    pairs = [(masks.dice, medpy.dc), (masks.jaccard, medpy.jc), (masks.specificity, medpy.specificity)]
    for ours, theirs in (*pairs, (masks.precision, medpy.precision), (masks.recall, medpy.recall)):
        assert ours(counts) == pytest.approx(theirs(prediction, reference)), theirs.__name__
    distances = masks.surface_distances(prediction, reference, SPACING)
    for ours, theirs in ((masks.assd, medpy.assd), (masks.msd, medpy.hd), (masks.hd95, medpy.hd95)):
        expected = theirs(prediction, reference, SPACING, 2)  # its word for a surface of 18 neighbours
        assert ours(distances) == pytest.approx(expected, rel=1e-6), theirs.__name__  # ours are float32


def itk_surface(mask: np.ndarray) -> np.ndarray:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    image = itk.GetImageFromArray(mask.astype(np.uint8))
    eroded = itk.BinaryErode(image, [1, 1, 1], itk.sitkBall, 0.0, 1.0, False)  # that ball is 18 neighbours
    return mask & (itk.GetArrayFromImage(eroded) == 0)


def itk_nearest_mm(start: np.ndarray, target: np.ndarray) -> np.ndarray:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    image = itk.GetImageFromArray(target.astype(np.uint8))
    image.SetSpacing(SPACING[::-1])
    how = {"insideIsPositive": False, "squaredDistance": True, "useImageSpacing": True}
    squares = itk.SignedMaurerDistanceMap(image, **how)
    # Negative in the middle of `target`, even one surface voxel between six others: there it is 0.
    return np.sqrt(np.maximum(itk.GetArrayFromImage(squares), 0))[start]


@settings(max_examples=25, deadline=None)
@example(7335, 0.5)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.0, 3.3]))
def test_surface_dice_is_that_of_distance_maps_by_simpleitk(seed, tolerance_mm):
    prediction, reference = random_pair(seed, overlapping=True)
    surfaces = itk_surface(prediction), itk_surface(reference)
    np.testing.assert_array_equal(surfaces[0], masks.surface_voxels(prediction))
    near = np.concatenate([itk_nearest_mm(*surfaces), itk_nearest_mm(*surfaces[::-1])]) <= tolerance_mm
    found = masks.surface_dice(masks.surface_distances(prediction, reference, SPACING), tolerance_mm)
    assert found == pytest.approx(near.mean())
