from __future__ import annotations

import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.sampling.splits import cases_without_liver, resolve_choice, select_slices

SLICES = pd.DataFrame({"array_index": range(30), "class": ([0] * 3 + [1] * 5 + [2] * 2) * 3})


@pytest.mark.parametrize(("choice", "count"), [("tumor", 6), ("liver", 21), ("all", 30)])
def test_choice_takes_the_class_and_all_above(choice, count):
    chosen = select_slices(SLICES, choice)
    assert len(chosen) == count
    assert chosen["class"].min() == {"tumor": 2, "liver": 1, "all": 0}[choice]


@pytest.mark.parametrize(("ratio", "negatives"), [(0.5, 3), (0.3, 2), (0.2, 1), (1, 6), (2, 12), (99, 24)])
def test_negatives_are_drawn_without_replacement_as_far_as_there_are_any(ratio, negatives):
    chosen = select_slices(SLICES, "tumor", ratio, seed=1)
    assert (chosen["class"] == 2).sum() == 6
    assert (chosen["class"] < 2).sum() == negatives
    assert chosen["array_index"].is_unique and chosen["array_index"].is_monotonic_increasing


def test_negatives_follow_the_seed():
    draws = [tuple(select_slices(SLICES, "tumor", 1, seed)["array_index"]) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_all_has_no_negatives_to_add():
    assert len(select_slices(SLICES, "all", 5)) == 30


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(InputError, match="Choose one of tumor, liver, all"):
        select_slices(SLICES, "spleen")
    with pytest.raises(InputError, match="0 or more"):
        select_slices(SLICES, "tumor", -1)
    with pytest.raises(InputError, match="none of 8 slices"):
        select_slices(SLICES[:8], "tumor")


def test_nullable_columns_are_read_alike():
    nullable = SLICES.astype("Int64")
    assert select_slices(nullable, "tumor", 1)["array_index"].tolist() == (
        select_slices(SLICES, "tumor", 1)["array_index"].tolist()
    )


def test_the_automatic_choice_follows_the_target():
    assert [resolve_choice("auto", target) for target in ("liver", "tumor", "both")] == [
        "liver",
        "tumor",
        "tumor",
    ]
    assert resolve_choice("all", "liver") == "all"


def test_cases_without_any_annotation_are_listed_with_the_reason():
    slices = pd.DataFrame(
        {
            "patient": ["p2"] * 2 + ["p1"] * 3 + ["p0"] * 2,
            "case": ["bare"] * 2 + ["liver"] * 3 + ["tumour"] * 2,
            "class": [0, 0, 0, 1, 0, 2, 0],
        }
    )
    listed = cases_without_liver(slices)
    assert listed.to_dict("list") == {
        "patient": ["p2"],
        "case": ["bare"],
        "slices": [2],
        "reason": ["no liver or tumour in any slice"],
    }
    assert cases_without_liver(slices[2:]).empty
