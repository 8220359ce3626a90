"""Uncertainty over variants and networks: none where all say the same, else known numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.inference.explain import over_models, over_variants
from livseg_lib.inference.variants import predict_augmented


@pytest.fixture
def images() -> np.ndarray:
    smooth = np.linspace(0, 1, 24, dtype=np.float32)
    return np.stack([np.add.outer(smooth, smooth)] * 2)[..., np.newaxis] / 2


def test_a_constant_network_is_as_sure_of_every_variant(images):
    found = over_variants(lambda x: np.full(x.shape, 0.25, np.float32), images, ("shift", "rotate", "zoom"))
    np.testing.assert_allclose(found.mean, 0.25, atol=1e-6)
    np.testing.assert_allclose(found.deviation, 0, atol=1e-6)
    np.testing.assert_allclose(found.entropy, 0.8113, atol=1e-4)  # in bits: of 1 to 3


def test_a_network_that_moves_with_the_picture_is_sure_of_shifts(images):
    found = over_variants(lambda x: x, images, ("shift",))
    inside = found.deviation[:, 4:-4, 4:-4]
    np.testing.assert_allclose(inside, 0, atol=1e-6)


def test_a_network_that_knows_places_is_not(images):
    place = np.broadcast_to(np.linspace(0, 1, 24, dtype=np.float32)[:, np.newaxis], (24, 24))[..., np.newaxis]
    found = over_variants(lambda x: np.broadcast_to(place, x.shape), images, ("shift",))
    expected = np.std([0, -3 / 23, -3 / 23, 3 / 23, 3 / 23])
    np.testing.assert_allclose(found.deviation[:, 5:-5, 5:-5], expected, atol=1e-5)


def test_the_mean_is_that_of_test_time_augmentation(images):
    def network(x):
        return x**2

    names = ("rotate", "zoom", "grey")
    np.testing.assert_allclose(
        over_variants(network, images, names).mean, predict_augmented(network, images, names), atol=1e-5
    )


@given(count=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_over_models_is_mean_and_standard_deviation(count, seed):
    answers = np.random.default_rng(seed).random((count, 3, 4, 2), np.float32)
    found = over_models(iter(answers))
    np.testing.assert_allclose(found.mean, answers.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.deviation, answers.std(axis=0), atol=1e-5)
    assert found.mean.dtype == found.deviation.dtype == found.entropy.dtype == np.float32


def test_equal_networks_are_exactly_sure_and_answers_are_clipped():
    answer = np.full((4, 4, 1), 0.3, np.float32)
    assert not over_models([answer] * 7).deviation.any()
    assert over_models([answer - 1, answer + 1]).mean.max() == 0.5
    assert over_models([answer * 0, answer * 0 + 1]).deviation.max() == 0.5


def test_no_network_and_no_such_variant_are_refused(images):
    with pytest.raises(InputError, match="none"):
        over_models([])
    with pytest.raises(InputError, match="nonsense"):
        over_variants(lambda x: x, images, ("nonsense",))
