"""Components and finishes by hand; a contour mends a planted error and never goes too far."""

import edt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from solids import ball, box, dice, scan

from livseg_lib.errors import InputError
from livseg_lib.postprocessing import components
from livseg_lib.postprocessing.components import FINISHES, finish_labels, refine_outlines

masks = arrays(bool, st.tuples(*[st.integers(1, 6)] * 3))


@settings(max_examples=60, deadline=None)
@given(masks, st.sampled_from("CF"))
def test_ids_are_those_of_scipy_whatever_the_memory_layout(mask, order):
    expected, expected_count = ndimage.label(mask)
    found, count = components.label_components(np.asarray(mask, order=order))
    assert count == expected_count
    np.testing.assert_array_equal(found, expected)


def two_blocks() -> np.ndarray:
    mask = np.zeros((6, 10, 10), bool)
    mask[1:3, 1:3, 1:3] = True  # 8 voxels
    mask[3:5, 5:8, 5:8] = True  # 18 voxels
    return mask


@pytest.mark.parametrize(
    ("min_volume_ml", "voxels_left"), [(0.0, 26), (0.8, 26), (0.81, 18), (1.8, 18), (2, 0)]
)
def test_small_components_go_by_millilitres(min_volume_ml, voxels_left):
    # Voxels of 0.1 ml: blocks of 0.8 and 1.8 ml. A block of just that size stays.
    assert components.remove_small_components(two_blocks(), min_volume_ml, 0.1).sum() == voxels_left
    assert not components.remove_small_components(np.zeros((2, 2, 2), bool), min_volume_ml, 0.1).any()
    largest = components.largest_component(two_blocks())
    assert largest.sum() == 18 and largest[3, 5, 5]
    assert not components.largest_component(np.zeros((2, 2, 2), bool)).any()


@settings(max_examples=60, deadline=None)
@given(masks)
def test_fill_holes_agrees_with_scipy(mask):
    np.testing.assert_array_equal(components.fill_holes(mask), ndimage.binary_fill_holes(mask))


SPACING_MM = (5.0, 2.0, 2.0)  # 0.02 ml a voxel: 0.1 ml are five
label_volumes = arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 2))


def patient() -> np.ndarray:
    """A liver with a hole, a large and a small tumour; a second blob; a tumour on its own."""
    labels = np.zeros((8, 20, 24), np.uint8)
    labels[1:7, 2:12, 2:14] = 1
    labels[3, 6, 10] = 0  # a hole in the liver
    labels[2:5, 4:8, 4:8] = 2
    labels[3, 5, 5] = 1  # a hole in the tumour
    labels[5, 10, 3:6] = 2  # three voxels
    labels[2:4, 14:17, 2:6] = 1  # a second blob
    labels[2:5, 14:17, 18:21] = 2  # a tumour without a liver
    return labels


