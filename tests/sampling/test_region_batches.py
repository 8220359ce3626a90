from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.sampling.batches import REGIONS, RegionBatches, encode_regions

SIZE = 16


@pytest.fixture
def folder(tmp_path):
    """One case of six slices; the grey of a picture is ten times its number."""
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * 10 * np.ones((1, SIZE, SIZE, 3), np.uint8)
    (tmp_path / "case").mkdir()
    np.save(tmp_path / "case" / "images.npy", images)
    np.save(tmp_path / "case" / "masks.npy", np.zeros((6, SIZE, SIZE), np.uint8))
    return tmp_path


@pytest.fixture
def slices() -> pd.DataFrame:
    regions = [REGIONS[n] for n in (0, 0, 1, 2, 1, 3)]
    return pd.DataFrame({"array": "case", "array_index": range(6), "region": regions})


def test_each_picture_comes_with_its_region(folder, slices):
    batches = RegionBatches(slices, folder, REGIONS, 4, "none", seed=1)
    for images, truth in batches:
        assert images.shape == (4, SIZE, SIZE, 3) and images.dtype == truth.dtype == np.float32
        assert truth.shape == (4, 4) and (truth.sum(axis=1) == 1).all()
        numbers = np.rint(images[:, 0, 0, 0] * 25.5).astype(int)
        assert [REGIONS[k] for k in truth.argmax(axis=1)] == slices.region[numbers].tolist()


def test_columns_follow_the_given_regions(folder, slices):
    liver_only = slices[slices.region.isin(("liver", "liver_with_tumor"))]
    _, truth = RegionBatches(liver_only, folder, ("liver_with_tumor", "liver"), 3, shuffle=False)[0]
    np.testing.assert_array_equal(truth, [[0, 1], [1, 0], [0, 1]])


def test_the_description_tells_other_truths_apart(folder, slices):
    one = RegionBatches(slices, folder, REGIONS, 4).description()
    other = slices.assign(region=slices.region.replace("liver", "liver_with_tumor"))
    assert one["regions"] == list(REGIONS)
    assert one != RegionBatches(other, folder, REGIONS, 4).description()


def test_a_name_that_is_no_region_is_refused(folder, slices):
    with pytest.raises(InputError, match="'spleen' is none of below_liver"):
        RegionBatches(slices.assign(region="spleen"), folder, REGIONS, 4)
    with pytest.raises(InputError, match="Leave out slices without a region"):
        encode_regions(["liver", ""], REGIONS)
