"""A sorted scan: probabilities on its own slices, an order to read them in, a gate that spares the rest."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.inference import sorting
from livseg_lib.inference.predict import predict_volume
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.sampling.batches import REGIONS
from livseg_lib.training.model_folder import TrainedModel, TrainedSorter
from livseg_lib.volumes import Volume

RECIPE = Recipe(windows=("stored",), size=128)


def grey_sorter() -> keras.Model:
    """Right by construction: the brighter the whole picture, the later the region (0, 80, 160, 240)."""
    picture = keras.Input((128, 128, 1))
    mean = layers.GlobalAveragePooling2D()(picture)
    answer = layers.Dense(4, activation="softmax")
    network = keras.Model(picture, answer(mean))
    centres = np.arange(4) * 80 / 255
    answer.set_weights([200 * centres[None].astype(np.float32), (-100 * centres**2).astype(np.float32)])
    return network


def sorter(gate: float = 0.5, recipe: Recipe = RECIPE) -> TrainedSorter:
    return TrainedSorter("slice_sorter", "slice_sorter", {}, grey_sorter(), recipe, REGIONS, gate)


def scan(greys: list[int], spacing_mm: float = 3.0) -> Volume:
    voxels = np.array(greys, np.int16)[:, None, None] * np.ones((1, 128, 128), np.int16)
    return Volume(voxels, (spacing_mm, 0.8, 0.8))


def bright_is_liver(recipe: Recipe = RECIPE) -> tuple[TrainedModel, list]:
    """A segmentation model that calls grey from 40 up liver, and the list of batches that it was given."""
    picture = keras.Input((128, 128, 1))
    steep = layers.Conv2D(1, 1, activation="sigmoid", name="probabilities")
    network = keras.Model(picture, steep(picture))
    steep.set_weights([np.full((1, 1, 1, 1), 200.0, np.float32), np.array([-200 * 40 / 255], np.float32)])
    trained = TrainedModel("unet", "unet", {}, network, recipe, "liver", {"liver": 0.5})
    seen, predict = [], network.predict_on_batch
    network.predict_on_batch = lambda batch: (
        seen.append(int((batch.max(axis=(1, 2, 3)) > 0).sum())) or predict(batch)
    )
    return trained, seen


def test_every_own_slice_gets_its_probabilities():
    found = sorting.sort_volume(sorter(), scan([0, 0, 80, 160, 80, 240] * 4))  # more than one batch
    assert found.shape == (24, 4) and found.dtype == np.float32
    assert found.argmax(axis=1).tolist() == [0, 0, 1, 2, 1, 3] * 4
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert sorting.sort_pictures(grey_sorter(), []).shape == (0, 4)


@pytest.mark.parametrize("voxel_size_mm", [1.5, 6.0])
def test_a_resampled_scan_is_sorted_on_its_own_slices(voxel_size_mm):
    recipe = Recipe(windows=("stored",), size=128, voxel_size_mm=(voxel_size_mm, 0.8, 0.8))
    found = sorting.sort_volume(sorter(recipe=recipe), scan([0, 0, 80, 80, 160, 160, 240, 240]))
    assert found.argmax(axis=1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_reader_opens_liver_first_by_the_probability_of_tumour():
    probabilities = np.array(
        [
            [0.9, 0.1, 0.0, 0.0],
            [0.3, 0.5, 0.2, 0.0],
            [0.0, 0.4, 0.6, 0.0],
            [0.0, 0.1, 0.9, 0.0],
            [0.0, 0.2, 0.0, 0.8],
            [0.0, 1.0, 0.0, 0.0],
        ]
    )
    table = sorting.reading_table(probabilities, REGIONS, slice_numbers=[40, 41, 42, 43, 44, 45])
    assert table.place.tolist() == [1, 2, 3, 4, 5, 6]
    assert table.slice.tolist() == [43, 42, 41, 45, 44, 40]
    assert table.array_index.tolist() == [3, 2, 1, 5, 4, 0]
    assert table.region.tolist() == ["liver_with_tumor"] * 2 + ["liver"] * 2 + ["above_liver", "below_liver"]
    assert table.probability_liver_with_tumor.tolist() == [0.9, 0.6, 0.2, 0.0, 0.0, 0.0]
    without_tumor = sorting.reading_table(probabilities[:, :2], ("below_liver", "liver")).slice.tolist()
    assert without_tumor[0] == 5 and without_tumor[-1] == 0
    assert sorting.opened_until_tumor(["liver", "above_liver", "liver_with_tumor", "liver_with_tumor"]) == 3
    assert sorting.opened_until_tumor(["liver"]) == 0


def test_the_gate_lets_liver_through_from_its_threshold_up():
    greys = np.array([0, 36, 46, 80, 160, 204, 240], np.uint8)
    pictures = np.broadcast_to(greys[:, None, None, None], (7, 128, 128, 1))
    for threshold, expected in ((0.5, [0, 0, 1, 1, 1, 0, 0]), (0.05, [0, 1, 1, 1, 1, 1, 0]), (0.0, [1] * 7)):
        gate = sorting.SorterGate(sorter(threshold), RECIPE)
        assert gate(pictures).tolist() == gate.passed == [bool(passes) for passes in expected]
    certain = float(sorting.liver_probability(sorting.sort_pictures(grey_sorter(), pictures), REGIONS)[2])
    assert sorting.SorterGate(sorter(certain), RECIPE)(pictures)[2]  # the threshold itself passes
    with pytest.raises(InputError, match="another recipe"):
        sorting.SorterGate(sorter(), Recipe(windows=("liver",), size=128))


def test_pictures_that_do_not_pass_never_reach_the_network():
    volume = scan([0, 0, 80, 80, 160, 240] * 6)
    trained, seen = bright_is_liver()
    gate = sorting.SorterGate(sorter(), RECIPE)
    whole = predict_volume(trained, volume)
    assert sum(seen) == 24 and (whole[5] == 1).all()  # black pictures are not counted, 240 is called liver
    seen.clear()
    gated = predict_volume(trained, volume, gate)
    assert sum(seen) == 18 and gate.passed == [False, False, True, True, True, False] * 6
    passed = np.array(gate.passed)
    np.testing.assert_array_equal(gated[passed], whole[passed])
    assert not gated[~passed].any()
    seen.clear()
    closed = sorting.SorterGate(sorter(gate=2.0), RECIPE)
    assert not predict_volume(trained, volume, closed).any() and not seen


def test_the_gate_is_chosen_so_that_liver_passes_and_is_open_where_all_is_liver():
    probabilities = np.array([[0.9, 0.1, 0, 0], [0.2, 0.5, 0.3, 0], [0.6, 0.2, 0.2, 0], [0, 0, 0, 1]])
    truth = ["below_liver", "liver", "liver_with_tumor", "above_liver"]
    assert sorting.choose_gate(probabilities, REGIONS, truth, recall=1.0) == pytest.approx(0.4)
    assert sorting.choose_gate(probabilities, REGIONS, truth, recall=0.5) == pytest.approx(0.8)
    assert sorting.choose_gate(probabilities, REGIONS, ["liver"] * 4, recall=0.5) == 0.0


def test_extracted_slices_are_sorted_in_the_order_of_their_rows(tmp_path):
    for name, greys in (("a", [0, 80, 160]), ("b", [240, 0])):
        (tmp_path / name).mkdir()
        pictures = np.array(greys, np.uint8)[:, None, None, None] * np.ones((1, 128, 128, 1), np.uint8)
        np.save(tmp_path / name / "images.npy", pictures)
    rows = pd.DataFrame({"array": ["b", "a", "a", "b"], "array_index": [0, 2, 0, 1]}).astype("object")
    assert sorting.sort_stored(grey_sorter(), rows, tmp_path).argmax(axis=1).tolist() == [3, 2, 0, 0]


def test_a_trial_counts_what_is_spared_and_what_is_lost():
    volume = scan([0, 80, 80, 160, 240])
    truth = np.zeros(volume.voxels.shape, np.uint8)
    truth[1:, :64] = 1  # also the slice that the gate takes for chest
    trained, _ = bright_is_liver()
    case = Case("c", "p", (), lambda: volume, lambda _: truth)
    row = sorting.try_gate(sorter(), trained, case)
    half = 64 * 128
    assert (row["n_slices"], row["n_spared"], row["liver_voxels"]) == (5, 2, 4 * half)
    assert (row["liver_found"], row["liver_gated_found"]) == (4 * half, 3 * half)
    assert row["liver_dice"] == pytest.approx(2 * 4 / (4 + 8))
    assert row["liver_gated_dice"] == pytest.approx(2 * 3 / (4 + 6))
    assert row["whole_seconds"] > 0 and row["gated_seconds"] > 0
    summary = sorting.summarize_gate(pd.DataFrame([row, row]), ("liver",)).set_index("quantity")
    assert summary.loc["slices segmented"].tolist() == [10, 6]
    assert summary.loc[f"liver voxels found, of {8 * half}"].tolist() == [8 * half, 6 * half]
