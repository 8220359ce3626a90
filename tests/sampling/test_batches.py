"""Batches: each slice once an epoch, the same for whoever resumes, with truth that moves as pictures do."""

import keras
import numpy as np
import pandas as pd
import pytest
from stored_cases import store_case

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import NetworkInput
from livseg_lib.sampling.batches import (
    NO_REGION,
    REGIONS,
    RegionBatches,
    SliceBatches,
    attach_regions,
    decode_target,
    encode_target,
    regions_in,
    without_region,
)

SIZE = 16
LABELS = np.array([[0, 1], [2, 1]], np.uint8)


@pytest.mark.parametrize(
    ("target", "maps"),
    [
        ("liver", [[[0], [1]], [[1], [1]]]),
        ("tumor", [[[0], [0]], [[1], [0]]]),
        ("both", [[[0, 0], [1, 0]], [[1, 1], [1, 0]]]),
    ],
)
def test_one_map_a_structure_by_hand(target, maps):
    encoded = encode_target(LABELS, target)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, maps)


def test_a_map_of_just_a_half_is_the_structure():
    maps = np.array([[0.5, 0.5], [0.5, 0.49], [0.49, 0.0]], np.float32)
    assert decode_target(maps, "both").tolist() == [2, 1, 0]


@pytest.fixture
def slices(tmp_path) -> pd.DataFrame:
    """Three cases of 4, 5 and 6 slices; the grey of a slice's corner is its number in all of them."""
    masks = np.zeros((15, SIZE, SIZE), np.uint8)
    masks[:, 4:12, 4:12], masks[:, 6:9, 6:9] = 1, 2
    images = np.repeat(masks[..., None] * 100, 3, axis=-1)
    images[:, 0, 0] = np.arange(15)[:, None]
    cases = [slice(0, 4), slice(4, 9), slice(9, 15)]
    rows = [store_case(tmp_path, f"case-{n}", masks[case], images[case]) for n, case in enumerate(cases)]
    return pd.concat(rows, ignore_index=True)


@pytest.fixture
def folder(tmp_path, slices):
    return tmp_path


def numbers(images: np.ndarray) -> list[int]:
    """Which slices these are (needs augmentation "none")."""
    return np.round(images[:, 0, 0, 0] * 255).astype(int).tolist()


def epoch_numbers(batches: SliceBatches, epoch: int) -> list[int]:
    batches.start_epoch(epoch)
    return [number for images, _ in batches for number in numbers(images)]


@pytest.mark.parametrize(("target", "maps"), [("liver", 1), ("tumor", 1), ("both", 2)])
def test_batches_are_scaled_images_and_target_maps(folder, slices, target, maps):
    nullable = slices.astype({"array": "string", "array_index": "Int64"})  # as read from slices.csv
    images, truth = SliceBatches(nullable, folder, target, 4)[0]
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


def test_short_epochs_go_on_where_the_last_one_stopped_and_long_ones_go_round(folder, slices):
    short = SliceBatches(slices, folder, "liver", 3, slices_per_epoch=6)
    assert len(short) == 2
    stream = [number for epoch in range(5) for number in epoch_numbers(short, epoch)]
    assert sorted(stream[:15]) == sorted(stream[15:]) == list(range(15))
    seen = epoch_numbers(SliceBatches(slices, folder, "liver", 3, slices_per_epoch=45), 1)
    assert [sorted(seen[start : start + 15]) for start in (0, 15, 30)] == [list(range(15))] * 3
    assert len(seen) == 45 and seen[:15] != seen[15:30]


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


def test_seeds_epochs_and_batches_are_augmented_each_in_their_own_way(folder, slices):
    one, other = (SliceBatches(slices, folder, "liver", 4, seed=seed) for seed in (1, 2))
    assert epoch_numbers(one, 0) != epoch_numbers(other, 0)
    pictures = []
    for seed in (1, 2):
        batches = SliceBatches(slices.iloc[[0, 0]], folder, "liver", 1, "lits", seed, shuffle=False)
        for epoch in (0, 1):
            batches.start_epoch(epoch)
            pictures += [images.tobytes() for images, _ in batches]
    assert len(set(pictures)) == 8


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


def refused(match: str, *args, **kwargs):
    with pytest.raises(InputError, match=match):
        SliceBatches(*args, **kwargs)


