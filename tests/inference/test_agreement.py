"""Agreement of models, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from livseg_lib.errors import InputError
from livseg_lib.inference.variants import (
    LESION_COLUMNS,
    disagreement,
    lesion_agreement,
    majority_vote,
    mean_probability,
    predictive_entropy,
    volume_agreement,
)

label_stacks = st.integers(1, 5).flatmap(
    lambda models: arrays.arrays(np.uint8, (models, 2, 3, 4), elements=st.integers(0, 2))
)


def test_the_mean_of_planes_of_either_kind():
    bytes_mean = mean_probability(iter([np.array([0, 255, 51], np.uint8), np.array([0, 255, 102], np.uint8)]))
    np.testing.assert_allclose(bytes_mean, [0, 1, 0.3], rtol=1e-6)
    floats = [np.array([0.0, 1.0, 0.2], np.float32), np.array([0.0, 1.0, 0.4], np.float32)]
    np.testing.assert_allclose(mean_probability(floats), [0, 1, 0.3], rtol=1e-6)
    assert bytes_mean.dtype == np.float32 and floats[0][2] == np.float32(0.2)  # what came in stays


def test_entropy_is_a_bit_at_even_odds_and_none_where_all_is_sure():
    found = predictive_entropy(np.array([0.0, 0.25, 0.5, 1.0], np.float32))
    np.testing.assert_allclose(found, [0, 0.811278, 1, 0], atol=1e-6)
    assert found.dtype == np.float32


def test_votes_by_hand():
    models = [
        np.array(row, np.uint8).reshape(1, 1, 5)
        for row in ([0, 1, 2, 2, 2], [0, 1, 1, 2, 0], [0, 0, 2, 2, 0])
    ]
    assert majority_vote(models).ravel().tolist() == [0, 1, 2, 2, 0]
    np.testing.assert_allclose(disagreement(models, "liver").ravel(), [0, 1 / 3, 0, 0, 1 / 3])
    np.testing.assert_allclose(disagreement(models, "tumor").ravel(), [0, 0, 1 / 3, 0, 1 / 3])


def test_half_of_the_models_are_no_majority():
    models = [np.full((1, 1, 1), label, np.uint8) for label in (2, 1)]
    assert majority_vote(models).item() == 1
    assert disagreement(models, "tumor").item() == 0.5


@given(label_stacks)
def test_a_majority_is_that_of_each_structure(models):
    vote = majority_vote(models)
    assert vote.dtype == np.uint8 and vote.shape == models.shape[1:]
    for label in (1, 2):
        np.testing.assert_array_equal(vote >= label, (models >= label).mean(axis=0) > 0.5)
    assert (disagreement(models, "liver") <= 0.5).all()
    np.testing.assert_array_equal(majority_vote(models[:1]), models[0])
    np.testing.assert_array_equal(majority_vote(models[::-1]), vote)


def boxes(*tumors: tuple[slice, slice]) -> np.ndarray:
    labels = np.ones((4, 12, 12), np.uint8)
    for rows, columns in tumors:
        labels[1:3, rows, columns] = 2
    return labels


def test_volumes_and_pairs_by_hand():
    models = [boxes((slice(0, 2), slice(0, 4))), boxes((slice(0, 2), slice(2, 6))), boxes()]
    table = volume_agreement(models, voxel_volume_ml=0.5).set_index("structure")
    liver, tumor = table.loc["liver"], table.loc["tumor"]
    assert (liver.models, liver.models_finding, liver.volume_ml, liver.volume_ml_std) == (3, 3, 288, 0)
    assert liver.pairwise_dice == 1
    assert (tumor.models, tumor.models_finding) == (3, 2)
    assert tumor.volume_ml == pytest.approx(16 / 3)
    assert tumor.volume_ml_std == pytest.approx(np.std([8, 8, 0]))
    assert tumor.pairwise_dice == pytest.approx((0.5 + 0 + 0) / 3)


def test_what_cannot_be_compared_is_undefined_not_zero():
    empty = np.zeros((2, 2, 2), np.uint8)
    table = volume_agreement([empty, empty], 1.0)
    assert (table.volume_ml == 0).all() and table.pairwise_dice.isna().all()
    alone = volume_agreement([empty + np.uint8(2)], 1.0)
    assert (alone.volume_ml == 8).all() and alone.pairwise_dice.isna().all()


def test_each_tumour_that_any_model_sees_has_a_row():
    shared, guess = (slice(0, 4), slice(0, 4)), (slice(8, 10), slice(8, 10))
    models = [boxes(shared), boxes((slice(0, 4), slice(1, 5)), guess), boxes(shared)]
    table, lesions = lesion_agreement(models, voxel_volume_ml=1.0)
    assert tuple(table.columns) == LESION_COLUMNS and table.lesion.tolist() == [1, 2]
    assert table.models_finding.tolist() == [3, 1]
    assert table.volume_ml.tolist() == pytest.approx([32, 8 / 3])
    assert table.volume_ml_std.tolist() == pytest.approx([0, np.std([0, 8, 0])])
    assert table.pairwise_dice.tolist() == pytest.approx([(0.75 + 1 + 0.75) / 3, 0])
    np.testing.assert_array_equal(lesions == 2, boxes(guess) == 2)
    none, nowhere = lesion_agreement([boxes(), boxes()], 1.0)
    assert none.empty and tuple(none.columns) == LESION_COLUMNS and not nowhere.any()


def test_a_tumour_in_the_corner_of_another_is_not_counted_with_it():
    labels = np.ones((1, 8, 8), np.uint8)
    labels[0, 0, :], labels[0, :, 0] = 2, 2  # an angle
    labels[0, 5:7, 5:7] = 2  # and what lies in it
    table, _ = lesion_agreement([labels, labels], 1.0)
    assert table.volume_ml.tolist() == [15, 4]


@pytest.mark.parametrize("compare", [majority_vote, lambda models: volume_agreement(models, 1.0)])
def test_models_that_cannot_be_compared_are_refused(compare):
    with pytest.raises(InputError, match="at least one"):
        compare([])
    with pytest.raises(InputError, match="one grid"):
        compare([np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8)])


def test_planes_that_cannot_be_averaged_are_refused():
    with pytest.raises(InputError, match="at least one"):
        mean_probability([])
    with pytest.raises(InputError, match="one grid"):
        mean_probability([np.zeros((2, 2)), np.zeros((1, 2))])
