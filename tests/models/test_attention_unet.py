"""Attention U-Net: the gate against its formula, and where gates stand."""

import keras
import numpy as np

from livseg_lib.models import build_model
from livseg_lib.models.attention_unet import attention_gate

random = np.random.default_rng(0)
SKIP = random.standard_normal((2, 8, 12, 3)).astype(np.float32)
GATING = random.standard_normal((2, 4, 6, 5)).astype(np.float32)


def gate() -> keras.Model:
    """(skip, gating) -> what passes, the coefficients, and those on the gating signal's grid."""
    skip, gating = keras.Input(SKIP.shape[1:]), keras.Input(GATING.shape[1:])
    model = keras.Model([skip, gating], attention_gate(skip, gating, "gate"))
    inner = [model.get_layer(f"gate_{name}").output for name in ("coefficients", "psi")]
    return keras.Model(model.inputs, [model.output, *inner])


def test_coefficients_follow_the_papers_formula_on_the_gating_grid():
    model = gate()
    model.get_layer("gate_psi").bias.assign([0.3])
    (theta,) = model.get_layer("gate_theta").get_weights()  # (2, 2, 3, 3)
    phi, phi_bias = model.get_layer("gate_phi").get_weights()  # (1, 1, 5, 3), (3,)
    psi, psi_bias = model.get_layer("gate_psi").get_weights()  # (1, 1, 3, 1), (1,)
    patches = SKIP.reshape(2, 4, 2, 6, 2, 3)  # each position of the gating grid holds 2 x 2 of the skip
    summed = np.einsum("biajcf,acfg->bijg", patches, theta) + GATING @ phi[0, 0] + phi_bias
    expected = 1 / (1 + np.exp(-(np.maximum(summed, 0) @ psi[0, 0] + psi_bias)))
    _, _, on_the_grid = model.predict_on_batch([SKIP, GATING])
    np.testing.assert_allclose(on_the_grid, expected, atol=1e-5)


def test_one_coefficient_a_pixel_weighs_all_channels_of_the_skip():
    passed, coefficients, on_the_grid = gate().predict_on_batch([SKIP, GATING])
    assert on_the_grid.shape == (2, 4, 6, 1)
    assert coefficients.shape == (2, 8, 12, 1)
    assert on_the_grid.min() <= coefficients.min() and coefficients.max() <= on_the_grid.max()
    np.testing.assert_allclose(passed, SKIP * coefficients, rtol=1e-6)


def test_untrained_gates_are_open():
    pictures = random.random((2, 32, 32, 1), np.float32)
    network = build_model("attention_unet", (32, 32, 1), 1, filters=8, levels=3)
    gate = keras.Model(network.inputs, network.get_layer("gate1_coefficients").output)
    assert gate.predict_on_batch(pictures).mean() > 0.7


def test_every_skip_but_the_first_has_a_gate_steered_from_one_level_deeper():
    network = build_model("attention_unet", (64, 64, 3), 2, filters=4, levels=4, patch=2)
    steering = {1: "decoder2_relu", 2: "encoder3_relu"}
    gates = {layer.name for layer in network.layers if layer.name.endswith("_coefficients")}
    assert gates == {f"gate{level}_coefficients" for level in steering}
    for level, source in steering.items():
        size = 32 / 2**level  # patch 2 folds 64 pixels into 32
        assert network.get_layer(f"gate{level}_coefficients").output.shape[1:] == (size, size, 1)
        assert network.get_layer(f"gate{level}_phi").input._keras_history.operation.name == source
        skip = network.get_layer(f"decoder{level}_join").input[0]
        assert skip._keras_history.operation.name == f"gate{level}_gated"
    first = network.get_layer("decoder0_join").input[0]
    assert first._keras_history.operation.name == "encoder0_relu"


def test_but_for_its_gates_it_is_the_unet():
    options = {"filters": 4, "levels": 4, "patch": 2, "l2": 1e-4}
    plain, gated = (build_model(name, (64, 64, 3), 2, **options) for name in ("unet", "attention_unet"))
    weights = {weight.path: weight.shape for weight in gated.weights if not weight.path.startswith("gate")}
    assert weights == {weight.path: weight.shape for weight in plain.weights}
    assert len(gated.losses) == len(plain.losses)
