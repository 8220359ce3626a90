"""Which epoch is best, when a stage ends, and what stands still: seen on one weight."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from livseg_lib.errors import InputError
from livseg_lib.training import fit as fitting
from livseg_lib.training.checkpoint import load_arrays
from livseg_lib.training.fit import FitSettings, Stage, dice_metrics, fit


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
    try:
        scaled = fitting._adam(0.1)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert scaled.inner_optimizer.name == "adam" and float(
        scaled.inner_optimizer.learning_rate
    ) == pytest.approx(0.1)


@pytest.mark.parametrize(("has_gpu", "policy"), [(True, "mixed_float16"), (False, "float32")])
def test_float16_is_for_gpus(monkeypatch, has_gpu, policy):
    monkeypatch.setattr(fitting, "_has_gpu", lambda: has_gpu)
    try:
        assert fitting.use_mixed_precision_on_gpu() == policy == keras.mixed_precision.dtype_policy().name
    finally:
        keras.mixed_precision.set_global_policy("float32")
