"""Each loss against values worked out by hand, in float32 and float16."""

from __future__ import annotations

import math

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
BY_HAND = {
    "bce": BCE,
    "dice": DICE,
    "bce_dice": BCE + DICE,
    "picture_dice": DICE,  # of one picture: the same
    "bce_picture_dice": BCE + DICE,
    "weighted_bce": WEIGHTED,
    "weighted_bce_dice": WEIGHTED + DICE,
    "focal": FOCAL,
    "focal_dice": FOCAL + DICE,
    "tversky": 1 - (0.8 + 0.5) / (0.8 + 0.3 * 0.4 + 0.7 * 0.2 + 0.5),
    "jaccard": 1 - (0.8 + 1) / (2.2 - 0.8 + 1),
    "mse": (0.2**2 + 0.4**2) / 2,
}


def test_every_loss_has_a_hand_value():
    assert set(BY_HAND) == set(losses.LOSSES)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float16", 2e-3)])
def test_loss_equals_its_hand_value(name, dtype, tolerance):
    value = float(losses.get_loss(name)(TRUTH.astype(dtype), PROBABILITY.astype(dtype)))
    assert value == pytest.approx(BY_HAND[name], rel=tolerance)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_float16_sums_of_a_large_batch_do_not_overflow(name):
    truth = np.zeros((8, 256, 256, 1), np.float16)
    truth[:, :128] = 1  # 262 144 pixels: more than float16 can count
    value = float(losses.get_loss(name)(truth, truth))
    assert math.isfinite(value)
    assert value == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_worse_predictions_cost_more(name):
    truth = np.zeros((1, 8, 8, 2), np.float32)
    truth[:, :4] = 1
    costs = [float(losses.get_loss(name)(truth, np.abs(truth - wrong))) for wrong in (0.05, 0.3, 0.6, 0.9)]
    assert costs == sorted(costs)
    assert len(set(costs)) == 4


def test_channels_count_equally_whatever_their_size():
    truth = np.zeros((1, 10, 10, 2), np.float32)
    truth[..., 0] = 1  # found whole
    truth[0, 0, 0, 1] = 1  # missed whole
    found = truth.copy()
    found[..., 1] = 0
    assert float(losses.dice(truth, found)) == pytest.approx((0 + (1 - 1 / 2)) / 2)


def test_by_picture_a_missed_sliver_costs_as_much_as_a_missed_section():
    truth = np.zeros((2, 20, 20, 1), np.float32)
    truth[0, 0, :9], truth[1] = 1, 1
    sliver_missed, section_missed = truth.copy(), truth.copy()
    sliver_missed[0], section_missed[1] = 0, 0
    costs = [
        [float(f(truth, p)) for p in (sliver_missed, section_missed)]
        for f in (losses.picture_dice, losses.dice)
    ]
    assert costs[0][0] == pytest.approx((1 - 1 / 10) / 2) and costs[0][1] == pytest.approx((1 - 1 / 401) / 2)
    assert costs[1][0] < 0.02 < 0.9 < costs[1][1]


def test_empty_against_empty_costs_nothing():
    nothing = np.zeros((1, 8, 8, 1), np.float32)
    assert float(losses.dice(nothing, nothing)) == 0
    assert float(losses.jaccard(nothing, nothing)) == 0


def test_options_are_bound_and_unknown_names_refused():
    heavy = losses.get_loss("weighted_bce", positive_weight=10.0)
    assert float(heavy(TRUTH, PROBABILITY)) > float(losses.get_loss("weighted_bce")(TRUTH, PROBABILITY))
    with pytest.raises(InputError, match="bce_dice"):
        losses.get_loss("hinge")


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


