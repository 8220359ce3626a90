"""Steps, their regions, and what becomes of an empty liver."""

from __future__ import annotations

import keras
import nibabel
import numpy as np
import pytest
from keras import layers
from nifti_files import ORIENTATIONS, axis_affine, write_nifti

from livseg_lib.errors import InputError
from livseg_lib.inference.cascade import Cascade, NetworkPart, Step, run_cascade, stages, with_tumors
from livseg_lib.inference.systems import augmented, outline
from livseg_lib.preprocessing.recipe import OWN_PICTURE, NetworkInput, Recipe
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, load_volume, save_segmentation

SPACING = (5.0, 1.0, 1.0)
LIVER_HU, TUMOR_HU = 100, 60


def scan(start=(2, 20, 30), stop=(6, 60, 80), shape=(9, 80, 100)) -> tuple[Volume, np.ndarray]:
    """A block of liver with a tumour at its first corner, not the same along any axis."""
    labels = np.zeros(shape, np.uint8)
    labels[tuple(map(slice, start, stop))] = 1
    labels[start[0], start[1] : start[1] + 12, start[2] : start[2] + 9] = 2
    hu = np.array([-100, LIVER_HU, TUMOR_HU], np.int16)[labels]
    return Volume(hu, SPACING), labels


def coarse(volume: Volume, labels: np.ndarray) -> np.ndarray:
    return (volume.voxels == LIVER_HU).astype(np.uint8)


def fine(volume: Volume, labels: np.ndarray) -> np.ndarray:
    return np.select([volume.voxels == TUMOR_HU, volume.voxels == LIVER_HU], [2, 1], 0).astype(np.uint8)


def steps(margin_mm: float = 5.0, region: str = "box") -> tuple[Step, ...]:
    return Step("coarse liver", coarse), Step("fine", fine, region, margin_mm)


PLACES = {
    "middle": ((2, 20, 30), (6, 60, 80)),
    "at the border": ((0, 0, 50), (9, 40, 100)),
    "a single slice of it": ((4, 20, 30), (5, 60, 80)),
}


@pytest.mark.parametrize("region", ["box", "slices"])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_found_in_the_region_lies_where_it_was(place, region):
    volume, truth = scan(*PLACES[place])
    np.testing.assert_array_equal(run_cascade(volume, steps(region=region)), truth)


def test_a_scan_of_one_slice():
    volume, truth = scan((0, 20, 30), (1, 60, 80), (1, 80, 100))
    np.testing.assert_array_equal(run_cascade(volume, steps()), truth)


def test_later_steps_see_their_region_alone():
    seen = []

    def watch(volume: Volume, labels: np.ndarray) -> np.ndarray:
        seen.append((volume.voxels.shape, labels.shape, int(labels.sum())))
        return labels

    volume, _ = scan()
    run_cascade(volume, (Step("coarse", coarse), Step("watch", watch, "box", 5.0)))
    assert seen == [((6, 50, 60), (6, 50, 60), 4 * 40 * 50 - 12 * 9)]


def test_an_empty_liver_ends_in_an_empty_mask():
    def fails(volume: Volume, labels: np.ndarray) -> np.ndarray:
        raise AssertionError("there is no region to look at")

    nothing = Volume(np.full((5, 40, 30), -100, np.int16), SPACING)
    cascade = (Step("coarse", coarse), Step("fine", fails, "box", 5.0))
    assert not run_cascade(nothing, cascade).any()
    assert [step.name for step, _ in stages(nothing, cascade)] == ["coarse"]


def test_a_known_liver_that_is_empty_leaves_nowhere_to_look():
    volume, truth = scan()
    assert not run_cascade(volume, steps()[1:], np.zeros(truth.shape, bool)).any()


def test_stages_show_the_labels_after_each_step():
    volume, truth = scan()
    first, last = stages(volume, steps())
    assert first[0].name == "coarse liver" and (first[1] == (truth == 1)).all()
    np.testing.assert_array_equal(last[1], truth)


