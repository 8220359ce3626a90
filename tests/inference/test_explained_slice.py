"""A slice as a network sees it is what prediction shows it, and maps find back to the scan."""

import keras
import numpy as np
import pytest
from keras import layers

from livseg_lib.inference import explained_slice as module
from livseg_lib.preprocessing.geometry import crop_volume, whole_scan
from livseg_lib.preprocessing.recipe import OWN_PICTURE, NetworkInput, Recipe, prepare_labels, prepare_slices
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume

SPACING_MM = (5.0, 2.0, 1.0)
VOXELS = np.random.default_rng(0).integers(-200, 300, (10, 40, 64), np.int16)
SCAN = Volume(VOXELS, SPACING_MM)
WHOLE = whole_scan(VOXELS, SPACING_MM)
BOX = (slice(2, 9), slice(8, 32), slice(16, 48))


def trained(inputs: NetworkInput = OWN_PICTURE, depth: int | None = None, **recipe) -> TrainedModel:
    """A network of the given kind, whose answer is a sigmoid of its first channel."""
    look = Recipe(windows=("liver", "z_score"), size=32, **recipe)
    shape = (32, 32, inputs.channels(2)) if depth is None else (depth, 32, 32, inputs.channels(2))
    image = keras.Input(shape)
    kind = layers.Conv2D if depth is None else layers.Conv3D
    network = keras.Model(image, kind(2, 1, activation="sigmoid")(image))
    thresholds = {"liver": 0.5, "tumor": 0.6}
    return TrainedModel("toy", "unet", {}, network, look, "both", thresholds, inputs=inputs)


@pytest.mark.parametrize(("region", "neighbours"), [(WHOLE, 0), (WHOLE, 1), (BOX, 1), (BOX, 2)])
@pytest.mark.parametrize("index", [2, 5, 8])
def test_pictures_are_those_of_prediction(region, neighbours, index):
    model = trained(NetworkInput(neighbours))
    everything = list(model.inputs.compose(prepare_slices(crop_volume(SCAN, region), model.recipe)))
    view = module.view_slice(model, SCAN, index, region)
    np.testing.assert_array_equal(view.pictures, everything[index - region[0].start])
    answer = np.asarray(model.network(view.images))[0]
    np.testing.assert_array_equal(view.answer(), answer)
    assert view.answer().shape == (32, 32, 2)


def test_a_network_that_sees_the_liver_gets_its_mask():
    liver = np.zeros(VOXELS.shape, bool)
    liver[4:7, 10:30, 20:40] = True
    view = module.view_slice(trained(NetworkInput(sees_liver=True)), SCAN, 5, BOX, liver)
    expected = prepare_labels(liver[BOX].view(np.uint8), SPACING_MM, view.trained.recipe)[5 - 2] > 0
    np.testing.assert_array_equal(view.pictures[..., -1], expected * 255)


@pytest.mark.parametrize("depth, index, place", [(4, 5, 2), (4, 2, 0), (4, 8, 3), (16, 6, 4)])
def test_a_block_holds_the_slice_in_its_middle_as_far_as_it_can(depth, index, place):
    view = module.view_slice(trained(depth=depth), SCAN, index, BOX)
    everything = list(prepare_slices(crop_volume(SCAN, BOX), view.trained.recipe))
    assert view.place == place and len(view.pictures) == depth
    np.testing.assert_array_equal(view.of_slice(view.pictures), everything[index - 2])
    for beyond in view.pictures[7:]:  # the box holds seven slices
        np.testing.assert_array_equal(beyond, everything[6])
    mask = np.ones((32, 32), bool)
    assert view.only_slice(mask).sum(axis=(1, 2)).tolist() == [32 * 32 * (z == place) for z in range(depth)]


