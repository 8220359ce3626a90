from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.sampling.splits import (
    audit_protocols,
    deal_protocols,
    deal_to_folds,
    mark_positives,
    nearest_training_slice,
)

LIBRARY = Path(__file__).parents[2] / "livseg_lib"


def slices_of(tumor_pixels: list[list[int]]) -> pd.DataFrame:
    """One list a patient, one number a slice."""
    rows = [
        {"patient": f"p{patient}", "case": f"c{patient}", "slice": number, "tumor_pixels": pixels}
        for patient, of_patient in enumerate(tumor_pixels)
        for number, pixels in enumerate(of_patient)
    ]
    return mark_positives(pd.DataFrame(rows), "tumor")


# Three patients or more show a tumour, so that up to three folds are possible.
with_tumor = st.lists(st.sampled_from([0, 0, 5]), min_size=1, max_size=9).map(lambda pixels: [*pixels, 7])
without = st.lists(st.just(0), min_size=1, max_size=5)
cohorts = st.tuples(
    st.lists(with_tumor, min_size=3, max_size=7), st.lists(without, min_size=1, max_size=3)
).map(lambda both: slices_of(both[0] + both[1]))


def deal(slices: pd.DataFrame, folds: int, seed: int):
    return deal_protocols(slices, audit_protocols(slices, "tumor"), folds, seed)


@settings(max_examples=15, deadline=None)
@given(cohorts, st.integers(2, 3), st.integers(0, 2**40))
def test_every_slice_is_held_out_once_and_never_trained_on_in_its_fold(slices, folds, seed):
    dealt = deal(slices, folds, seed)
    assert list(dealt) == ["slice, tumour only", "slice", "patient, tumour only", "patient"]
    for parts in dealt.values():
        held_out = pd.concat([fold.held_out for fold in parts])
        assert sorted(held_out.index) == sorted(slices.index)
        for fold in parts:
            assert not set(fold.training.index) & set(fold.held_out.index)
            assert not fold.training.index.duplicated().any()


@settings(max_examples=15, deadline=None)
@given(cohorts, st.integers(2, 3), st.integers(0, 2**40))
def test_by_patient_no_fold_shares_a_patient(slices, folds, seed):
    for name, parts in deal(slices, folds, seed).items():
        if name.startswith("patient"):
            assert all(not set(fold.training.patient) & set(fold.held_out.patient) for fold in parts)


@settings(max_examples=15, deadline=None)
@given(cohorts, st.integers(2, 3), st.integers(0, 2**40))
def test_protocols_that_choose_alike_train_on_equally_many_slices(slices, folds, seed):
    dealt = deal(slices, folds, seed)
    counts = {name: {int(f.training.is_positive.sum()) for f in parts} for name, parts in dealt.items()}
    assert len(set.union(*counts.values())) == 1
    for choice in (["slice", "patient"], ["slice, tumour only", "patient, tumour only"]):
        assert len({len(fold.training) for name in choice for fold in dealt[name]}) == 1
    for deals in ("slice", "patient"):
        for narrow, wide in zip(dealt[f"{deals}, tumour only"], dealt[deals], strict=True):
            assert narrow.training.index.equals(wide.training.index[wide.training.is_positive])


def test_a_split_by_slice_has_every_patient_on_both_sides():
    slices = slices_of([[3] * 12] * 4)
    (fold, *_) = deal_protocols(slices, audit_protocols(slices, "tumor"), 3, 1)["slice"]
    assert set(fold.training.patient) == set(fold.held_out.patient) == set(slices.patient)


def test_the_seed_alone_decides():
    slices = slices_of([[0, 3, 3, 0, 3]] * 5)
    same, again, other = (deal_to_folds(slices, "slice", 3, seed) for seed in (1, 1, 2))
    assert (same == again).all() and (same != other).any()


def test_two_protocols_are_left_where_every_slice_shows_the_structure():
    slices = slices_of([[3, 3], [4]])
    assert [protocol.name for protocol in audit_protocols(slices, "tumor")] == ["slice", "patient"]


@pytest.mark.parametrize(("folds", "deals"), [(1, "slice"), (3, "slice"), (3, "patient")])
def test_folds_that_cannot_be_filled_are_refused(folds, deals):
    with pytest.raises(InputError, match="audit folds"):
        deal_to_folds(slices_of([[3, 3, 3], [0, 4, 4], [0, 0, 0]]), deals, folds, 0)


def test_the_nearest_training_slice_by_hand():
    training = pd.DataFrame({"case": ["a", "a", "b"], "slice": [10, 14, 3]})
    held_out = pd.DataFrame({"case": ["a", "c", "b", "a"], "slice": [11, 5, 30, 13]}, index=[7, 8, 9, 3])
    assert nearest_training_slice(held_out, training).tolist() == [0, -1, 2, 1]


@settings(max_examples=15, deadline=None)
@given(cohorts, st.integers(0, 99))
def test_the_nearest_training_slice_against_a_search_through_all(slices, seed):
    fold = deal(slices, 2, seed)["slice"][0]
    found = nearest_training_slice(fold.held_out, fold.training)
    for row, place in zip(fold.held_out.itertuples(), found, strict=True):
        own = fold.training[fold.training.case == row.case]
        if own.empty:
            assert place == -1
        else:
            chosen = fold.training.iloc[place]
            assert chosen.case == row.case
            assert abs(chosen.slice - row.slice) == np.abs(own.slice - row.slice).min()
