"""Blocks cover the liver and lie within the volume; each epoch draws them anew, and the same again."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_cases import store_case

from livseg_lib.errors import InputError
from livseg_lib.labels import KINDS
from livseg_lib.preprocessing.geometry import block_starts, cover_blocks, liver_range
from livseg_lib.sampling.batches import block_slices
from livseg_lib.sampling.blocks import BlockBatches, PatchBatches, possible_blocks


@st.composite
def livers(draw) -> tuple[range, int, int]:
    """A liver, the number of slices of its volume, and a depth."""
    n_slices = draw(st.integers(1, 150))
    first = draw(st.integers(0, n_slices - 1))
    return range(first, draw(st.integers(first + 1, n_slices))), n_slices, draw(st.integers(1, 90))


def shown(start: int, n_slices: int, depth: int) -> set[int]:
    return set(block_slices(start, depth, n_slices).tolist())


@given(livers())
def test_each_possible_block_lies_in_the_volume_and_shows_all_the_liver_it_can(case):
    liver, n_slices, depth = case
    starts = block_starts(liver, n_slices, depth)
    assert len(starts) > 0 and starts == block_starts(liver, n_slices, depth)
    for start in starts:
        assert start >= 0 and (start + depth <= n_slices or (start == 0 and depth > n_slices))
        assert len(shown(start, n_slices, depth) & set(liver)) == min(len(liver), depth)
    for outside in {starts[0] - 1, starts[-1] + 1} & set(range(n_slices - depth + 1)):
        assert len(shown(outside, n_slices, depth) & set(liver)) < min(len(liver), depth)


@given(st.integers(0, 90), st.integers(1, 90), st.integers(0, 89))
def test_covering_blocks_leave_no_slice_out(n_slices, depth, overlap):
    overlap = min(overlap, depth - 1)
    starts = cover_blocks(n_slices, depth, overlap)
    assert set(range(n_slices)) == set().union(*(shown(start, n_slices, depth) for start in starts))
    assert starts == sorted(set(starts)) and set(starts) <= set(range(max(n_slices - depth, 0) + 1))
    shared = [one + depth - other for one, other in pairwise(starts)]
    assert all(count >= overlap for count in shared)
    assert all(count == overlap for count in shared[:-1])  # no more work than asked for


def test_the_liver_reaches_from_its_first_slice_to_its_last():
    assert liver_range(np.array([0, 1, 0, 1, 0], bool)) == range(1, 4)
    assert liver_range(np.zeros(5, bool)) == range(0)


@pytest.mark.parametrize("overlap", [-1, 8])
def test_an_overlap_that_makes_no_sense_is_refused(overlap):
    with pytest.raises(InputError, match="Give 0 to 7"):
        cover_blocks(30, 8, overlap)


# --- batches of blocks

SIZE, DEPTH = 16, 6
LIVERS = {"short": (20, range(8, 11)), "long": (30, range(5, 25)), "thin": (4, range(1, 3))}
"""Slices of each case, and those that show liver."""


@pytest.fixture
def slices(tmp_path) -> pd.DataFrame:
    """A case each of LIVERS; the corner of slice k has the grey k, the next pixel that of its case."""
    rows = []
    for number, (case, (n_slices, liver)) in enumerate(LIVERS.items()):
        masks = np.zeros((n_slices, SIZE, SIZE), np.uint8)
        masks[liver.start : liver.stop, 4:12, 4:12] = 1
        masks[liver.start, 6:9, 6:9] = 2
        images = np.repeat(masks[..., None] * np.uint8(100), 3, axis=-1)
        images[:, 0, 0, :] = np.arange(n_slices)[:, None]
        images[:, 0, 1, :] = number
        rows.append(store_case(tmp_path, case, masks, images, patient=f"p-{case}"))
    return pd.concat(rows, ignore_index=True)


@pytest.fixture
def folder(tmp_path, slices):
    return tmp_path


def blocks_shown(images: np.ndarray) -> list[tuple[str, list[int]]]:
    """Which slices of which cases these blocks are (needs augmentation "none")."""
    corners = np.round(images[:, :, 0, :2, 0] * 255).astype(int)
    return [(list(LIVERS)[block[0, 1]], block[:, 0].tolist()) for block in corners]


def epoch_blocks(batches: BlockBatches, epoch: int) -> list[tuple[str, list[int]]]:
    batches.start_epoch(epoch)
    return [block for images, _ in batches for block in blocks_shown(images)]


def test_each_case_comes_in_turn_with_a_block_of_its_liver_at_another_place(folder, slices):
    batches = BlockBatches(slices, folder, "liver", DEPTH, 3)
    assert len(batches) == 1 and batches.input_shape == (DEPTH, SIZE, SIZE, 3)
    firsts = {case: set() for case in LIVERS}
    for epoch in range(60):
        blocks = epoch_blocks(batches, epoch)
        assert sorted(case for case, _ in blocks) == sorted(LIVERS)
        for case, numbers in blocks:
            n_slices, liver = LIVERS[case]
            assert numbers == [min(numbers[0] + k, n_slices - 1) for k in range(DEPTH)]
            assert len(set(numbers) & set(liver)) == min(len(liver), DEPTH)
            firsts[case].add(numbers[0])
    assert firsts == {"short": set(range(5, 9)), "long": set(range(5, 20)), "thin": {0}}


def test_blocks_per_epoch_go_round_the_cases_and_draw_a_place_each_time(folder, slices):
    batches = BlockBatches(slices, folder, "liver", DEPTH, 2, blocks_per_epoch=12)
    blocks = epoch_blocks(batches, 0)
    assert [sorted(case for case, _ in blocks[at : at + 3]) for at in range(0, 12, 3)] == [sorted(LIVERS)] * 4
    assert len({numbers[0] for case, numbers in blocks if case == "long"}) > 1
    fewer = BlockBatches(slices, folder, "liver", DEPTH, 1, blocks_per_epoch=2)
    turns = [case for epoch in range(3) for case, _ in epoch_blocks(fewer, epoch)]
    assert sorted(turns[:3]) == sorted(turns[3:]) == sorted(LIVERS)


def test_validation_shows_the_middle_block_of_each_case_and_repeats_nothing(folder, slices):
    batches = BlockBatches(slices, folder, "liver", DEPTH, 2, shuffle=False)
    short, long = list(range(6, 12)), list(range(12, 18))  # 8, 9, 10 in the middle of the first
    expected = [("short", short), ("long", long), ("thin", [0, 1, 2, 3, 3, 3])]
    assert epoch_blocks(batches, 0) == epoch_blocks(batches, 5) == expected
    assert len(batches[1][0]) == 1
    many = BlockBatches(slices, folder, "liver", DEPTH, 2, shuffle=False, blocks_per_epoch=50)
    assert epoch_blocks(many, 0) == expected


def test_a_short_volume_repeats_its_last_slice_with_its_truth(folder, slices):
    thin = slices[slices["case"] == "thin"]
    images, truth = BlockBatches(thin, folder, "both", DEPTH, 1)[0]
    assert images.dtype == truth.dtype == np.float32 and truth.shape == (1, DEPTH, SIZE, SIZE, 2)
    np.testing.assert_array_equal(images[0, 4:], np.repeat(images[:, 3], 2, axis=0))
    assert truth[0, :, 8, 8].T.tolist() == [[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]]


def test_the_blocks_of_an_epoch_hang_on_nothing_that_came_before(folder, slices):
    settings = {"augmentation": "lits", "seed": 3, "blocks_per_epoch": 8}
    one, other = (BlockBatches(slices, folder, "both", DEPTH, 2, **settings) for _ in range(2))
    first = one[0]
    for batches in (one, other):
        batches.start_epoch(2)
    assert one.description() == other.description()
    for index in reversed(range(len(other))):
        for got, expected in zip(other[index], one[index], strict=True):
            np.testing.assert_array_equal(got, expected)
    assert (first[0] != other[0][0]).any()


def test_other_blocks_are_another_training(folder, slices):
    given = {"slices": slices, "folder": folder, "depth": DEPTH, "target": "both", "batch_size": 2, "seed": 1}
    fewer = slices[slices["case"] != "thin"]
    changes = [{}, {"depth": 5}, {"target": "liver"}, {"seed": 2}, {"blocks_per_epoch": 7}, {"slices": fewer}]
    same, *others = (BlockBatches(**(given | change)).description() for change in changes)
    assert same == BlockBatches(**given).description() and same not in others


def test_all_slices_of_a_block_move_alike_with_their_truth(folder, slices):
    long = slices[slices["case"] == "long"]
    _, truth = BlockBatches(long, folder, "liver", DEPTH, 1, "basic", shuffle=False)[0]
    inner = truth[0, 1:]
    assert (inner == inner[:1]).all() and inner.any() and not inner.all()
    still = BlockBatches(long, folder, "liver", DEPTH, 1, shuffle=False)[0][1]
    assert (truth != still).any()


def refused(match: str, *args, **settings):
    with pytest.raises(InputError, match=match):
        BlockBatches(*args, **settings)


def test_what_cannot_be_used_is_refused(folder, slices):
    empty = slices.assign(**{"class": slices["class"].where(slices["case"] != "long", 0)})
    refused("long: shows no liver", empty, folder, "liver", DEPTH, 2)
    refused("thin: lacks slices", slices.drop(index=slices.index[-2]), folder, "liver", DEPTH, 2)
    refused("has 4 slices, but 3 are given", slices[:-1], folder, "liver", DEPTH, 2)
    refused("are none", slices[:0], folder, "liver", DEPTH, 2)
    refused("depth: is 0", slices, folder, "liver", 0, 2)
    refused("blocks_per_epoch: is 0", slices, folder, "liver", DEPTH, 2, blocks_per_epoch=0)
    refused("liver, tumor, both", slices, folder, "spleen", DEPTH, 2)


def test_possible_blocks_do_not_depend_on_the_order_of_slices(slices):
    shuffled = slices.sample(frac=1, random_state=2).astype({"class": "Int64", "array_index": "Int64"})
    order = ["array", "array_index"]
    blocks, again = (possible_blocks(each, DEPTH).sort_values(order) for each in (slices, shuffled))
    assert blocks.to_dict("records") == again.to_dict("records")
    assert blocks.groupby("array").size().to_dict() == {"short": 4, "long": 15, "thin": 1}
    assert blocks.groupby("array")["is_middle"].sum().eq(1).all()


# --- batches of patches

PATCH_DEPTH, PATCH_SIZE, COUNT = 3, 8, 6


@pytest.fixture
def patch_folder(tmp_path):
    """Six patches one behind another; grey is ten times a patch's number, plus one a slice."""
    numbers = np.repeat(np.arange(COUNT), PATCH_DEPTH) * 10 + np.tile(np.arange(PATCH_DEPTH), COUNT)
    images = np.ones((1, PATCH_SIZE, PATCH_SIZE, 2)) * numbers[:, None, None, None]
    masks = np.zeros((COUNT * PATCH_DEPTH, PATCH_SIZE, PATCH_SIZE), np.uint8)
    masks[:, 1:7, 1:7], masks[:, 3:5, 3:5] = 1, 2
    store_case(tmp_path, "case", masks, images)
    return tmp_path


