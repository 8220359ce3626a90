"""Batches of blocks: over the liver, drawn anew each epoch, and the same again where a training resumes."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.sampling.blocks import BlockBatches, possible_blocks
from livseg_lib.training.fit import FitSettings, Stage, dice_metrics, fit

SIZE, DEPTH = 16, 6
LIVERS = {"short": (20, range(8, 11)), "long": (30, range(5, 25)), "thin": (4, range(1, 3))}
"""Slices of each case, and those that show liver."""


@pytest.fixture
def folder(tmp_path):
    """A case each of LIVERS; the corner of slice k has the grey k, the next pixel that of its case."""
    for number, (case, (n_slices, liver)) in enumerate(LIVERS.items()):
        masks = np.zeros((n_slices, SIZE, SIZE), np.uint8)
        masks[liver.start : liver.stop, 4:12, 4:12] = 1
        masks[liver.start, 6:9, 6:9] = 2
        images = np.repeat(masks[..., None] * np.uint8(100), 3, axis=-1)
        images[:, 0, 0, :] = np.arange(n_slices)[:, None]
        images[:, 0, 1, :] = number
        (tmp_path / case).mkdir()
        np.save(tmp_path / case / "images.npy", images)
        np.save(tmp_path / case / "masks.npy", masks)
    return tmp_path


@pytest.fixture
def slices() -> pd.DataFrame:
    rows = [
        (f"p-{case}", case, case, k, 2 if k == liver.start else int(k in liver))
        for case, (n_slices, liver) in LIVERS.items()
        for k in range(n_slices)
    ]
    return pd.DataFrame(rows, columns=["patient", "case", "array", "array_index", "class"])


def shown(images: np.ndarray) -> list[tuple[str, list[int]]]:
    """Which slices of which cases these blocks are (needs augmentation "none")."""
    corners = np.round(images[:, :, 0, :2, 0] * 255).astype(int)
    return [(list(LIVERS)[block[0, 1]], block[:, 0].tolist()) for block in corners]


def epoch_blocks(batches: BlockBatches, epoch: int) -> list[tuple[str, list[int]]]:
    batches.start_epoch(epoch)
    return [block for images, _ in batches for block in shown(images)]


@pytest.mark.parametrize(("target", "maps"), [("liver", 1), ("tumor", 1), ("both", 2)])
def test_batches_are_scaled_blocks_and_target_maps(folder, slices, target, maps):
    batches = BlockBatches(slices, folder, target, DEPTH, 2)
    images, truth = batches[0]
    assert batches.input_shape == (DEPTH, SIZE, SIZE, 3)
    assert images.shape == (2, DEPTH, SIZE, SIZE, 3) and images.dtype == np.float32
    assert truth.shape == (2, DEPTH, SIZE, SIZE, maps) and truth.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    grey = np.round(images[:, :, 10, 10, 0] * 255)  # liver beside the tumour
    if target != "tumor":
        np.testing.assert_array_equal(truth[:, :, 10, 10, 0], grey == 100)


def test_each_case_comes_in_turn_with_a_block_of_its_liver_at_another_place(folder, slices):
    batches = BlockBatches(slices, folder, "liver", DEPTH, 3)
    assert len(batches) == 1
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
    expected = [
        ("short", list(range(6, 12))),  # 8, 9, 10 in its middle
        ("long", list(range(12, 18))),
        ("thin", [0, 1, 2, 3, 3, 3]),
    ]
    assert epoch_blocks(batches, 0) == epoch_blocks(batches, 5) == expected
    assert len(batches[1][0]) == 1
    many = BlockBatches(slices, folder, "liver", DEPTH, 2, shuffle=False, blocks_per_epoch=50)
    assert epoch_blocks(many, 0) == expected


def test_a_short_volume_repeats_its_last_slice_with_its_truth(folder, slices):
    thin = slices[slices["case"] == "thin"]
    images, truth = BlockBatches(thin, folder, "liver", DEPTH, 1)[0]
    np.testing.assert_array_equal(images[0, 4:], np.repeat(images[:, 3], 2, axis=0))
    assert truth[0, :, 8, 8, 0].tolist() == [0, 1, 1, 0, 0, 0]


def test_a_resumed_training_sees_what_the_unbroken_one_sees(folder, slices):
    def settings():
        return BlockBatches(slices, folder, "both", DEPTH, 2, "lits", seed=3, blocks_per_epoch=8)

    unbroken, epochs = settings(), []
    for _ in range(4):
        unbroken.on_epoch_begin()
        epochs.append(list(unbroken))
    resumed = settings()
    resumed.start_epoch(2)
    for epoch in (2, 3):
        resumed.on_epoch_begin()
        for index in reversed(range(len(resumed))):
            for got, expected in zip(resumed[index], epochs[epoch][index], strict=True):
                np.testing.assert_array_equal(got, expected)
    assert (epochs[0][0][0] != epochs[1][0][0]).any()
    assert settings().description() == unbroken.description()  # whatever the epoch


def test_other_blocks_are_another_training(folder, slices):
    def description(**other):
        return BlockBatches(
            **({"slices": slices, "folder": folder, "depth": DEPTH} | given | other)
        ).description()

    given = {"target": "both", "batch_size": 2, "seed": 1}
    first = description()
    others = [
        {"depth": 5},
        {"target": "liver"},
        {"seed": 2},
        {"blocks_per_epoch": 7},
        {"slices": slices[slices["case"] != "thin"]},
    ]
    assert all(description(**other) != first for other in others)
    assert description() == first


def test_all_slices_of_a_block_move_alike_with_their_truth(folder, slices):
    long = slices[slices["case"] == "long"]
    _, truth = BlockBatches(long, folder, "liver", DEPTH, 1, "basic", shuffle=False)[0]
    inner = truth[0, 1:]
    assert (inner == inner[:1]).all() and inner.any() and not inner.all()
    still = BlockBatches(long, folder, "liver", DEPTH, 1, shuffle=False)[0][1]
    assert (truth != still).any()


def test_fit_trains_a_network_of_blocks_on_them(folder, slices, tmp_path):
    keras.utils.set_random_seed(1)
    training = BlockBatches(slices, folder, "both", DEPTH, 2, blocks_per_epoch=6)
    validation = BlockBatches(slices, folder, "both", DEPTH, 2, shuffle=False)
    inputs = keras.Input(training.input_shape)
    x = keras.layers.Conv3D(4, 3, padding="same", activation="relu", name="look")(inputs)
    network = keras.Model(
        inputs, keras.layers.Conv3D(2, 1, activation="sigmoid", name="maps")(x), name="tiny3d"
    )
    settings = FitSettings(
        (Stage(5, 5e-2),), loss="weighted_bce_dice", loss_options={"positive_weight": [2.0, 5.0]}
    )
    history = fit(
        network,
        training,
        validation,
        lambda: dice_metrics(("liver", "tumor")),
        settings,
        tmp_path / "checkpoints",
        training.description(),
    )
    assert history.val_loss.iloc[-1] < 0.8 * history.val_loss.iloc[0]
    assert history.val_liver_dice.iloc[-1] > 0.8


def refused(match: str, *args, **settings):
    with pytest.raises(InputError, match=match):
        BlockBatches(*args, **settings)


def test_what_cannot_be_used_is_refused(folder, slices):
    empty = slices.assign(**{"class": slices["class"].where(slices["case"] != "long", 0)})
    refused("long: shows no liver", empty, folder, "liver", DEPTH, 2)
    refused("lack the columns class", slices.drop(columns="class"), folder, "liver", DEPTH, 2)
    refused("thin: lacks slices", slices.drop(index=slices.index[-2]), folder, "liver", DEPTH, 2)
    refused("has 4 slices, but 3 are given", slices[:-1], folder, "liver", DEPTH, 2)
    refused("are none", slices[:0], folder, "liver", DEPTH, 2)
    refused("depth: is 0", slices, folder, "liver", 0, 2)
    refused("blocks_per_epoch: is 0", slices, folder, "liver", DEPTH, 2, blocks_per_epoch=0)
    refused("liver, tumor, both", slices, folder, "spleen", DEPTH, 2)


def test_possible_blocks_do_not_depend_on_the_order_of_slices(slices):
    shuffled = slices.sample(frac=1, random_state=2).astype({"class": "Int64", "array_index": "Int64"})
    blocks = [
        possible_blocks(table, DEPTH).sort_values(["array", "array_index"], ignore_index=True)
        for table in (slices, shuffled)
    ]
    pd.testing.assert_frame_equal(*blocks)
    assert blocks[0].groupby("array").size().to_dict() == {"short": 4, "long": 15, "thin": 1}
    assert blocks[0].groupby("array")["is_middle"].sum().eq(1).all()
