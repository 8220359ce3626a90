"""Each loss against values worked out by hand, in float32 and float16."""

import math
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from livseg_lib.errors import InputError
from livseg_lib.training import losses

# One picture of two pixels, one structure: truth (1, 0), probability (0.8, 0.4)
TRUTH = np.array([1.0, 0.0], np.float32).reshape(1, 1, 2, 1)
PROBABILITY = np.array([0.8, 0.4], np.float32).reshape(1, 1, 2, 1)
BCE = (-math.log(0.8) - math.log(0.6)) / 2
DICE = 1 - (2 * 0.8 + 1) / (1 + 1.2 + 1)
WEIGHTED = (-5 * math.log(0.8) - math.log(0.6)) / 2
FOCAL = (0.25 * 0.2**2 * -math.log(0.8) + 0.75 * 0.4**2 * -math.log(0.6)) / 2


@pytest.mark.parametrize("name", losses.LOSSES)
def test_float16_sums_of_a_large_batch_do_not_overflow(name):
    truth = np.zeros((8, 256, 256, 1), np.float16)
    truth[:, :128] = 1  # 262 144 pixels: more than float16 can count
    value = float(losses.get_loss(name)(truth, truth))
    assert math.isfinite(value)
    assert value == pytest.approx(0, abs=1e-3)


def test_empty_against_empty_costs_nothing():
    nothing = np.zeros((1, 8, 8, 1), np.float32)
    assert float(losses.dice_loss(nothing, nothing)) == 0
    assert float(losses.jaccard_loss(nothing, nothing)) == 0


def test_a_weight_for_each_structure_is_that_of_its_channel():
    two = np.concatenate([TRUTH, TRUTH], axis=-1), np.concatenate([PROBABILITY, PROBABILITY], axis=-1)
    by_channel = float(losses.get_loss("weighted_bce", positive_weight=[1.0, 5.0])(*two))
    assert by_channel == pytest.approx((BCE + WEIGHTED) / 2, rel=1e-5)
    shares = float(losses.get_loss("focal", alpha=[0.25, 0.75])(*two))
    other = float(losses.get_loss("focal", alpha=0.75)(TRUTH, PROBABILITY))
    assert shares == pytest.approx((FOCAL + other) / 2, rel=1e-5) and other != pytest.approx(FOCAL)


def test_the_special_cases_are_the_plain_losses():
    focal = float(losses.get_loss("focal", gamma=0.0, alpha=0.5)(TRUTH, PROBABILITY))
    assert focal == pytest.approx(BCE / 2, rel=1e-5)  # Lin et al.: gamma 0 is cross-entropy
    plain = float(losses.get_loss("weighted_bce_dice", positive_weight=1.0)(TRUTH, PROBABILITY))
    assert plain == pytest.approx(BCE + DICE, rel=1e-5)
    wary = losses.get_loss("tversky", false_positive_weight=0.9, false_negative_weight=0.2)
    expected = 1 - (0.8 + 0.5) / (0.8 + 0.9 * 0.4 + 0.2 * 0.2 + 0.5)
    assert float(wary(TRUTH, PROBABILITY)) == pytest.approx(expected, rel=1e-5)


def test_unknown_options_are_refused_and_known_ones_listed():
    with pytest.raises(InputError, match="positive_weight"):
        losses.get_loss("weighted_bce", positve_weight=3.0)
    with pytest.raises(InputError, match="none"):
        losses.get_loss("bce", gamma=2.0)
    assert losses.loss_options("focal_dice") == ("gamma", "alpha")


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_block_of_slices_costs_what_its_voxels_cost_as_one_picture(name):
    blocks, loss = drawn(5, (2, 3, 4, 5, 2)), losses.get_loss(name)
    of_pictures = float(loss(*(maps.reshape(2, 12, 5, 2) for maps in blocks)))
    assert float(loss(*blocks)) == pytest.approx(of_pictures, rel=1e-5)


