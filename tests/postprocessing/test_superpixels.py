"""Superpixels cover a liver and keep to its edges; patches show them, and follow the seed on disk."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from solids import ball, box, dice, scan

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.postprocessing import superpixels
from livseg_lib.postprocessing.components import label_components
from livseg_lib.volumes import Volume

SPACINGS = {"thick slices": (4.0, 0.8, 0.8), "even": (1.5, 1.5, 1.5), "coarse": (5.0, 4.0, 6.0)}
TWO_SCALES_MM = (10.0, 20.0)


def liver_scan(spacing_mm, noise_hu: float = 15.0):
    """An odd-shaped liver with a tumour of 24 mm, in a larger scan; liver, tumour, HU."""
    shape = tuple(int(110 / mm) for mm in spacing_mm)
    liver = ball(shape, (50, 50, 50), 45, spacing_mm) & ~ball(shape, (30, 60, 90), 30, spacing_mm)
    tumor = ball(shape, (55, 45, 40), 12, spacing_mm)
    return liver, tumor, scan(liver, tumor, 50, noise_hu)


@pytest.mark.parametrize("spacing_mm", SPACINGS.values(), ids=SPACINGS)
def test_superpixels_cover_the_liver_in_few_pieces_about_as_large_as_their_scale(spacing_mm):
    liver, _, hu = liver_scan(spacing_mm)
    found = superpixels.find_superpixels(liver, hu, spacing_mm, TWO_SCALES_MM)
    assert list(found.ids) == list(TWO_SCALES_MM) and liver.sum() == liver[found.box].sum()
    for scale_mm, ids in found.ids.items():
        np.testing.assert_array_equal(ids > 0, liver[found.box])
        np.testing.assert_array_equal(np.unique(ids), np.arange(ids.max() + 1))
        assert ids.dtype == np.int32
        volumes_ml = found.table[found.table.scale_mm == scale_mm].volume_ml
        assert volumes_ml.sum() == pytest.approx(liver.sum() * np.prod(spacing_mm) / 1000)
        if spacing_mm != SPACINGS["coarse"]:
            cube_ml = scale_mm**3 / 1000
            assert 0.4 * cube_ml < volumes_ml.median() < 2 * cube_ml
            assert volumes_ml.min() > 0.3 * superpixels.LEAST_SHARE * cube_ml  # slivers have joined others
            assert np.mean([label_components(ids == number)[1] for number in range(1, ids.max() + 1, 7)]) < 2


def test_they_keep_to_the_edges_of_a_tumour():
    liver, tumor, hu = liver_scan(SPACINGS["thick slices"])
    fine = superpixels.find_superpixels(liver, hu, SPACINGS["thick slices"], [8.0])
    inside = superpixels.tumor_shares(fine, tumor) >= 0.5
    assert dice(np.append(False, inside)[fine.ids[8.0]], tumor[fine.box]) > 0.85


def test_the_table_has_hand_values(monkeypatch):
    hu, liver = np.full((5, 5, 5), 999, np.int16), np.zeros((5, 5, 5), bool)
    hu[1, 2, :3], hu[2, 3, :3] = (90, 100, 110), (40, 50, 60)
    liver[1, 2, :3] = liver[2, 3, :3] = True
    rows = np.array([[[1], [0]], [[0], [2]]])
    monkeypatch.setattr(superpixels, "slic", lambda *_, **__: rows.repeat(3, 2))
    table = superpixels.find_superpixels(liver, hu, (10, 10, 5), [5.0]).table
    assert table.columns.tolist() == list(superpixels.SUPERPIXEL_COLUMNS)
    assert table.iloc[0].tolist() == [5, 1, 1, 2, 1, 1.5, 100, -25]  # the liver's median is 75
    assert table.iloc[1].tolist() == [5, 2, 2, 3, 1, 1.5, 50, 25]


def test_painting_takes_the_mean_over_the_scales():
    ids = {8.0: np.array([[[1, 1, 2, 0]]], np.int32), 16.0: np.array([[[1, 2, 2, 0]]], np.int32)}
    table = pd.DataFrame({"scale_mm": [8.0, 8.0, 16.0], "superpixel": [1, 2, 2]})
    found = superpixels.Superpixels((slice(0, 1), slice(0, 1), slice(0, 4)), ids, table)
    painted = superpixels.paint(found, np.array([0.2, 0.6, 1]))
    np.testing.assert_allclose(painted, [[[0.1, 0.6, 0.8, 0]]])
    np.testing.assert_allclose(superpixels.paint(found, 0.5, 16.0), [[[0, 0.5, 0.5, 0]]])


LIVERS = {
    "one slice": box((1, 60, 60), (0, 5, 5), (1, 50, 50)),
    "whole scan": box((12, 60, 60), (0, 0, 0), (12, 60, 60)),
    "one voxel": box((12, 60, 60), (3, 7, 9), (4, 8, 10)),
    "one row": box((12, 60, 60), (3, 7, 9), (4, 8, 40)),
}


@pytest.mark.parametrize("liver", LIVERS.values(), ids=LIVERS)
def test_livers_of_any_size_are_covered(liver):
    hu = scan(liver, np.zeros_like(liver), noise_hu=10)
    found = superpixels.find_superpixels(liver, hu, (4.0, 0.8, 0.8))
    for ids in found.ids.values():
        np.testing.assert_array_equal(ids > 0, liver[found.box])


def test_no_liver_gives_no_superpixels_and_bad_input_is_refused():
    nothing = np.zeros((4, 8, 8), bool)
    hu = scan(nothing, nothing)
    volume = Volume(hu, (1, 1, 1))
    none = superpixels.dark_superpixels(volume, nothing, superpixels.CandidateRecipe())
    assert none.table.empty and not list(superpixels.candidate_patches(volume, nothing, none, [], PATCH))
    assert none.ids == {} and none.table.columns.tolist() == list(superpixels.SUPERPIXEL_COLUMNS)
    with pytest.raises(InputError, match="without a size in mm"):
        superpixels.find_superpixels(~nothing, hu, (np.nan,) * 3)
    with pytest.raises(InputError, match="above 0"):
        superpixels.find_superpixels(~nothing, hu, (1, 1, 1), [0.0])


SPACING, SHAPE = (3.0, 1.5, 1.5), (30, 60, 60)
RECIPE = superpixels.CandidateRecipe((10.0, 20.0))
PATCH = superpixels.PatchRecipe((48, 48, 48), (8, 16, 16))


def case(name: str, tumor_mm: float = 12.0) -> Case:
    """A round liver with a dark, round tumour."""
    liver, tumor = ball(SHAPE, (45, 45, 45), 38, SPACING), ball(SHAPE, (45, 36, 39), tumor_mm, SPACING)
    volume, labels = Volume(scan(liver, tumor, 50, 8.0), SPACING), np.where(tumor, 2, liver).astype(np.uint8)
    return Case(name, f"patient {name}", (), lambda: volume, lambda volume: labels)


@pytest.fixture(scope="module")
def patient():
    """Volume, liver and tumour of a case, and its superpixels."""
    volume = case("a").read_volume()
    labels = case("a").read_labels(volume)
    return volume, labels > 0, labels == 2, superpixels.dark_superpixels(volume, labels > 0, RECIPE)


def test_candidates_are_the_darkest_of_each_scale(patient):
    volume, liver, _, found = patient
    assert found.table.contrast_hu.min() >= 5 and set(found.table.scale_mm) == {10.0, 20.0}
    assert found.table.index.tolist() == list(range(len(found.table)))
    least = float(found.table.contrast_hu.median())
    recipes = replace(RECIPE, least_contrast_hu=least), replace(RECIPE, most_a_scale=2)
    darker, few = (superpixels.dark_superpixels(volume, liver, recipe).table for recipe in recipes)
    assert len(darker) == (found.table.contrast_hu >= least).sum()
    for scale_mm, rows in few.groupby("scale_mm"):
        of_scale = found.table[found.table.scale_mm == scale_mm]
        assert rows.superpixel.is_monotonic_increasing
        assert set(rows.superpixel) == set(of_scale.nlargest(2, "contrast_hu").superpixel)


def test_shares_count_voxels(patient):
    _, liver, tumor, found = patient
    np.testing.assert_array_equal(superpixels.tumor_shares(found, liver), 1.0)
    shares = superpixels.tumor_shares(found, tumor)
    for row in (0, len(shares) // 2, len(shares) - 1):
        of_row = found.table.iloc[row]
        inside = found.ids[of_row.scale_mm] == of_row.superpixel
        assert shares[row] == pytest.approx(tumor[found.box][inside].mean())
    assert (shares >= 0.5).sum() >= 4


def test_patches_show_the_superpixel_in_its_liver(patient):
    volume, liver, tumor, found = patient
    rows = np.flatnonzero(superpixels.tumor_shares(found, tumor) >= 0.9)
    patches = list(superpixels.candidate_patches(volume, liver, found, rows, PATCH))
    assert len(patches) == len(rows)
    voxel_ml = 6 * 3 * 3 / 1000
    for row, (greys, labels) in zip(rows, patches, strict=True):
        assert greys.shape == (8, 16, 16, 2) and greys.dtype == labels.dtype == np.uint8
        superpixel = labels == 2
        assert superpixel.sum() * voxel_ml == pytest.approx(found.table.volume_ml[row], rel=0.5, abs=0.2)
        assert greys[..., 0][superpixel].mean() < 60 < 100 < greys[..., 0][labels == 1].mean()
        middle = np.argwhere(superpixel).mean(axis=0)
        np.testing.assert_allclose(middle, (3.5, 7.5, 7.5), atol=0.7)


def test_a_superpixel_at_the_livers_end_is_not_smeared_beyond_it():
    liver = box((20, 40, 40), (6, 10, 10), (14, 30, 30))
    tumor = box((20, 40, 40), (10, 20, 20), (14, 30, 30))  # a corner of the liver
    volume = Volume(scan(liver, tumor, 50), (3.0, 1.5, 1.5))
    candidates = superpixels.dark_superpixels(volume, liver, superpixels.CandidateRecipe((12.0,)))
    rows = range(len(candidates.table))
    patches = list(superpixels.candidate_patches(volume, liver, candidates, rows, PATCH))
    assert len(patches)
    for row, (_, labels) in zip(rows, patches, strict=True):
        expected_ml = candidates.table.volume_ml[row]
        assert (labels == 2).sum() * 6 * 3 * 3 / 1000 == pytest.approx(expected_ml, rel=0.4)


SCAN = np.random.default_rng(0).normal(100, 50, (9, 11, 13)).astype(np.float32)


def patch(array, center, spacing_mm, recipe) -> np.ndarray:
    sides = superpixels.patch_sides(center, spacing_mm, recipe)
    return superpixels.average(superpixels.crop(array, sides), sides)


def test_any_fraction_agrees_with_a_scan_cut_into_tiny_voxels():
    spacing_mm, recipe = (1.0, 0.8, 0.6), superpixels.PatchRecipe(size_mm=(3.0, 2.6, 2.6), voxels=(2, 2, 2))
    start_mm = np.multiply((4.3, 5.1, 6.2), spacing_mm) + np.divide(spacing_mm, 2) - (1.5, 1.3, 1.3)
    step = 0.1  # mm; every border lies on a multiple of it, but for the centre's own shift
    places = [
        ((start + (np.arange(round(size / step)) + 0.5) * step) / mm).astype(int)
        for start, size, mm in zip(start_mm, recipe.size_mm, spacing_mm, strict=True)
    ]
    d, h, w = (len(place) // 2 for place in places)
    expected = SCAN[np.ix_(*places)].reshape(2, d, 2, h, 2, w).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(patch(SCAN, (4.3, 5.1, 6.2), spacing_mm, recipe), expected, atol=8)


def test_beyond_the_scan_its_outermost_voxels_come_again():
    recipe = superpixels.PatchRecipe(size_mm=(3, 3, 3), voxels=(3, 3, 3))
    found = patch(SCAN, (0, 10, 6), (1, 1, 1), recipe)
    np.testing.assert_allclose(found, SCAN[np.ix_([0, 0, 1], [9, 10, 10], [5, 6, 7])], rtol=1e-5)


def test_greys_stand_around_the_liver():
    recipe = superpixels.PatchRecipe(widths_hu=(100, 300))
    greys = superpixels.grey_channels(np.array([[[-60.0, 40.0, 90.0, 140.0]]]), 90.0, recipe)
    assert greys.shape == (1, 1, 4, 2) and greys.dtype == np.uint8
    assert greys[0, 0, :, 0].tolist() == [0, 0, 128, 255]
    assert greys[0, 0, :, 1].tolist() == [0, 85, 128, 170]


@pytest.mark.parametrize(
    "wrong", [{"size_mm": (48, 48)}, {"voxels": (0, 8, 8)}, {"voxels": (8, 8, 9)}, {"widths_hu": ()}]
)
def test_sizes_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        superpixels.PatchRecipe(**wrong)


EXTRACTION = superpixels.PatchExtraction(
    superpixels.CandidateRecipe((10.0, 20.0), 2.0), PATCH, most_of_a_kind=5, most_growth_mm=0.0, seed=3
)


def test_rows_point_to_their_patches(tmp_path):
    rows = superpixels.extract_patches([case("a"), case("b", 0.0)], EXTRACTION, tmp_path, workers=1)
    assert rows.groupby(["case", "region"]).size().to_dict() == {
        **{("a", "liver"): 5, ("a", "tumor"): 5},
        ("b", "liver"): 5,  # and a tumour of one voxel, which is no superpixel's half
    }
    assert ((rows.tumor_share >= 0.5) == (rows["class"] == 2)).all()
    assert rows.patient.tolist() == [f"patient {name}" for name in rows.case]
    images, masks = (np.load(tmp_path / "a" / f"{name}.npy") for name in ("images", "masks"))
    assert images.shape == (80, 16, 16, 2) and masks.shape == (80, 16, 16)
    for row in rows[rows.case == "a"].itertuples():
        grey, mask = (array[row.array_index : row.array_index + 8] for array in (images[..., 0], masks))
        assert (mask == 2).any()
        if row.tumor_share > 0.9:
            assert grey[mask == 2].mean() < 60 and row.region == "tumor"


def test_livers_are_grown_as_no_network_finds_them_exactly(tmp_path):
    both = EXTRACTION, replace(EXTRACTION, most_growth_mm=12.0)
    exact, larger = (superpixels.extract_patches([case("a")], each, tmp_path, workers=1) for each in both)
    assert larger.mean_hu.min() < exact.mean_hu.min() < 60  # air came in, which is darker than tumour


def test_at_most_so_many_of_a_kind():
    is_tumor = np.arange(40) < 6
    rows = superpixels.draw_kinds(is_tumor, 10, seed=1)
    assert (rows[:6] == np.arange(6)).all() and len(rows) == 16 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, superpixels.draw_kinds(is_tumor, 10, seed=1))
    assert (rows != superpixels.draw_kinds(is_tumor, 10, seed=2)).any()


def test_no_candidate_at_all_is_an_error(tmp_path):
    none = superpixels.PatchExtraction(superpixels.CandidateRecipe((10.0,), least_contrast_hu=5000.0), PATCH)
    with pytest.raises(InputError, match="no candidates"):
        superpixels.extract_patches([case("a")], none, tmp_path, workers=1)
