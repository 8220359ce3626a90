"""Which superpixels are candidates, what share of them is tumour, and what their patches show."""

from __future__ import annotations

import numpy as np
import pytest
from solids import ball, box, scan

from livseg_lib.errors import InputError
from livseg_lib.postprocessing.superpixels import (
    CandidateRecipe,
    candidate_patches,
    find_candidates,
    tumor_shares,
)
from livseg_lib.preprocessing.patches import PatchRecipe
from livseg_lib.volumes import Volume

SPACING = (3.0, 1.5, 1.5)
SHAPE = (30, 60, 60)
RECIPE = CandidateRecipe(scales_mm=(10.0, 20.0))
PATCH = PatchRecipe(size_mm=(48, 48, 48), voxels=(8, 16, 16))


@pytest.fixture(scope="module")
def patient():
    """A round liver with a dark tumour of 24 mm; volume, liver, tumour."""
    liver, tumor = (ball(SHAPE, center, r, SPACING) for center, r in (((45, 45, 45), 38), ((45, 35, 40), 12)))
    return Volume(scan(liver, tumor, 50, 8.0), SPACING), liver, tumor


@pytest.fixture(scope="module")
def found(patient):
    volume, liver, _ = patient
    return find_candidates(volume, liver, RECIPE)


def test_candidates_are_the_darkest_of_each_scale(patient, found):
    volume, liver, _ = patient
    assert found.table.contrast_hu.min() >= 5 and set(found.table.scale_mm) == {10.0, 20.0}
    assert found.table.index.tolist() == list(range(len(found.table)))
    few = find_candidates(volume, liver, CandidateRecipe((10.0, 20.0), most_a_scale=2)).table
    for scale_mm, rows in few.groupby("scale_mm"):
        of_scale = found.table[found.table.scale_mm == scale_mm]
        assert set(rows.superpixel) == set(of_scale.nlargest(2, "contrast_hu").superpixel)


def test_shares_count_voxels(patient, found):
    _, liver, tumor = patient
    np.testing.assert_array_equal(tumor_shares(found, liver), 1.0)
    shares = tumor_shares(found, tumor)
    for row in (0, len(shares) // 2, len(shares) - 1):
        of_row = found.table.iloc[row]
        [each] = [s for s in found.superpixels if s.scale_mm == of_row.scale_mm]
        inside = each.ids == of_row.superpixel
        assert shares[row] == pytest.approx(tumor[each.box][inside].mean())
    assert (shares >= 0.5).sum() >= 4


def test_patches_show_the_superpixel_in_its_liver(patient, found):
    volume, liver, tumor = patient
    rows = np.flatnonzero(tumor_shares(found, tumor) >= 0.9)
    patches = list(candidate_patches(volume, liver, found, rows, PATCH))
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
    candidates = find_candidates(volume, liver, CandidateRecipe((12.0,)))
    rows = range(len(candidates.table))
    patches = list(candidate_patches(volume, liver, candidates, rows, PATCH))
    assert len(patches)
    for row, (_, labels) in zip(rows, patches, strict=True):
        assert (labels == 2).sum() * 6 * 3 * 3 / 1000 == pytest.approx(
            candidates.table.volume_ml[row], rel=0.4
        )


def test_a_liver_at_the_scans_border_goes_on_there():
    liver = np.ones((6, 30, 30), bool)
    hu = np.full(liver.shape, 100, np.int16)
    hu[:, :8, :8] = 50
    volume = Volume(hu, (5.0, 2.0, 2.0))
    candidates = find_candidates(volume, liver, CandidateRecipe((16.0,)))
    assert len(candidates.table)
    for _, labels in candidate_patches(volume, liver, candidates, range(len(candidates.table)), PATCH):
        assert labels.min() == 1 and labels.max() == 2


def test_an_empty_liver_has_no_candidates(patient):
    volume, liver, tumor = patient
    nothing = find_candidates(volume, np.zeros_like(liver), RECIPE)
    assert nothing.table.empty and not nothing.superpixels and len(tumor_shares(nothing, tumor)) == 0
    assert list(candidate_patches(volume, np.zeros_like(liver), nothing, [], PATCH)) == []


def test_pictures_without_spacing_are_refused(patient):
    volume, liver, _ = patient
    with pytest.raises(InputError, match="spacing"):
        find_candidates(Volume(volume.voxels, (np.nan,) * 3), liver, RECIPE)


def test_a_recipe_comes_back_from_json():
    assert CandidateRecipe.from_dict({**RECIPE.to_dict(), "scales_mm": [10.0, 20.0]}) == RECIPE