def test_arrays_that_do_not_fit_are_refused(folder, slices):
    images, masks = folder / "case-1" / "images.npy", folder / "case-1" / "masks.npy"
    good = images.read_bytes()
    one_channel = np.zeros((5, SIZE, SIZE, 1), np.uint8)
    for spoil, match in [
        (lambda: np.save(images, one_channel), r"\(16, 16, 1\).*case-0.*16, 16, 3"),
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


def test_what_defines_the_batches_tells_trainings_apart(folder, slices):
    plain = SliceBatches(slices, folder, "both", 4).description()
    assert SliceBatches(slices, folder, "both", 4).description() == plain and "inputs" not in plain
    further = SliceBatches(slices, folder, "both", 4, inputs=NetworkInput(neighbours=2)).description()
    assert further["inputs"]["neighbours"] == 2
    images = np.load(folder / "case-0" / "images.npy")
    np.save(folder / "case-0" / "images.npy", images // 2 + 1)  # other pictures under the same names
    assert SliceBatches(slices, folder, "both", 4).description() != plain


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


# --- regions


@pytest.fixture
def sorted_slices(slices) -> pd.DataFrame:
    """The six slices of the last case, whose numbers begin with 9."""
    return slices[-6:].assign(region=[REGIONS[n] for n in (0, 0, 1, 2, 1, 3)])


def test_each_picture_comes_with_its_region(folder, sorted_slices):
    for images, truth in RegionBatches(sorted_slices, folder, REGIONS, 4, "none", seed=1):
        assert images.shape == (4, SIZE, SIZE, 3) and images.dtype == truth.dtype == np.float32
        assert truth.shape == (4, 4) and (truth.sum(axis=1) == 1).all()
        expected = sorted_slices.region.iloc[np.array(numbers(images)) - 9].tolist()
        assert [REGIONS[k] for k in truth.argmax(axis=1)] == expected
    liver_only = sorted_slices[sorted_slices.region.isin(("liver", "liver_with_tumor"))]
    _, truth = RegionBatches(liver_only, folder, ("liver_with_tumor", "liver"), 3, shuffle=False)[0]
    np.testing.assert_array_equal(truth, [[0, 1], [1, 0], [0, 1]])


def test_other_truths_are_another_training_and_strangers_are_refused(folder, sorted_slices):
    one = RegionBatches(sorted_slices, folder, REGIONS, 4).description()
    other = sorted_slices.assign(region=sorted_slices.region.replace("liver", "liver_with_tumor"))
    assert one["regions"] == list(REGIONS)
    assert one != RegionBatches(other, folder, REGIONS, 4).description()
    for stranger in ("spleen", ""):
        with pytest.raises(InputError, match=f"'{stranger}' is none of below_liver.*Leave out"):
            RegionBatches(sorted_slices.assign(region=stranger), folder, REGIONS, 4)


def table(**classes: list[int]) -> pd.DataFrame:
    """One case a keyword, its slices from feet to head by class."""
    rows = [(f"p-{c}", c, k, value) for c, values in classes.items() for k, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["patient", "case", "array_index", "class"])


def test_each_slice_is_named_by_its_labels_or_its_side_of_the_liver():
    slices = table(a=[0, 0, 1, 2, 1, 0], b=[2, 0])
    named = attach_regions(slices)
    assert named.region.tolist() == [
        *("below_liver", "below_liver", "liver", "liver_with_tumor", "liver", "above_liver"),
        *("liver_with_tumor", "above_liver"),
    ]
    assert regions_in(named) == REGIONS and without_region(named).empty
    assert regions_in(attach_regions(table(a=[1, 1], b=[1]))) == ("liver",)
    shuffled = slices.sample(frac=1, random_state=1).astype({"class": "Int64", "array_index": "Int64"})
    assert attach_regions(shuffled).sort_index().region.tolist() == named.region.tolist()


def test_slices_that_cannot_be_named_are_counted_with_the_reason():
    named = attach_regions(table(no_liver=[0, 0, 0], gap=[0, 1, 0, 0, 1], fine=[0, 1]))
    assert named.region.tolist() == [NO_REGION] * 3 + [
        *("below_liver", "liver", NO_REGION, NO_REGION, "liver"),
        *("below_liver", "liver"),
    ]
    nameless = without_region(named).set_index("case")
    assert nameless.slices.to_dict() == {"no_liver": 3, "gap": 2}
    assert nameless.reason.to_dict() == {"no_liver": "no liver at all", "gap": "liver on both sides"}
    assert nameless.patient.to_dict() == {"no_liver": "p-no_liver", "gap": "p-gap"}
