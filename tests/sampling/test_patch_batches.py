"""Batches of patches: the same for the same epoch, truth beside its patch, masks never shifted in grey."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.sampling.blocks import KINDS, PatchBatches

DEPTH, SIZE, COUNT = 3, 8, 6


@pytest.fixture
def folder(tmp_path):
    """Six patches one behind another; grey is ten times a patch's number, plus one a slice."""
    numbers = np.repeat(np.arange(COUNT), DEPTH) * 10 + np.tile(np.arange(DEPTH), COUNT)
    images = np.ones((1, SIZE, SIZE, 2), np.uint8) * numbers.astype(np.uint8)[:, None, None, None]
    masks = np.zeros((COUNT * DEPTH, SIZE, SIZE), np.uint8)
    masks[:, 1:7, 1:7], masks[:, 3:5, 3:5] = 1, 2
    (tmp_path / "case").mkdir()
    np.save(tmp_path / "case" / "images.npy", images)
    np.save(tmp_path / "case" / "masks.npy", masks)
    return tmp_path


@pytest.fixture
def patches() -> pd.DataFrame:
    kinds = [KINDS[n % 2] for n in range(COUNT)]
    return pd.DataFrame({"array": "case", "array_index": np.arange(COUNT) * DEPTH, "region": kinds})


def test_a_patch_is_its_slices_in_order_with_its_masks_and_its_kind(folder, patches):
    batches = PatchBatches(patches, folder, DEPTH, 4, shuffle=False)
    assert batches.input_shape == (DEPTH, SIZE, SIZE, 4) and len(batches) == 2
    images, truth = batches[0]
    assert images.shape == (4, DEPTH, SIZE, SIZE, 4) and images.dtype == truth.dtype == np.float32
    greys = np.rint(images[:, :, 0, 0, 0] * 255).astype(int)
    assert greys.tolist() == [[10 * n, 10 * n + 1, 10 * n + 2] for n in range(4)]
    np.testing.assert_array_equal(truth, [[1, 0], [0, 1], [1, 0], [0, 1]])
    assert images[0, :, 2:4, 2:4, 2:].tolist() == [[[[1, 0], [1, 0]], [[1, 0], [1, 1]]]] * DEPTH


def test_batches_are_a_function_of_seed_and_epoch(folder, patches):
    one, other = (PatchBatches(patches, folder, DEPTH, 4, "basic", seed=5) for _ in range(2))
    other.start_epoch(3)
    first_epoch = [images.copy() for images, _ in one]
    other.start_epoch(0)
    for images, again in zip(first_epoch, other, strict=True):
        np.testing.assert_array_equal(images, again[0])
    one.start_epoch(1)
    assert any((images != again[0]).any() for images, again in zip(first_epoch, one, strict=True))


def test_masks_are_moved_and_keep_their_values(folder, patches):
    images, _ = PatchBatches(patches, folder, DEPTH, COUNT, "basic", seed=1)[0]
    assert set(np.unique(images[..., 2:])) == {0.0, 1.0}
    assert (images[..., 3] <= images[..., 2]).all()
    flat = np.rint(images[:, 0, :, :, 0] * 255)
    assert len(
        {float(patch.max()) for patch in flat} - {10.0 * n for n in range(COUNT)}
    )  # greys were shifted


def test_other_depths_and_kinds_are_other_trainings(folder, patches):
    one = PatchBatches(patches, folder, DEPTH, 4).description()
    assert one["depth"] == DEPTH and one["regions"] == ["liver", "tumor"]
    with pytest.raises(InputError, match="'vessel' is none of liver, tumor"):
        PatchBatches(patches.assign(region="vessel"), folder, DEPTH, 4)
