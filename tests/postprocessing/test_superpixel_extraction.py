"""Patches on disk: one behind another, each with its row; as many of a kind as asked for, always the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from solids import ball, scan

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.postprocessing.superpixels import (
    CandidateRecipe,
    PatchExtraction,
    draw_kinds,
    extract_patches,
    grown,
)
from livseg_lib.preprocessing.patches import PatchRecipe
from livseg_lib.volumes import Volume

SPACING, SHAPE = (3.0, 2.0, 2.0), (22, 34, 34)
PATCH = PatchRecipe((48, 48, 48), (8, 16, 16))
EXTRACTION = PatchExtraction(
    CandidateRecipe((10.0, 20.0), 2.0), PATCH, most_of_a_kind=5, most_growth_mm=0.0, seed=3
)


def case(name: str, tumor_mm: float = 10.0) -> Case:
    liver, tumor = (ball(SHAPE, (33, 33, 33), r, SPACING) for r in (28, tumor_mm))
    volume, labels = Volume(scan(liver, tumor, 50, 8.0), SPACING), np.where(tumor, 2, liver).astype(np.uint8)
    return Case(name, f"patient {name}", (), lambda: volume, lambda volume: labels)


def test_rows_point_to_their_patches(tmp_path):
    rows = extract_patches([case("a"), case("b", 0.0)], EXTRACTION, tmp_path, workers=1)
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


def test_the_same_seed_draws_the_same(tmp_path):
    one, again = (extract_patches([case("a")], EXTRACTION, tmp_path, workers=1) for _ in range(2))
    assert one.equals(again)


def test_livers_are_grown_as_no_network_finds_them_exactly(tmp_path):
    mask = ball(SHAPE, (33, 33, 33), 20, SPACING)
    assert (grown(mask, SPACING, 0.0) == mask).all()
    one = grown(mask, SPACING, 2.5)  # a row and a column, no slice
    assert one[11, 16, 27] and not mask[11, 16, 27] and not one[11, 16, 28] and not one[18].any()
    assert grown(mask, SPACING, 3.0)[18].any()
    wide = replace(EXTRACTION, most_growth_mm=12.0)
    exact, larger = (extract_patches([case("a")], e, tmp_path, workers=1) for e in (EXTRACTION, wide))
    assert larger.mean_hu.min() < exact.mean_hu.min() < 60  # air came in, which is darker than tumour


def test_at_most_so_many_of_a_kind():
    is_tumor = np.arange(40) < 6
    rows = draw_kinds(is_tumor, 10, seed=1)
    assert (rows[:6] == np.arange(6)).all() and len(rows) == 16 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, draw_kinds(is_tumor, 10, seed=1))
    assert (rows != draw_kinds(is_tumor, 10, seed=2)).any()


def test_no_candidate_at_all_is_an_error(tmp_path):
    none = PatchExtraction(CandidateRecipe((10.0,), least_contrast_hu=5000.0), PATCH)
    with pytest.raises(InputError, match="no candidates"):
        extract_patches([case("a")], none, tmp_path, workers=1)
