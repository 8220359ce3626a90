from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import NetworkInput
from livseg_lib.sampling.batches import SliceBatches

SIZE = 16


@pytest.fixture
def folder(tmp_path):
    """Three cases of 4, 5 and 6 slices; the grey of a slice's corner is its number in all of them."""
    number = 0
    for case, depth in enumerate((4, 5, 6)):
        images, masks = np.zeros((depth, SIZE, SIZE, 3), np.uint8), np.zeros((depth, SIZE, SIZE), np.uint8)
        masks[:, 4:12, 4:12], masks[:, 6:9, 6:9] = 1, 2
        images += masks[..., None] * 100
        for k in range(depth):
            images[k, 0, 0, :] = number
            number += 1
        (tmp_path / f"case-{case}").mkdir()
        np.save(tmp_path / f"case-{case}" / "images.npy", images)
        np.save(tmp_path / f"case-{case}" / "masks.npy", masks)
    return tmp_path


@pytest.fixture
def slices() -> pd.DataFrame:
    rows = [(f"case-{case}", k) for case, depth in enumerate((4, 5, 6)) for k in range(depth)]
    return pd.DataFrame(rows, columns=["array", "array_index"])


def numbers(images: np.ndarray) -> list[int]:
    """Which slices these are (needs augmentation "none")."""
    return np.round(images[:, 0, 0, 0] * 255).astype(int).tolist()


def epoch_numbers(batches: SliceBatches, epoch: int) -> list[int]:
    batches.start_epoch(epoch)
    return [number for images, _ in batches for number in numbers(images)]


@pytest.mark.parametrize(("target", "maps"), [("liver", 1), ("tumor", 1), ("both", 2)])
def test_batches_are_scaled_images_and_target_maps(folder, slices, target, maps):
    images, truth = SliceBatches(slices, folder, target, 4)[0]
    assert images.shape == (4, SIZE, SIZE, 3) and images.dtype == np.float32
    assert truth.shape == (4, SIZE, SIZE, maps) and truth.dtype == np.float32
    assert images.min() >= 0 and images[:, 7, 7].max() == np.float32(200 / 255)
    assert truth[..., 0].sum() == 4 * {"liver": 64, "tumor": 9, "both": 64}[target]
    assert truth[..., -1].sum() == 4 * {"liver": 64, "tumor": 9, "both": 9}[target]


@pytest.mark.parametrize("batch_size", [1, 4, 5, 15, 40])
def test_every_slice_comes_once_an_epoch_and_full_batches_fill_up(folder, slices, batch_size):
    batches = SliceBatches(slices, folder, "liver", batch_size)
    for epoch in range(3):
        seen = epoch_numbers(batches, epoch)
        assert sorted(seen[:15]) == list(range(15))
        assert len(seen) == len(batches) * batch_size
        assert seen[15:] == (seen[:15] * 3)[: len(seen) - 15]
    assert epoch_numbers(batches, 0) != epoch_numbers(batches, 1)


def test_short_epochs_go_on_where_the_last_one_stopped(folder, slices):
    batches = SliceBatches(slices, folder, "liver", 3, slices_per_epoch=6)
    assert len(batches) == 2
    stream = [number for epoch in range(5) for number in epoch_numbers(batches, epoch)]
    assert sorted(stream[:15]) == sorted(stream[15:]) == list(range(15))


def test_a_small_set_comes_round_again_in_long_epochs(folder, slices):
    batches = SliceBatches(slices, folder, "liver", 3, slices_per_epoch=45)
    seen = epoch_numbers(batches, 1)
    assert len(seen) == 45
    assert [sorted(seen[start : start + 15]) for start in (0, 15, 30)] == [list(range(15))] * 3
    assert seen[:15] != seen[15:30]


def test_validation_keeps_the_order_and_repeats_nothing(folder, slices):
    batches = SliceBatches(slices, folder, "liver", 4, shuffle=False)
    assert epoch_numbers(batches, 0) == epoch_numbers(batches, 1) == list(range(15))
    assert len(batches[3][0]) == 3
    few = SliceBatches(slices, folder, "liver", 4, shuffle=False, slices_per_epoch=5)
    assert epoch_numbers(few, 0) == epoch_numbers(few, 7) == [0, 3, 6, 9, 12]


def test_a_resumed_training_sees_what_the_unbroken_one_sees(folder, slices):
    def settings():
        return SliceBatches(slices, folder, "both", 4, "lits", seed=3, slices_per_epoch=10)

    unbroken, epochs = settings(), []
    for _ in range(4):
        unbroken.on_epoch_begin()
        epochs.append(list(unbroken))
    resumed = settings()
    resumed.start_epoch(2)
    for epoch in (2, 3):
        resumed.on_epoch_begin()
        for index in reversed(range(len(resumed))):  # nor does the order of asking matter
            for got, expected in zip(resumed[index], epochs[epoch][index], strict=True):
                np.testing.assert_array_equal(got, expected)
    assert (epochs[0][0][0] != epochs[1][0][0]).any()


def test_seeds_differ_in_order_and_in_augmentation(folder, slices):
    one, other = (SliceBatches(slices, folder, "liver", 4, seed=seed) for seed in (1, 2))
    assert epoch_numbers(one, 0) != epoch_numbers(other, 0)
    moved = [SliceBatches(slices, folder, "liver", 4, "lits", s, shuffle=False)[0][1] for s in (1, 2)]
    assert (moved[0] != moved[1]).any()