def test_a_liver_that_is_known_stands_and_tumours_are_looked_for_inside_it():
    volume, truth = scan()
    half = truth > 0
    half[4:] = False
    labels = run_cascade(volume, steps(), half)
    np.testing.assert_array_equal(labels, np.where(half, truth, 0))


def test_tables_take_a_cascade_as_a_system():
    volume, truth = scan()
    cascade = Cascade("two_steps", ("liver", "tumor"), steps(), parameters=5)
    np.testing.assert_array_equal(cascade.predict(None, volume), truth)


def test_tumours_count_inside_the_liver_alone():
    liver, tumor = np.array([1, 1, 0], bool), np.array([1, 0, 1], bool)
    assert with_tumors(liver, tumor).tolist() == [2, 1, 0]


def network(target: str, weights: list[float], bias: float, inputs=OWN_PICTURE) -> TrainedModel:
    """One 1 x 1 convolution over the channels, steep enough to be a threshold."""
    picture = keras.Input((128, 128, len(weights)))
    maps = layers.Conv2D(1, 1, activation="sigmoid", name="probabilities")
    model = keras.Model(picture, maps(picture))
    maps.set_weights([np.reshape(weights, (1, 1, -1, 1)).astype(np.float32), np.array([bias], np.float32)])
    recipe = Recipe(windows=("stored",))
    return TrainedModel("seer", "unet", {}, model, recipe, target, {target: 0.5}, inputs=inputs)


def grey_scan() -> tuple[Volume, np.ndarray]:
    _, labels = scan((1, 16, 32), (3, 80, 112), (4, 128, 128))
    return Volume(np.array([0, 200, 100], np.int16)[labels], SPACING), labels


def test_a_network_of_livers_replaces_what_was_found():
    volume, truth = grey_scan()
    part = NetworkPart(network("liver", [100.0], -20.0))
    np.testing.assert_array_equal(part(volume, np.full_like(truth, 2)), (truth > 0).astype(np.uint8))


def test_a_network_of_tumours_adds_them_to_the_liver_it_sees():
    volume, truth = grey_scan()
    dark = network("tumor", [-100.0, 60.0], 0.0, NetworkInput(sees_liver=True))  # dark where the liver is
    part = NetworkPart(dark)
    np.testing.assert_array_equal(part(volume, (truth > 0).astype(np.uint8)), truth)
    assert not part(volume, np.zeros_like(truth)).any()


@pytest.mark.parametrize("orientation", ORIENTATIONS[::7])
def test_the_mask_of_a_scan_lies_as_the_scan_was_stored(tmp_path, orientation):
    stored = np.full((40, 30, 12), -100, np.int16)
    stored[5:30, 3:20, 2:9] = LIVER_HU
    stored[5:11, 3:8, 2:4] = TUMOR_HU
    scan_file = write_nifti(tmp_path / "scan.nii.gz", stored, axis_affine(*orientation))
    found = load_volume(scan_file)
    mask_file = save_segmentation(run_cascade(found, steps()), found, tmp_path / "mask.nii.gz")
    mask = nibabel.load(mask_file)
    np.testing.assert_array_equal(mask.affine, nibabel.load(scan_file).affine)
    truth = np.select([stored == TUMOR_HU, stored == LIVER_HU], [2, 1], 0)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), truth)


def test_variants_of_a_picture_are_asked_of_every_network_of_a_cascade():
    volume, truth = grey_scan()
    cascade = Cascade(
        "one", ("liver",), (Step("liver", NetworkPart(network("liver", [100.0], -20.0))),), parameters=2
    )
    several = augmented(cascade, ["shift"])
    np.testing.assert_array_equal(outline(several, volume) > 0, truth > 0)
    assert several.steps[0].part.trained.network.names == ("shift",)
    with pytest.raises(InputError, match="not a way to vary"):
        augmented(cascade, ["upside_down"])


def test_a_known_liver_is_kept_by_single_networks_too():
    volume, truth = grey_scan()
    half = truth > 0
    half[2:] = False
    single = network("liver", [100.0], -20.0)
    np.testing.assert_array_equal(outline(single, volume, half), half.astype(np.uint8))