@pytest.fixture
def patches() -> pd.DataFrame:
    kinds = [KINDS[n % 2] for n in range(COUNT)]
    return pd.DataFrame({"array": "case", "array_index": np.arange(COUNT) * PATCH_DEPTH, "region": kinds})


def test_a_patch_is_its_slices_in_order_with_its_masks_and_its_kind(patch_folder, patches):
    batches = PatchBatches(patches, patch_folder, PATCH_DEPTH, 4, shuffle=False)
    assert batches.input_shape == (PATCH_DEPTH, PATCH_SIZE, PATCH_SIZE, 4) and len(batches) == 2
    images, truth = batches[0]
    assert images.shape[1:] == batches.input_shape and images.dtype == truth.dtype == np.float32
    greys = np.rint(images[:, :, 0, 0, 0] * 255).astype(int)
    assert greys.tolist() == [[10 * n, 10 * n + 1, 10 * n + 2] for n in range(4)]
    np.testing.assert_array_equal(truth, [[1, 0], [0, 1], [1, 0], [0, 1]])
    assert images[0, :, 2:4, 2:4, 2:].tolist() == [[[[1, 0], [1, 0]], [[1, 0], [1, 1]]]] * PATCH_DEPTH


def test_masks_are_moved_and_keep_their_values(patch_folder, patches):
    images, _ = PatchBatches(patches, patch_folder, PATCH_DEPTH, COUNT, "basic", seed=1)[0]
    assert set(np.unique(images[..., 2:])) == {0.0, 1.0}
    assert (images[..., 3] <= images[..., 2]).all()
    brightest = np.rint(images[:, 0, :, :, 0] * 255).max(axis=(1, 2))
    assert set(brightest) - {10.0 * n for n in range(COUNT)}  # greys were shifted


def test_other_depths_and_kinds_are_other_trainings(patch_folder, patches):
    one = PatchBatches(patches, patch_folder, PATCH_DEPTH, 4).description()
    assert one["depth"] == PATCH_DEPTH and one["regions"] == ["liver", "tumor"]
    with pytest.raises(InputError, match="'vessel' is none of liver, tumor"):
        PatchBatches(patches.assign(region="vessel"), patch_folder, PATCH_DEPTH, 4)