def test_each_epoch_and_batch_is_augmented_anew(folder, slices):
    same_slice = slices.iloc[[0, 0]]
    batches = SliceBatches(same_slice, folder, "liver", 1, "lits", shuffle=False)
    pictures = [images.tobytes() for images, _ in batches]
    batches.start_epoch(1)
    pictures += [images.tobytes() for images, _ in batches]
    assert len(set(pictures)) == 4


def test_fit_takes_each_epochs_batches_in_order(folder, slices):
    asked: list[list] = []

    class Recorded(SliceBatches):
        def on_epoch_begin(self):
            super().on_epoch_begin()
            asked.append([])

        def __getitem__(self, batch):
            if asked:  # before the first epoch Keras looks at the shapes
                asked[-1].append((self.epoch, batch))
            return super().__getitem__(batch)

    training = Recorded(slices, folder, "liver", 5)
    validation = SliceBatches(slices, folder, "liver", 8, shuffle=False)
    inputs = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, activation="sigmoid")(inputs))
    model.compile("sgd", "binary_crossentropy")
    training.start_epoch(2)
    model.fit(training, validation_data=validation, initial_epoch=2, epochs=6, verbose=0, shuffle=False)
    assert asked == [[(epoch, batch) for batch in range(3)] for epoch in (2, 3, 4, 5)]


def test_arrays_stay_on_disk(folder, slices, monkeypatch):
    loaded, load = [], np.load

    def spy(path, *args, **kwargs):
        loaded.append(load(path, *args, **kwargs))
        return loaded[-1]

    monkeypatch.setattr(np, "load", spy)
    batches = SliceBatches(slices, folder, "liver", 4)
    list(batches)
    assert len(loaded) == 6  # each array is opened once
    assert all(isinstance(array, np.memmap) for array in loaded)
    assert not isinstance(batches[0][0], np.memmap)


def test_columns_as_read_from_slices_csv_give_the_same_batches(folder, slices):
    nullable = slices.astype({"array": "string", "array_index": "Int64"})
    one, other = (SliceBatches(table, folder, "liver", 4)[1] for table in (slices, nullable))
    np.testing.assert_array_equal(one[0], other[0])


def refused(match: str, *args, **kwargs):
    with pytest.raises(InputError, match=match):
        SliceBatches(*args, **kwargs)


def test_arrays_that_do_not_fit_are_refused(folder, slices):
    images, masks = folder / "case-1" / "images.npy", folder / "case-1" / "masks.npy"
    good = images.read_bytes()
    for spoil, match in [
        (
            lambda: np.save(images, np.zeros((5, SIZE, SIZE, 1), np.uint8)),
            r"\(16, 16, 1\).*case-0.*16, 16, 3",
        ),
        (lambda: np.save(images, np.zeros((5, 32, 32, 3), np.uint8)), "masks"),
        (lambda: np.save(images, np.zeros((5, SIZE, SIZE, 3))), "float64 where uint8"),
        (lambda: images.write_bytes(good[:-1]), "cannot be opened"),
        (lambda: images.write_bytes(b""), "cannot be opened"),
        (images.unlink, "case-1.images.npy: cannot be opened.*notebook 01"),
    ]:
        spoil()
        refused(match, slices, folder, "liver", 4)
    images.write_bytes(good)
    np.save(masks, np.zeros((5, 8, 8), np.uint8))
    refused("masks", slices, folder, "liver", 4)


def test_settings_that_make_no_sense_are_refused(folder, slices):
    refused("are none", slices[:0], folder, "liver", 4)
    refused("lack the columns", slices[["array"]], folder, "liver", 4)
    refused("liver, tumor, both", slices, folder, "spleen", 4)
    refused("none, light", slices, folder, "liver", 4, augmentation="heavy")
    refused("batch_size", slices, folder, "liver", 0)
    refused("slices_per_epoch", slices, folder, "liver", 4, slices_per_epoch=0)
    beyond = pd.concat([slices, pd.DataFrame({"array": ["case-0"], "array_index": [4]})])
    refused("has 4 slices, but slices.csv names 0 to 4", beyond, folder, "liver", 4)


def test_other_pictures_under_the_same_names_are_another_training(folder, slices):
    before = SliceBatches(slices, folder, "both", 4).description()
    assert SliceBatches(slices, folder, "both", 4).description() == before
    images = np.load(folder / "case-0" / "images.npy")
    np.save(folder / "case-0" / "images.npy", images // 2 + 1)
    assert SliceBatches(slices, folder, "both", 4).description() != before


def test_neighbouring_slices_are_channels_and_the_ends_come_again(folder, slices):
    batches = SliceBatches(slices, folder, "liver", 15, inputs=NetworkInput(neighbours=1), shuffle=False)
    images, _ = batches[0]
    assert batches.input_shape == images.shape[1:] == (SIZE, SIZE, 9)
    of_slice = np.round(images[:, 0, 0, ::3] * 255).astype(int).tolist()
    assert of_slice[0] == [0, 0, 1] and of_slice[1] == [0, 1, 2]
    assert of_slice[3] == [2, 3, 3] and of_slice[4] == [4, 4, 5]  # never the next patient's


def test_the_liver_channel_moves_as_the_truth_does(folder, slices):
    inputs = NetworkInput(sees_liver=True)
    images, truth = SliceBatches(slices, folder, "both", 8, "basic", seed=3, inputs=inputs)[0]
    assert images.shape[-1] == 4
    np.testing.assert_array_equal(images[..., -1], truth[..., 0])


def test_a_training_knows_which_channels_it_saw(folder, slices):
    plain, further = (
        SliceBatches(slices, folder, "liver", 4, inputs=inputs).description()
        for inputs in (NetworkInput(), NetworkInput(neighbours=2))
    )
    assert "inputs" not in plain and further["inputs"]["neighbours"] == 2
