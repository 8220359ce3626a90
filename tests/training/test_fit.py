"""Training: resumed equals unbroken; stages, schedules, progress, metrics, heads."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import resumable_run
from keras import layers
from resumable_run import RandomBatches, run

from livseg_lib.errors import InputError
from livseg_lib.models import build_model
from livseg_lib.training import fit as fitting
from livseg_lib.training import losses
from livseg_lib.training.fit import (
    ClassAccuracy,
    FitSettings,
    RegionDice,
    Stage,
    describe_network,
    dice_metrics,
    fit,
    mean_of_heads,
    on_every_head,
    schedule_callbacks,
    training_twin,
)
from livseg_lib.training.losses import get_loss
from livseg_lib.training.weights import load_arrays

TOLERANCE = 1e-6
"""Relative; on one machine the two runs were equal to the last bit when this was written."""


CUTS = [
    ("plateau", 1, 2, "fails"),
    ("staged", 4, 0, "fails"),
    *(
        pytest.param(*cut, "is killed", marks=pytest.mark.slow)
        for cut in (("plateau", 1, 2), ("staged", 1, 1), ("mixed precision", 4, 0))
    ),
]
"""A new process has to import Keras again."""


@pytest.fixture(autouse=True)
def float32_again():
    yield
    keras.mixed_precision.set_global_policy("float32")


def fails() -> None:
    raise RuntimeError("as planned")


def everything(folder: Path):
    arrays, record = load_arrays(folder / "last.safetensors")
    history = pd.DataFrame(record["history"]).drop(columns=["seconds", "memory_mb"])
    return arrays, record["best"], record["counters"], history


def require_close(expected: list[np.ndarray], found: list[np.ndarray]) -> None:
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=1e-8)


@pytest.mark.parametrize("name, epoch, batch, end", CUTS)
def test_a_training_cut_off_and_started_again_equals_an_unbroken_one(
    tmp_path, monkeypatch, name, epoch, batch, end
):
    unbroken_network, _ = run(tmp_path / "unbroken", name)
    if end == "fails":
        monkeypatch.setattr(resumable_run, "end", fails)
        with pytest.raises(Exception, match="as planned"):
            run(tmp_path / "cut", name, (epoch, batch))
    else:
        program = Path(__file__).with_name("resumable_run.py")
        command = [sys.executable, str(program), name, str(tmp_path / "cut"), str(epoch), str(batch)]
        assert subprocess.run(command, capture_output=True).returncode == -9
    resumed_network, history = run(tmp_path / "cut", name)

    expected, found = everything(tmp_path / "unbroken"), everything(tmp_path / "cut")
    assert set(expected[0]) == set(found[0])  # weights, moments, learning rate
    require_close(list(expected[0].values()), [found[0][path] for path in expected[0]])
    assert found[1] == pytest.approx(expected[1], rel=TOLERANCE)
    assert found[2] == expected[2]
    pd.testing.assert_frame_equal(found[3], expected[3], rtol=TOLERANCE)
    assert len(history) == len(expected[3])
    require_close(unbroken_network.get_weights(), resumed_network.get_weights())


def minutes_of(minutes: float, name: str = "staged"):
    return replace(resumable_run.SETTINGS[name], minutes=minutes)


@pytest.mark.parametrize(
    "minutes, epochs", [(1.0, [5, 10]), (0.4, [2, 4]), (0.1, [1, 1]), (0.001, [1, 1]), (10, [50, 100])]
)
def test_minutes_are_shared_out_to_the_stages_by_the_time_of_an_epoch(monkeypatch, minutes, epochs):
    monkeypatch.setattr(fitting, "seconds_an_epoch", lambda *_: 4.0)
    assert fitting.epochs_in(None, None, None, minutes_of(minutes)) == epochs  # of stages of 2 and 4


@pytest.mark.parametrize("minutes", [0, -1.0, math.nan, math.inf])
def test_minutes_that_cannot_be_are_refused(minutes):
    with pytest.raises(InputError, match="minutes"):
        fitting.epochs_in(None, None, None, minutes_of(minutes))


class Clock:
    """Goes on by `tick` seconds whenever it is looked at; the last time but `looks` it interrupts."""

    def __init__(self, tick: float, looks: float = math.inf) -> None:
        self.now, self.tick, self.looks = 0.0, tick, looks

    def monotonic(self) -> float:
        if self.looks == 0:
            raise KeyboardInterrupt
        self.now, self.looks = self.now + self.tick, self.looks - 1
        return self.now


def test_a_training_by_minutes_is_one_of_so_many_epochs_and_a_resumed_one_keeps_them(tmp_path, monkeypatch):
    counted, _ = run(tmp_path / "counted", "plateau")
    monkeypatch.setitem(resumable_run.SETTINGS, "timed", minutes_of(1.0, "plateau"))
    # 10 batches of 4 an epoch take a tick, and as many again to validate: 10 s an epoch, 6 a minute.
    monkeypatch.setattr(fitting, "time", SimpleNamespace(monotonic=Clock(12.5, looks=4 + 3).monotonic))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "timed", "timed")
    monkeypatch.setattr(fitting, "time", SimpleNamespace(monotonic=Clock(1.0).monotonic))
    timed, history = run(tmp_path / "timed", "timed")
    assert len(history) == 6
    require_close(counted.get_weights(), timed.get_weights())  # measuring has taught it nothing


def weighted_twice(truth, probability):
    return 2.0 * losses.LOSSES["bce"](truth, probability)


def wider(monkeypatch):
    monkeypatch.setattr(resumable_run, "FILTERS", 5)


CHANGED = {
    "the loss": lambda patch: patch.setitem(losses.LOSSES, "bce_dice", weighted_twice),
    "the network": wider,
    "the batches": lambda patch: patch.setattr(resumable_run.RandomBatches, "__len__", lambda self: 3),
    "the metrics": lambda patch: patch.setattr(resumable_run, "dice_metrics", lambda structures: []),
    "the training loop": lambda patch: patch.setattr("livseg_lib.training.fit._companions", lambda _: []),
    "keras": lambda patch: patch.setattr("livseg_lib.provenance._version", lambda name: "0.1"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, run(folder, "frozen")[0].get_weights()


def test_unchanged_code_keeps_what_it_trained_and_says_so(trained, tmp_path, capsys):
    shutil.copytree(trained[0], tmp_path / "copy")
    written = (tmp_path / "copy" / "last.safetensors").stat().st_mtime_ns
    network, history = run(tmp_path / "copy", "frozen")
    assert "unchanged since, goes on from epoch 1" in capsys.readouterr().out
    assert (tmp_path / "copy" / "last.safetensors").stat().st_mtime_ns == written
    assert all(np.array_equal(a, b) for a, b in zip(trained[1], network.get_weights(), strict=True))
    assert set(history.attrs["made_by"]) == {"revision", "code", "libraries"}
    told = pd.read_csv(tmp_path / "copy" / "history.csv")
    pd.testing.assert_frame_equal(told, history, check_dtype=False)


@pytest.mark.parametrize("part", CHANGED)
def test_changed_code_trains_anew_and_says_which(trained, tmp_path, monkeypatch, capsys, part):
    shutil.copytree(trained[0], tmp_path / "copy")
    CHANGED[part](monkeypatch)
    anew, _ = run(tmp_path / "copy", "frozen")
    assert re.search(f"trained anew, changed since: .*{part}", capsys.readouterr().out)
    if part in ("the loss", "the batches"):  # others change nothing that one epoch would show
        assert not np.array_equal(trained[1][-2], anew.get_weights()[-2])


def test_a_network_has_one_digest_however_much_was_built_before():
    small = {"filters": 4, "levels": 2}
    digests = [
        [describe_network(build_model(name, (32, 32, 1), 1, **small)) for name in ("unet", "unet++")]
        for _ in range(2)
    ]
    assert digests[0] == digests[1] and len(set(digests[0])) == 2
    inputs = keras.Input((8, 8, 1))
    for activation in ("relu", "elu"):
        x = keras.layers.Conv2D(2, 3, activation=activation)(inputs)
        digests.append(describe_network(keras.Model(inputs, x + x)))
    assert digests[2] != digests[3]


@pytest.mark.parametrize("place", ["activation", "kernel_regularizer"])
def test_a_layers_function_of_ones_own_counts_by_its_code_not_its_name(place):
    def described(factor):
        def own(x):
            return factor * keras.ops.abs(x)

        inputs = keras.Input((8, 8, 1), name="image")
        layer = keras.layers.Conv2D(1, 3, name="maps", **{place: own})
        return describe_network(keras.Model(inputs, layer(inputs)))

    assert described(2.0) == described(2.0) != described(3.0)


class Grey(keras.utils.PyDataset):
    """Two batches of four grey pictures whose truth is `truth` everywhere; notes the epochs it is told."""

    def __init__(self, truth: float, grey: float = 1.0):
        super().__init__()
        self.truth, self.grey, self.epochs = truth, grey, []

    def start_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int):
        shape = (4, 2, 2, 1)
        return np.full(shape, self.grey, np.float32), np.full(shape, self.truth, np.float32)


def one_weight() -> keras.Model:
    """Pictures -> sigmoid(w x), beginning with w = 0; a layer before it that passes on."""
    inputs = keras.Input((2, 2, 1))
    kept = layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="first")(inputs)
    last = layers.Conv2D(1, 1, use_bias=False, kernel_initializer="zeros", activation="sigmoid", name="last")
    return keras.Model(inputs, last(kept), name="tiny")


def train(folder, truth=1.0, validation=0.0, network=None, **settings):
    """Training pulls the weight up. Where validation asks for the contrary, each epoch is worse there."""
    network = network or one_weight()
    given = {"stages": (Stage(6, 0.1, frozen=("first",)),), "loss": "bce"} | settings
    checked = None if validation is None else Grey(validation)
    training = Grey(truth)
    history = fit(network, training, checked, lambda: dice_metrics(("liver",)), FitSettings(**given), folder)
    return network, history, training


def weight(network: keras.Model) -> float:
    return float(network.get_layer("last").kernel.numpy().item())


def test_a_network_with_other_outputs_than_the_truth_learns_nothing(tmp_path):
    inputs = keras.Input((2, 2, 1))
    network = keras.Model(inputs, layers.Conv2D(2, 1, activation="softmax")(inputs))
    with pytest.raises(InputError, match="has 2 outputs where the truth has 1"):
        train(tmp_path, network=network, stages=(Stage(1, 0.1),))


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_a_network_whose_numbers_are_no_probabilities_is_refused(activation, tmp_path):
    inputs = keras.Input((2, 2, 1))
    network = keras.Model(inputs, layers.Conv2D(1, 1, activation=activation)(inputs))
    with pytest.raises(InputError, match="are no probabilities"):
        train(tmp_path, network=network, stages=(Stage(1, 0.1),), loss="bce_dice")
    train(tmp_path, network=network, stages=(Stage(1, 0.1),), loss="weighted_mse")


@pytest.mark.parametrize("stages", [(), (Stage(0, 0.1),)])
def test_no_epochs_are_refused_before_anything_is_written(stages, tmp_path):
    with pytest.raises(InputError, match="nothing would be learnt"):
        train(tmp_path, stages=stages)
    assert not any(tmp_path.iterdir())


def test_the_best_epoch_is_that_of_the_validation_and_its_weights_are_kept(tmp_path):
    network, history, training = train(tmp_path)
    assert len(history) == 6 and history.val_loss.is_monotonic_increasing
    # Adam moves by its rate a step while the gradient keeps its sign: two steps to the end of epoch 1.
    assert weight(network) == pytest.approx(0.2, rel=0.01)
    assert training.epochs == list(range(6))


def test_of_equal_epochs_the_first_is_best(tmp_path):
    train(tmp_path, stages=(Stage(2, 0.0),))
    assert load_arrays(tmp_path / "best.safetensors")[1]["epoch"] == 1


def test_without_validation_the_training_loss_decides(tmp_path):
    network, history, _ = train(tmp_path, validation=None)
    assert "val_loss" not in history and weight(network) == pytest.approx(1.2, rel=0.1)


def test_early_stopping_ends_a_stage_and_the_next_is_patient_anew(tmp_path):
    stages = (Stage(6, 0.1), Stage(6, 0.01))
    network, history, training = train(tmp_path, stages=stages, early_stopping_patience=2)
    assert history.stage.tolist() == [0, 0, 0, 1, 1, 1]  # the first of each is best, two more are borne
    assert history.epoch.tolist() == [1, 2, 3, 4, 5, 6] and training.epochs == [0, 1, 2, 3, 4, 5]
    assert weight(network) == pytest.approx(0.2, rel=0.01)  # best of all stages


def test_the_plateau_divides_the_rate_by_ten(tmp_path):
    stages = (Stage(4, 0.1), Stage(2, 0.1))
    _, history, _ = train(tmp_path, stages=stages, plateau_patience=1)
    # Epoch 2 is worse than 1, 3 than 2; a new stage begins anew.
    assert history.learning_rate.tolist() == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.1, 0.1])


def test_the_schedule_of_each_stage_begins_with_it(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(fitting, "schedule_callbacks", lambda *given: asked.append(given) or [])
    train(tmp_path, stages=(Stage(3, 0.1), Stage(1, 0.5)), schedule="cosine", early_stopping_patience=1)
    assert asked == [("cosine", 0.1, 0, 3, 2), ("cosine", 0.5, 2, 1, 2)]  # the first ended after 2 epochs


def test_frozen_layers_stand_still_until_their_stage_is_over(tmp_path):
    stages = (Stage(2, 0.1, frozen=("first",)), Stage(1, 0.1))
    network, *_ = train(tmp_path, validation=1.0, stages=stages)
    moved = network.get_layer("first").kernel.numpy().item() - 1
    assert 0.1 < moved < 0.25  # two steps of 0.1, where six would have been
    assert all(layer.trainable for layer in network.layers)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    with pytest.raises(InputError, match=r"diverged in epoch 1.*Lower the learning rate"):
        train(tmp_path, truth=np.nan)


def test_float16_scales_its_loss_and_float32_does_not(monkeypatch):
    assert isinstance(fitting._adam(0.1), keras.optimizers.Adam)
    keras.mixed_precision.set_global_policy("mixed_float16")
    scaled = fitting._adam(0.1)
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer) and scaled.inner_optimizer.name == "adam"
    assert float(scaled.inner_optimizer.learning_rate) == pytest.approx(0.1)


def test_in_how_many_bits_is_the_machines_part_of_a_training_not_the_networks():
    told = []
    for policy in ("float32", "mixed_float16"):
        keras.mixed_precision.set_global_policy(policy)
        what = resumable_run.small_network(), RandomBatches(), None, list, FitSettings((Stage(1, 0.1),)), {}
        told.append(fitting.describe_training(*what))
    assert told[0]["code"] == told[1]["code"]
    assert told[1]["settings"] == told[0]["settings"] | {"precision": "mixed_float16"}


@pytest.mark.parametrize(("has_gpu", "policy"), [(True, "mixed_float16"), (False, "float32")])
def test_float16_is_for_gpus(monkeypatch, has_gpu, policy):
    monkeypatch.setattr(fitting, "gpus", lambda: ["H200"] * has_gpu)
    assert fitting.use_mixed_precision_on_gpu() == policy == keras.mixed_precision.dtype_policy().name


def with_rate(callback: keras.callbacks.Callback, rate: float = 0.1) -> SimpleNamespace:
    """The optimizer of a model that `callback` belongs to."""
    optimizer = SimpleNamespace(learning_rate=rate)
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    return optimizer


@pytest.mark.parametrize(
    ("epoch", "batch", "rate"),
    [
        (2, 0, 0.1 * 1 / 50),  # the first of a stage that begins with epoch 2: a fiftieth of the rate
        (2, 24, 0.1 * (1 + math.cos(0.24 * math.pi)) / 2 * 25 / 50),
        (3, 0, 0.1 * (1 + math.cos(0.25 * math.pi)) / 2 * 26 / 50),
        (3, 24, 0.1 * (1 + math.cos(0.49 * math.pi)) / 2),  # the 50th is the first at full warmth
        (4, 0, 0.05),  # half way
        (5, 24, 0.1 * (1 + math.cos(0.99 * math.pi)) / 2),
        (6, 0, 0.0),
        (7, 0, 0.0),  # never up again
    ],
)
def test_the_cosine_is_a_function_of_epoch_and_batch(epoch, batch, rate):
    [cosine] = schedule_callbacks("cosine", 0.1, first_epoch=2, epochs=4, batches_per_epoch=25)
    optimizer = with_rate(cosine, rate=7.0)  # whatever a resumed training stands at
    cosine.on_epoch_begin(epoch)
    cosine.on_train_batch_begin(batch)
    assert optimizer.learning_rate == pytest.approx(rate, abs=1e-12)


def test_the_step_comes_once_after_thirty_epochs_of_its_stage():
    [step] = schedule_callbacks("step", 0.1, first_epoch=3, epochs=70, batches_per_epoch=25)
    optimizer, rates = with_rate(step), []
    for epoch in (3, 32, 33, 34, 63):
        step.on_epoch_begin(epoch)
        rates.append(optimizer.learning_rate)
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.01])


def test_a_constant_rate_needs_no_callback_and_other_names_are_refused():
    assert schedule_callbacks("constant", 0.1, 0, 4, 25) == []
    with pytest.raises(InputError, match="constant, step, cosine"):
        schedule_callbacks("linear", 0.1, 0, 4, 25)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(fitting.time, "monotonic", lambda: now.seconds)
    return now


@pytest.mark.parametrize("first", [0, 4])  # from the beginning, and resumed
def test_lines_say_how_much_time_is_left(clock, capsys, first):
    lines = fitting.ProgressLines("unet", first, first + 3)
    lines.set_params({"steps": 40})
    lines.on_epoch_begin(first)
    clock.seconds = 1000.0  # compiling is not counted
    for batch in range(40):
        lines.on_train_batch_end(batch)
        clock.seconds += 0.5
    lines.on_epoch_end(first, {"loss": 0.12345, "liver_dice": 1.0})
    lines.on_epoch_begin(first + 1)
    for batch in range(40):
        lines.on_train_batch_end(batch)
    clock.seconds += 10.0
    lines.on_epoch_end(first + 1, {"loss": 0.1})
    guess, one, two = capsys.readouterr().out.splitlines()
    assert guess == "unet: 3 epochs, about 1 min 00 s"  # 20 batches in 10 s, of 3 x 40
    assert one == f"unet: epoch {first + 1}/{first + 3}  loss 0.123  liver_dice 1  40 s left"  # 2 x 20 s
    assert two == f"unet: epoch {first + 2}/{first + 3}  loss 0.1  15 s left"  # 30 s for two


def test_a_short_epoch_needs_no_first_guess(clock, capsys):
    lines = fitting.ProgressLines("unet", 0, 1)
    lines.set_params({"steps": 20})
    lines.on_epoch_begin(0)
    for batch in range(20):
        lines.on_train_batch_end(batch)
    lines.on_epoch_end(0, None)
    assert capsys.readouterr().out == "unet: epoch 1/1    0.0 s left\n"


def maps(*channels: list[float]) -> np.ndarray:
    """One row of pixels, a channel each, (1, 1, W, K)."""
    return np.array(channels, np.float32).T[None, None]


@pytest.mark.parametrize(
    ("batches", "dice"),
    [
        # 2 of 3 and 2, then 0 of 1 and 3: one Dice of all, no mean of 0.8 and 0
        (
            [([1, 1, 1, 0], [0.9, 0.8, 0.2, 0.1]), ([1, 0, 0, 0], [0.0, 0.9, 0.9, 0.9])],
            2 * 2 / (3 + 2 + 1 + 3),
        ),
        (
            [([0.5, 0.49, 1], [0.5, 0.5, 0.49])],
            2 * 1 / (2 + 2),
        ),  # from a half up, in truth that is blurred too
        ([([0, 0], [0, 0])], 1),
        ([([0, 0], [1, 0])], 0),
        ([([1, 0], [0, 0])], 0),
    ],
)
def test_dice_is_that_of_the_pixels_of_all_batches_since_the_epoch_began(batches, dice):
    metric = RegionDice(0, "liver_dice")
    for truth, predicted in batches:
        metric.update_state(maps(truth), maps(predicted))
    assert float(metric.result()) == pytest.approx(dice)
    metric.reset_state()
    metric.update_state(maps([1, 0]), maps([1, 0]))
    assert float(metric.result()) == 1


def test_each_structure_has_its_channel_and_name():
    liver, tumor = dice_metrics(("liver", "tumor"))
    assert (liver.name, tumor.name) == ("liver_dice", "tumor_dice")
    for metric in (liver, tumor):
        metric.update_state(maps([1, 1, 1], [0, 0, 1]), maps([1, 1, 0], [1, 0, 1]))
    assert float(liver.result()) == pytest.approx(4 / 5) and float(tumor.result()) == pytest.approx(2 / 3)


def test_float16_pictures_are_counted_past_its_largest_number():
    truth = np.ones((4, 256, 256, 1), np.float16)  # 262 144 pixels, float16 ends at 65 504
    metric = RegionDice(0, "dice")
    metric.update_state(truth, truth)
    assert float(metric.result()) == 1


def network_with_heads(count: int) -> keras.Model:
    inputs = keras.Input((4, 4, 1))
    heads = [layers.Conv2D(2, 1, activation="sigmoid", name=f"head{n + 1}")(inputs) for n in range(count)]
    return keras.Model(inputs, layers.Average(name="mean")(heads), name="two")


def test_the_twin_gives_every_head_and_shares_the_weights():
    keras.utils.set_random_seed(1)
    network = network_with_heads(3)
    twin = training_twin(network)
    pictures = np.random.default_rng(0).random((2, 4, 4, 1), np.float32)
    maps = twin.predict_on_batch(pictures)
    assert maps.shape == (2, 4, 4, 2, 3)
    np.testing.assert_allclose(maps.mean(-1), network.predict_on_batch(pictures), rtol=1e-6)
    assert {id(weight) for weight in twin.weights} == {id(weight) for weight in network.weights}
    assert [weight.path for weight in twin.weights] == [weight.path for weight in network.weights]
    assert training_twin(plain := one_weight()) is plain  # without heads


@pytest.mark.parametrize(
    ("name", "shape"), [("dice", (2, 4, 4, 1)), ("dice", (2, 3, 4, 4, 2)), ("cross_entropy", (5, 3))]
)
def test_the_loss_of_several_heads_is_the_mean_of_theirs(name, shape):
    generator = np.random.default_rng(2)
    truth = (generator.random(shape) > 0.5).astype(np.float32)
    maps, loss = generator.random((*shape, 3), np.float32), get_loss(name)
    expected = np.mean([float(loss(truth, maps[..., head])) for head in range(3)])
    assert float(on_every_head(loss)(truth, maps)) == pytest.approx(expected)
    assert float(on_every_head(loss)(truth, maps[..., 0])) == pytest.approx(float(loss(truth, maps[..., 0])))
    assert on_every_head(loss).__name__ == name
    np.testing.assert_allclose(mean_of_heads(truth, maps), maps.mean(-1), rtol=1e-6)


def test_training_moves_all_heads_and_counts_dice_of_their_mean():
    network = network_with_heads(2)
    twin = training_twin(network)
    loss, metrics = on_every_head(get_loss("bce")), dice_metrics(("liver", "tumor"))
    twin.compile(keras.optimizers.Adam(0.1), loss, metrics=metrics)
    pictures = np.random.default_rng(3).random((8, 4, 4, 1), np.float32)
    truth = np.repeat(pictures > 0.5, 2, axis=-1).astype(np.float32)
    before = [weight.numpy().copy() for weight in network.weights]
    results = [twin.train_on_batch(pictures, truth, return_dict=True) for _ in range(60)]
    assert all((weight.numpy() != old).any() for weight, old in zip(network.weights, before, strict=True))
    assert results[-1]["loss"] < results[0]["loss"] and results[-1]["liver_dice"] > 0.5


def test_dice_of_blocks_is_counted_as_that_of_pictures():
    generator, of_pictures = np.random.default_rng(4), (2, 12, 4, 2)
    truth = (generator.random((2, 3, 4, 4, 2)) > 0.5).astype(np.float32)
    heads = generator.random((2, 3, 4, 4, 2, 3), np.float32)
    blocks, pictures = RegionDice(1, "blocks"), RegionDice(1, "pictures")
    blocks.update_state(truth, heads)
    pictures.update_state(truth.reshape(of_pictures), heads.reshape(*of_pictures, 3))
    assert float(blocks.result()) == pytest.approx(float(pictures.result()))


def test_the_class_of_several_heads_is_that_of_their_mean():
    truth = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    heads = np.array([[[0.9, 0.4], [0.1, 0.6]], [[0.6, 0.1], [0.4, 0.9]], [[0.0, 0.6], [1.0, 0.4]]])
    accuracy = ClassAccuracy(name="accuracy")
    accuracy.update_state(truth, heads)  # means of the right class: 0.65, 0.35, 0.7
    assert float(accuracy.result()) == pytest.approx(2 / 3)
    accuracy.reset_state()
    accuracy.update_state(truth, heads[..., 1])
    assert float(accuracy.result()) == pytest.approx(0)