@pytest.mark.parametrize("voxel_size_mm", [None, (2.5, 1.0, 1.0)], ids=["own grid", "resampled"])
@pytest.mark.parametrize("region", [WHOLE, BOX], ids=["scan", "box"])
def test_masks_go_onto_the_picture_and_back(region, voxel_size_mm):
    view = module.view_slice(trained(voxel_size_mm=voxel_size_mm), SCAN, 5, region)
    mask = np.zeros((40, 64), bool)
    mask[12:28, 20:44] = True
    back = view.onto_scan(view.onto_picture(mask).astype(np.float32))
    assert back.shape == (40, 64) and back.dtype == np.float32
    assert np.count_nonzero((back >= 0.5) != mask) < 0.15 * mask.sum()
    everywhere = view.onto_scan(np.ones((32, 32), np.float32)) > 0
    inside = np.zeros((40, 64), bool)
    inside[region[1:]] = True
    np.testing.assert_array_equal(everywhere, inside)


def test_a_resampled_slice_is_found_by_its_place():
    view = module.view_slice(trained(voxel_size_mm=(2.5, 1.0, 1.0)), SCAN, 5, WHOLE)
    everything = list(prepare_slices(SCAN, view.trained.recipe))
    assert len(everything) == 20
    np.testing.assert_array_equal(view.pictures, everything[11])


def test_pixels_have_the_size_that_the_square_gives_them():
    view = module.view_slice(trained(), SCAN, 5, WHOLE)
    assert view.pixel_mm == (2.0 * 64 / 32, 1.0 * 64 / 32)
    unknown = Volume(VOXELS, (np.nan,) * 3)
    assert np.isnan(module.view_slice(trained(), unknown, 5, WHOLE).pixel_mm).all()


def test_tumours_count_in_the_liver_alone_where_there_is_one():
    answer = np.array([[0.9, 0.7], [0.1, 0.9], [0.9, 0.5]], np.float32)
    both = trained()
    assert module.outlined(both, answer, "liver").tolist() == [True, False, True]
    assert module.outlined(both, answer, "tumor").tolist() == [True, False, False]


RAMP = np.arange(64, dtype=np.float32).reshape(8, 8) / 63
TRUTH = np.zeros((8, 8), bool)
TRUTH[7, 4:] = True


def test_equal_maps_are_alike_in_ranks_by_their_order_alone_and_flat_ones_undefined():
    heat = np.random.default_rng(0).random((8, 8))
    assert module.rank_correlation(heat, heat**3) == pytest.approx(1)
    assert module.rank_correlation(heat, -(heat**0.3)) == pytest.approx(-1)
    assert module.map_similarity(RAMP, RAMP) == pytest.approx(1)
    assert module.map_similarity(RAMP, 1 - RAMP) < 0.2
    flat = np.zeros((8, 8), np.float32)
    for score in (module.pointing_hit, module.energy_share):
        assert np.isnan(score(RAMP, ~TRUTH & TRUTH)) and np.isnan(score(flat, TRUTH))
    for score in (module.rank_correlation, module.map_similarity):
        assert np.isnan(score(RAMP, flat)) and np.isnan(score(flat, RAMP))


def test_pointing_and_energy_by_hand():
    assert module.pointing_hit(RAMP, TRUTH) == 1 and module.pointing_hit(1 - RAMP, TRUTH) == 0
    tie = TRUTH.astype(float)
    tie[0, :4] = 1
    assert module.pointing_hit(tie, TRUTH) == 0.5
    assert module.energy_share(tie, TRUTH) == 0.5
    assert module.energy_share(np.ones((8, 8)), TRUTH) == 4 / 64
    assert module.energy_share(RAMP, TRUTH) == pytest.approx((60 + 61 + 62 + 63) / np.arange(64).sum())


def test_warnings_by_hand():
    wrong = np.array([False, False, True, True])
    assert module.warning_auc(np.array([0.1, 0.2, 0.3, 0.4]), wrong) == 1
    assert module.warning_auc(np.array([0.4, 0.2, 0.3, 0.1]), wrong) == 0.25
    assert module.warning_auc(np.zeros(4), wrong) == 0.5
    assert np.isnan(module.warning_auc(np.zeros(4), np.zeros(4, bool)))
    assert np.isnan(module.warning_auc(np.zeros(0), np.zeros(0, bool)))
