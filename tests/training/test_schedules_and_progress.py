"""Rates and remaining times, each worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import keras
import pytest

from livseg_lib.errors import InputError
from livseg_lib.training import fit
from livseg_lib.training.fit import CosineSchedule, StepSchedule, schedule_callbacks


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
    cosine = CosineSchedule(0.1, first_epoch=2, epochs=4, batches_per_epoch=25)
    optimizer = with_rate(cosine, rate=7.0)  # whatever a resumed training stands at
    cosine.on_epoch_begin(epoch)
    cosine.on_train_batch_begin(batch)
    assert optimizer.learning_rate == pytest.approx(rate, abs=1e-12)


def test_the_step_comes_once_after_thirty_epochs_of_its_stage():
    step = StepSchedule(first_epoch=3)
    optimizer, rates = with_rate(step), []
    for epoch in (3, 32, 33, 34, 63):
        step.on_epoch_begin(epoch)
        rates.append(optimizer.learning_rate)
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.01])


def test_schedules_by_name():
    assert schedule_callbacks("constant", 0.1, 0, 4, 25) == []
    [step] = schedule_callbacks("step", 0.1, 7, 4, 25)
    assert (step.epoch, step.factor) == (37, 0.1)
    [cosine] = schedule_callbacks("cosine", 0.1, 7, 4, 25)
    assert (cosine.learning_rate, cosine.first_epoch, cosine.batches) == (0.1, 7, 100)
    with pytest.raises(InputError, match="constant, step, cosine"):
        schedule_callbacks("linear", 0.1, 0, 4, 25)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(fit.time, "monotonic", lambda: now.seconds)
    return now


@pytest.mark.parametrize("first", [0, 4])  # from the beginning, and resumed
def test_lines_say_how_much_time_is_left(clock, capsys, first):
    lines = fit.ProgressLines("unet", first, first + 3)
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
    lines = fit.ProgressLines("unet", 0, 1)
    lines.set_params({"steps": 20})
    lines.on_epoch_begin(0)
    for batch in range(20):
        lines.on_train_batch_end(batch)
    lines.on_epoch_end(0, None)
    assert capsys.readouterr().out == "unet: epoch 1/1    0.0 s left\n"