def test_unknown_options_are_refused_and_known_ones_listed():
    with pytest.raises(InputError, match="positive_weight"):
        losses.get_loss("weighted_bce", positve_weight=3.0)
    with pytest.raises(InputError, match="none"):
        losses.get_loss("bce", gamma=2.0)
    assert losses.loss_options("focal_dice") == ("gamma", "alpha")
    with pytest.raises(InputError, match="bce_dice"):
        losses.loss_options("hinge")


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_block_of_slices_costs_what_its_voxels_cost_as_one_picture(name):
    generator = np.random.default_rng(5)
    truth = (generator.random((2, 3, 4, 5, 2)) > 0.6).astype(np.float32)
    probability = generator.random((2, 3, 4, 5, 2), np.float32)
    of_blocks, of_pictures = (
        float(losses.get_loss(name)(truth.reshape(shape), probability.reshape(shape)))
        for shape in (truth.shape, (2, 12, 5, 2))
    )
    assert of_blocks == pytest.approx(of_pictures, rel=1e-5)


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
    }[name]


def drawn(seed: int, shape: tuple[int, ...] = (3, 6, 7, 2)) -> tuple[np.ndarray, np.ndarray]:
    """Truth in the first channel common, in the second rare, and probabilities well inside 0 to 1."""
    generator = np.random.default_rng(seed)
    truth = generator.random(shape) < np.linspace(0.5, 0.1, shape[-1])
    return truth.astype(np.float32), generator.uniform(0.03, 0.97, shape).astype(np.float32)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("seed", range(3))
def test_loss_of_any_maps_is_that_of_numpy(name, seed):
    truth, probability = drawn(seed)
    expected = reference(name, truth.astype(float), probability.astype(float))
    assert float(losses.get_loss(name)(truth, probability)) == pytest.approx(expected, rel=1e-5)


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


@pytest.mark.parametrize("name", losses.LOSSES)
def test_places_and_order_do_not_matter(name):
    truth, probability = drawn(5)
    loss, generator = losses.get_loss(name), np.random.default_rng(6)
    cost = pytest.approx(float(loss(truth, probability)), rel=1e-5)
    pixels = generator.permutation(42)
    shuffled = [maps.reshape(3, 42, 2)[:, pixels].reshape(maps.shape) for maps in (truth, probability)]
    assert float(loss(*shuffled)) == cost
    assert float(loss(truth[::-1], probability[::-1])) == cost
    assert float(loss(truth[..., ::-1], probability[..., ::-1])) == cost


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("bce", True),
        ("mse", True),
        ("focal", True),
        ("picture_dice", True),
        ("dice", False),
        ("jaccard", False),
    ],
)
def test_only_losses_of_a_whole_batch_change_where_it_comes_twice(name, same):
    truth, probability = drawn(7)
    once, twice = (
        float(losses.get_loss(name)(*(np.concatenate([maps] * times) for maps in (truth, probability))))
        for times in (1, 2)
    )
    assert (once == pytest.approx(twice, rel=1e-5)) is same  # the smoothing weighs half as much


def test_a_miss_costs_more_than_a_false_alarm_of_its_size():
    truth = np.zeros((1, 10, 10, 1), np.float32)
    truth[0, :4] = 1
    missed, alarm = truth.copy(), truth.copy()
    missed[0, 0], alarm[0, 9] = 0, 1
    for name in ("tversky", "weighted_bce"):
        loss = losses.get_loss(name)
        assert float(loss(truth, missed)) > float(loss(truth, alarm))
    even = losses.get_loss("tversky", false_positive_weight=0.5, false_negative_weight=0.5)
    assert float(even(truth, missed)) == pytest.approx(1 - 61 / 71)  # 30 found of 40 and 30
    assert float(even(truth, alarm)) == pytest.approx(1 - 81 / 91)


def test_cross_entropy_of_classes_by_hand():
    truth = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    answers = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], np.float32)
    expected = -(math.log(0.5) + math.log(0.1)) / 2
    assert float(losses.get_loss("cross_entropy")(truth, answers)) == pytest.approx(expected, rel=1e-5)