def changed(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a finish was given, what it gave, and where they differ."""
    before = patient()
    after = FINISHES[name](before, SPACING_MM)
    return before, after, before != after


def test_keep_largest_liver_drops_all_else():
    before, after, differs = changed("keep_largest_liver")
    assert set(before[differs]) == {1, 2} and not after[differs].any()
    assert not after[:, 12:].any() and (after[:, :12] == before[:, :12]).all()


@pytest.mark.parametrize(("name", "hole", "label"), [("liver", [3, 6, 10], 1), ("tumors", [3, 5, 5], 2)])
def test_holes_are_filled_with_what_is_around_them(name, hole, label):
    _, after, differs = changed(f"fill_{name}")
    assert np.argwhere(differs).tolist() == [hole] and after[tuple(hole)] == label


def test_drop_small_tumors_leaves_liver_in_their_place():
    before, after, differs = changed("drop_small_tumors")
    assert differs.sum() == 3 and (before[differs] == 2).all() and (after[differs] == 1).all()
    edge = np.ones((3, 4, 12), np.uint8)
    edge[1, 1, 1:6], edge[1, 3, 1:5] = 2, 2  # 0.1 ml is kept, 0.08 ml is not
    kept = FINISHES["drop_small_tumors"](edge, SPACING_MM)
    assert np.argwhere(kept != edge).tolist() == [[1, 3, column] for column in range(1, 5)]
    with pytest.raises(InputError, match="without a size in mm"):
        FINISHES["drop_small_tumors"](before, (np.nan,) * 3)


def test_keep_tumors_in_liver_drops_those_that_touch_none():
    before, after, differs = changed("keep_tumors_in_liver")
    assert differs.sum() == 27 and (before[differs] == 2).all() and not after[differs].any()
    assert after[2:4, 14:17, 2:6].all()  # what is no tumour is not its business


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("liver_first", [True, False])
def test_one_face_is_enough_to_be_in_the_liver(axis, liver_first):
    row = np.array([1, 2, 2, 0] if liver_first else [0, 2, 2, 1], np.uint8)
    labels = np.moveaxis(row.reshape(4, 1, 1), 0, axis)
    np.testing.assert_array_equal(FINISHES["keep_tumors_in_liver"](labels, SPACING_MM), labels)
    edge = np.array([[[1, 0], [0, 2]]], np.uint8)  # is not enough
    assert FINISHES["keep_tumors_in_liver"](edge, SPACING_MM).sum() == 1


def test_together_they_tidy_the_patient_in_the_order_given():
    tidy = finish_labels(patient(), SPACING_MM, list(FINISHES))
    expected = np.zeros_like(tidy)
    expected[1:7, 2:12, 2:14] = 1
    expected[2:5, 4:8, 4:8] = 2
    np.testing.assert_array_equal(tidy, expected)
    np.testing.assert_array_equal(finish_labels(patient(), SPACING_MM, []), patient())
    with pytest.raises(InputError, match="smooth: are no ways to finish labels"):
        finish_labels(patient(), SPACING_MM, ["fill_liver", "smooth"])


@settings(max_examples=60, deadline=None)
@given(label_volumes, st.sampled_from(sorted(FINISHES)))
def test_what_holds_for_every_finish(labels, name):
    before = labels.copy()
    once = FINISHES[name](labels, SPACING_MM)
    np.testing.assert_array_equal(labels, before)
    assert once.dtype == np.uint8 and once.shape == labels.shape and once is not labels
    np.testing.assert_array_equal(FINISHES[name](once, SPACING_MM), once)  # twice is as good as once
    # What lies around does not matter.
    wide = FINISHES[name](np.pad(labels, 2), SPACING_MM)
    np.testing.assert_array_equal(wide[2:-2, 2:-2, 2:-2], once)


SPACINGS = {"even": (1.0, 1.0, 1.0), "thick slices": (4.0, 0.8, 0.8)}
EXTENT_MM = 52


def tumor_in_liver(spacing_mm, radius_mm: float = 12.0, noise_hu: float = 10.0, contrast_hu: float = 50):
    """The masks of a ball and of the liver around it, and the HU."""
    shape = tuple(int(EXTENT_MM / mm) for mm in spacing_mm)
    tumor = ball(shape, (24, 24, 24), radius_mm, spacing_mm)
    liver = ball(shape, (24, 24, 24), 23, spacing_mm)
    return tumor, liver, scan(liver, tumor, contrast_hu, noise_hu)


def moved(mask: np.ndarray, spacing_mm, by_mm: float) -> np.ndarray:
    """The mask with its surface `by_mm` farther out."""
    if by_mm < 0:
        return edt.edt(mask, anisotropy=spacing_mm) > -by_mm
    return edt.edt(~mask, anisotropy=spacing_mm) <= by_mm


@pytest.mark.parametrize("spacing_mm", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("contrast_hu", [50, -60])
def test_leaves_a_right_mask_alone_and_mends_one_that_is_too_small_or_too_large(spacing_mm, contrast_hu):
    tumor, liver, hu = tumor_in_liver(spacing_mm, contrast_hu=contrast_hu)
    assert dice(refine_outlines(tumor, liver, hu, spacing_mm), tumor) >= 0.99
    for by_mm in (-2.5, 2.5):
        wrong = moved(tumor, spacing_mm, by_mm)
        refined = refine_outlines(wrong, liver, hu, spacing_mm)
        assert dice(wrong, tumor) < 0.88 and dice(refined, tumor) > 0.94


@pytest.mark.parametrize("spacing_mm", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("reach_mm", [1.5, 3.0])
def test_changes_only_what_lies_within_reach(spacing_mm, reach_mm):
    tumor, liver, _ = tumor_in_liver(spacing_mm)
    noise = np.random.default_rng(0).integers(-200, 300, tumor.shape).astype(np.int16)
    noise[tumor] -= 60
    refined = refine_outlines(tumor, liver, noise, spacing_mm, reach_mm)
    assert (refined != tumor).any()
    assert not (refined & ~moved(tumor, spacing_mm, reach_mm)).any()
    assert not (moved(tumor, spacing_mm, -reach_mm) & ~refined).any()


@pytest.mark.parametrize("wild", [np.ones_like, np.zeros_like])
def test_a_wild_contour_is_held_within_reach_and_liver(monkeypatch, wild):
    monkeypatch.setattr(components, "_evolve", lambda smooth, inside, steps: wild(inside))
    spacing_mm, reach_mm = SPACINGS["even"], 3.0
    tumor, liver, hu = tumor_in_liver(spacing_mm)
    liver &= box(liver.shape, (0, 0, 0), (52, 52, 38))  # it ends 1 mm beyond the tumour on one side
    widest, least = moved(tumor, spacing_mm, reach_mm) & liver, moved(tumor, spacing_mm, -reach_mm)
    refined = refine_outlines(tumor, liver, hu, spacing_mm, reach_mm)
    np.testing.assert_array_equal(refined, widest if wild is np.ones_like else least)
    small, liver, hu = tumor_in_liver(spacing_mm, radius_mm=2.5)
    refined = refine_outlines(small, liver, hu, spacing_mm)
    assert refined.any() and (wild is np.ones_like or (refined == small).all())  # it vanished: taken back


def test_objects_without_contrast_or_surroundings_stay_as_they_are():
    spacing_mm = SPACINGS["even"]
    tumor, liver, flat = tumor_in_liver(spacing_mm, contrast_hu=0)
    np.testing.assert_array_equal(refine_outlines(tumor, liver, flat, spacing_mm), tumor)
    np.testing.assert_array_equal(refine_outlines(liver, liver, flat, spacing_mm), liver)
    assert not refine_outlines(tumor, np.zeros_like(tumor), flat, spacing_mm).any()  # outside the liver


def test_neither_bone_beside_the_liver_nor_another_tumour_pulls():
    spacing_mm = SPACINGS["even"]
    shape = (40, 60, 60)
    liver = box(shape, (0, 0, 5), shape)
    first, second = ball(shape, (20, 30, 15), 8, spacing_mm), ball(shape, (20, 30, 33), 8, spacing_mm)
    hu = scan(liver, first | second, contrast_hu=50, noise_hu=5)
    hu[second], hu[~liver] = 0, 1000
    refined = refine_outlines(first | second, liver, hu, spacing_mm)
    assert dice(refined, first | second) > 0.98


def test_a_single_slice_works_and_unknown_spacing_is_refused():
    tumor, liver, hu = (each[24:25] for each in tumor_in_liver((1.0, 1.0, 1.0)))
    wrong = tumor & ~np.roll(~tumor, 2, axis=2)
    assert dice(refine_outlines(wrong, liver, hu, (5.0, 1.0, 1.0)), tumor) > dice(wrong, tumor)
    assert not refine_outlines(np.zeros_like(tumor), liver, hu, (5.0, 1.0, 1.0)).any()
    with pytest.raises(InputError, match="without a size in mm"):
        refine_outlines(tumor, liver, hu, (np.nan,) * 3)
