"""Variants of a picture come back where they belong; agreement of models by hand."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from livseg_lib.errors import InputError
from livseg_lib.inference import variants as module
from livseg_lib.inference.predict import predict_blocks, predict_planes

SIZE = 48
MOVED = [name for name in module.VARIANTS if name not in ("none", "grey")]


def smooth(*shape: int, seed: int = 0) -> np.ndarray:
    """Images float32 in [0, 1] without detail that interpolation would blur."""
    noise = np.random.default_rng(seed).random(shape)
    sigma = (*[0] * (len(shape) - 3), 4, 4, 0)
    blurred = ndimage.gaussian_filter(noise, sigma)
    return ((blurred - blurred.min()) / np.ptp(blurred) * 0.8 + 0.1).astype(np.float32)


def reach(variant: module.Variant) -> np.ndarray:
    return variant.undo(np.ones((SIZE, SIZE, 1), np.float32))[..., 0]


@pytest.mark.parametrize("variant", module.VARIANTS["shift"])
def test_a_shift_comes_back_to_the_last_bit(variant):
    images = np.random.default_rng(1).random((3, SIZE, SIZE, 2), np.float32)
    back, inside = variant.undo(variant.apply(images)), reach(variant)
    assert set(np.unique(inside)) == {0, 1} and inside.sum() == (SIZE - 3) ** 2
    np.testing.assert_array_equal(back[:, inside == 1], images[:, inside == 1])
    assert not back[:, inside == 0].any()


@pytest.mark.parametrize("variant", [v for name in MOVED for v in module.VARIANTS[name]])
def test_a_spot_is_found_where_it_was(variant):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    spot = np.exp(-((rows - 20.0) ** 2 + (columns - 29.0) ** 2) / 18).astype(np.float32)[..., None]
    back = variant.undo(variant.apply(spot))[..., 0]
    assert ndimage.center_of_mass(back) == pytest.approx((20, 29), abs=0.03)


def test_greys_change_and_nothing_moves():
    images = smooth(SIZE, SIZE, 1)
    seen = [variant.apply(images) for variant in module.VARIANTS["grey"]]
    assert len({picture.tobytes() for picture in seen}) == len(seen)
    assert all(picture.min() >= 0 and picture.max() <= 1 for picture in seen)
    bright = module.Variant(brightness=0.1, contrast=1.1).apply(
        np.array([[[0.5], [0.6], [0.0], [1.0]]], np.float32)
    )
    np.testing.assert_allclose(bright.ravel(), [0.6, 0.71, 0.05, 1.0], rtol=1e-6)
    assert all(variant.undo(images) is images for variant in module.VARIANTS["grey"])


@pytest.mark.parametrize("shape", [(SIZE, SIZE, 3), (2, 3, SIZE, SIZE, 7)])
@pytest.mark.parametrize("names", [("none",), ("shift",), tuple(MOVED)])
def test_the_mean_is_the_answer_of_a_network_that_sees_each_pixel_alone(shape, names):
    images = smooth(*shape)
    mean = module.predict_augmented(lambda seen: seen**2, images, names)
    assert mean.shape == shape and mean.dtype == np.float32
    tolerance = {("none",): 0, ("shift",): 1e-6}.get(names, 0.03)
    middle = (..., slice(6, -6), slice(6, -6), slice(None))
    np.testing.assert_allclose(mean[middle], images[middle] ** 2, rtol=0, atol=tolerance)


def test_the_mean_is_that_of_all_variants():
    images, asked = smooth(1, SIZE, SIZE, 1), []

    def predict(seen: np.ndarray) -> np.ndarray:
        asked.append(seen)
        return np.full_like(seen, len(asked) / 10)

    mean = module.predict_augmented(predict, images, ("grey",))
    assert len(asked) == 5
    np.testing.assert_array_equal(asked[0], images)  # as it is, first
    np.testing.assert_allclose(mean, np.mean([1, 2, 3, 4, 5]) / 10, rtol=1e-6)
    even = module.predict_augmented(lambda seen: np.full_like(seen, 0.3), images, MOVED)
    np.testing.assert_allclose(even, 0.3, rtol=1e-5)  # up to the border


def small_network(*shape: int) -> keras.Model:
    keras.utils.set_random_seed(3)
    convolution = keras.layers.Conv3D if len(shape) == 4 else keras.layers.Conv2D
    inputs = keras.Input(shape)
    return keras.Model(inputs, convolution(2, 3, padding="same", activation="sigmoid")(inputs))


def test_it_stands_in_for_a_network_of_pictures_or_blocks_and_refuses_an_unknown_variant_at_once():
    pictures = (smooth(9, SIZE, SIZE, 1) * 255).astype(np.uint8)
    flat, deep = small_network(SIZE, SIZE, 1), small_network(4, SIZE, SIZE, 1)
    for predict, network in (
        (lambda net: predict_planes(net, pictures), flat),
        (lambda net: predict_blocks(net, pictures, len(pictures)), deep),
    ):
        plain, same, mean = (
            predict(net)
            for net in (
                network,
                module.AugmentedNetwork(network, ()),
                module.AugmentedNetwork(network, ("shift", "grey")),
            )
        )
        np.testing.assert_array_equal(same, plain)
        assert mean.shape == plain.shape and (mean != plain).any()
        assert np.abs(mean[:, 8:-8, 8:-8].astype(int) - plain[:, 8:-8, 8:-8]).max() < 6
    assert module.AugmentedNetwork(flat, ()).count_params() == flat.count_params()
    with pytest.raises(InputError, match=r"flip.*none, grey"):
        module.AugmentedNetwork(small_network(SIZE, SIZE, 1), ("rotate", "flip"))


def test_entropy_is_a_bit_at_even_odds_and_none_where_all_is_sure():
    found = module.predictive_entropy(np.array([0.0, 0.25, 0.5, 1.0], np.float32))
    np.testing.assert_allclose(found, [0, 0.811278, 1, 0], atol=1e-6)
    assert found.dtype == np.float32


def test_votes_by_hand():
    rows = ([0, 1, 2, 2, 2], [0, 1, 1, 2, 0], [0, 0, 2, 2, 0])
    models = [np.array(row, np.uint8).reshape(1, 1, 5) for row in rows]
    for crowd in (models, models * 50):  # more than half of a byte can count
        assert module.majority_vote(crowd).ravel().tolist() == [0, 1, 2, 2, 0]
    halves = [np.full((1, 1, 1), label, np.uint8) for label in (2, 1)]
    assert module.majority_vote(halves).item() == 1


def boxes(*tumors: tuple[slice, slice]) -> np.ndarray:
    labels = np.ones((4, 12, 12), np.uint8)
    for rows, columns in tumors:
        labels[1:3, rows, columns] = 2
    return labels


def test_volumes_and_pairs_by_hand():
    models = [boxes((slice(0, 2), slice(0, 4))), boxes((slice(0, 2), slice(2, 6))), boxes()]
    table = module.volume_agreement(models, voxel_volume_ml=0.5).set_index("structure")
    liver, tumor = table.loc["liver"], table.loc["tumor"]
    assert (liver.models, liver.models_finding, liver.volume_ml, liver.volume_ml_std) == (3, 3, 288, 0)
    assert liver.pairwise_dice == 1
    assert (tumor.models, tumor.models_finding) == (3, 2)
    assert tumor.volume_ml == pytest.approx(16 / 3)
    assert tumor.volume_ml_std == pytest.approx(np.std([8, 8, 0]))
    assert tumor.pairwise_dice == pytest.approx((0.5 + 0 + 0) / 3)
    of_pictures = module.volume_agreement(models, voxel_volume_ml=np.nan)  # whose size nobody knows
    assert of_pictures.models_finding.tolist() == [3, 2] and of_pictures.volume_ml.isna().all()
    for empty_or_alone in ([np.zeros((2, 2, 2), np.uint8)] * 2, models[:1]):
        table = module.volume_agreement(empty_or_alone, 1.0).set_index("structure")
        assert np.isnan(table.pairwise_dice["tumor"])


def test_no_variant_mirrors_the_body_and_a_shift_goes_down_and_right():
    arrow = np.zeros((SIZE, SIZE, 1), np.float32)
    arrow[10:14, 8:12], arrow[34:38, 20:24] = 1, 0.5
    for variant in module.choose_variants(list(module.VARIANTS)):
        seen = variant.apply(arrow)[..., 0]
        one, other = (ndimage.center_of_mass(part) for part in (seen > 0.75, (seen > 0.25) & (seen < 0.75)))
        assert one[0] + 10 < other[0] and one[1] + 5 < other[1]
    picture = np.zeros((8, 8, 1), np.float32)
    picture[2, 3] = 1
    moved = module.Variant(shift_pixels=(3, 2)).apply(picture)
    assert moved[5, 5, 0] == 1 and moved.sum() == 1