def reference(name: str, truth: np.ndarray, p: np.ndarray) -> float:
    """The loss in float64 NumPy, written down from the papers; both (B, H, W, K)."""
    if_positive, if_negative = -np.log(p), -np.log(1 - p)
    bce = (truth * if_positive + (1 - truth) * if_negative).mean()
    weighted = (5 * truth * if_positive + (1 - truth) * if_negative).mean()
    focal_terms = 0.25 * truth * (1 - p) ** 2 * if_positive + 0.75 * (1 - truth) * p**2 * if_negative
    of_batch, of_picture = (truth * p).sum((0, 1, 2)), (truth * p).sum((1, 2))
    sizes, own_sizes = (truth + p).sum((0, 1, 2)), (truth + p).sum((1, 2))
    false_positives, misses = ((1 - truth) * p).sum((0, 1, 2)), (truth * (1 - p)).sum((0, 1, 2))
    dice = 1 - ((2 * of_batch + 1) / (sizes + 1)).mean()
    picture_dice = 1 - ((2 * of_picture + 1) / (own_sizes + 1)).mean()
    return {
        "bce": bce,
        "weighted_bce": weighted,
        "focal": focal_terms.mean(),
        "dice": dice,
        "picture_dice": picture_dice,
        "bce_dice": bce + dice,
        "bce_picture_dice": bce + picture_dice,
        "weighted_bce_dice": weighted + dice,
        "focal_dice": focal_terms.mean() + dice,
        "tversky": 1 - ((of_batch + 0.5) / (of_batch + 0.3 * false_positives + 0.7 * misses + 0.5)).mean(),
        "jaccard": 1 - ((of_batch + 1) / (sizes - of_batch + 1)).mean(),
        "mse": ((truth - p) ** 2).mean(),
        "weighted_mse": (np.where(truth == 1, 20, 1) * (truth - p) ** 2).mean(),
    }[name]


def drawn(seed: int, shape: tuple[int, ...] = (3, 6, 7, 2)) -> tuple[np.ndarray, np.ndarray]:
    """Truth in the first channel common, in the second rare, and probabilities well inside 0 to 1."""
    generator = np.random.default_rng(seed)
    truth = generator.random(shape) < np.linspace(0.5, 0.1, shape[-1])
    return truth.astype(np.float32), generator.uniform(0.03, 0.97, shape).astype(np.float32)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float16", 2e-3)])
@pytest.mark.parametrize("seed", range(3))
def test_loss_of_any_maps_is_that_of_numpy(name, dtype, tolerance, seed):
    truth, probability = (maps.astype(dtype) for maps in drawn(seed))
    expected = reference(name, truth.astype(float), probability.astype(float))
    assert float(losses.get_loss(name)(truth, probability)) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gradients_pull_a_structure_up_and_the_rest_down(name, dtype):
    truth, probability = drawn(3)
    with tf.GradientTape() as tape:
        moved = tf.Variable(probability.astype(dtype))
        loss = losses.get_loss(name)(truth.astype(dtype), moved)
    gradient = np.asarray(tape.gradient(loss, moved), np.float32)
    assert loss.dtype == tf.float32
    assert (gradient[truth == 1] < 0).all() and (gradient[truth == 0] > 0).all()


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_certain_and_wrong_is_dear_but_finite(name, dtype):
    truth, _ = drawn(4)
    with tf.GradientTape() as tape:
        wrong = tf.Variable((1 - truth).astype(dtype))  # 0 and 1 exactly
        loss = losses.get_loss(name)(truth.astype(dtype), wrong)
    assert np.isfinite(float(loss)) and float(loss) > 0.4
    assert np.isfinite(np.asarray(tape.gradient(loss, wrong), np.float32)).all()


def test_cross_entropy_is_cut_at_epsilon():
    one, none = np.ones((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32)
    assert float(losses.get_loss("bce")(one, none)) == pytest.approx(-math.log(1e-7), rel=1e-5)
    assert float(losses.get_loss("bce")(none, one)) == pytest.approx(-math.log(2**-23), rel=1e-3)


def test_cross_entropy_of_classes_by_hand():
    truth = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    answers = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], np.float32)
    expected = -(math.log(0.5) + math.log(0.1)) / 2
    assert float(losses.get_loss("cross_entropy")(truth, answers)) == pytest.approx(expected, rel=1e-5)


def halved(truth, probability, share=0.5):
    return share * losses.dice_loss(truth, probability)


def test_a_function_is_a_loss_with_options_of_its_own():
    loss = losses.get_loss(halved, share=0.25)
    assert float(loss(TRUTH, PROBABILITY)) == pytest.approx(0.25 * DICE, rel=1e-5)
    assert loss.__name__ == "halved" and losses.loss_options(halved) == ("share",)
    bound = losses.get_loss(partial(halved, share=0.1))
    assert float(bound(TRUTH, PROBABILITY)) == pytest.approx(0.1 * DICE, rel=1e-5)
    with pytest.raises(InputError, match=r"loss halved: has no option gamma\. Its options are share"):
        losses.get_loss(halved, gamma=1.0)


@pytest.mark.parametrize("nothing", ["hinge", 3, None, keras.losses.Dice(), dict])
def test_what_is_no_loss_is_refused(nothing):
    with pytest.raises(InputError, match=r"is not a loss.*bce_dice.*or give a function"):
        losses.get_loss(nothing)
