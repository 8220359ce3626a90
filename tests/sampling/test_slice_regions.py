from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.sampling.batches import NO_REGION, REGIONS, attach_regions, regions_in, without_region


def table(**classes: list[int]) -> pd.DataFrame:
    """One case a keyword, its slices from feet to head by class."""
    rows = [(f"p-{c}", c, k, value) for c, values in classes.items() for k, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["patient", "case", "array_index", "class"])


def test_each_slice_is_named_by_its_labels_or_its_side_of_the_liver():
    found = attach_regions(table(a=[0, 0, 1, 2, 1, 0], b=[2, 0])).region.tolist()
    assert found[:6] == ["below_liver"] * 2 + ["liver", "liver_with_tumor", "liver", "above_liver"]
    assert found[6:] == ["liver_with_tumor", "above_liver"]


def test_rows_may_come_in_any_order_and_as_read_from_a_file():
    slices = table(a=[0, 1, 2, 0], b=[0, 0, 1, 1])
    shuffled = slices.sample(frac=1, random_state=1).astype({"class": "Int64", "array_index": "Int64"})
    pd.testing.assert_series_equal(
        attach_regions(shuffled).sort_index().region, attach_regions(slices).region, check_dtype=False
    )


def test_slices_that_cannot_be_named_are_counted_with_the_reason():
    named = attach_regions(table(no_liver=[0, 0, 0], gap=[0, 1, 0, 0, 1], fine=[0, 1]))
    assert named.region.tolist() == [NO_REGION] * 3 + [
        *("below_liver", "liver", NO_REGION, NO_REGION, "liver"),
        *("below_liver", "liver"),
    ]
    nameless = without_region(named).set_index("case")
    assert nameless.slices.to_dict() == {"no_liver": 3, "gap": 2}
    assert nameless.reason.to_dict() == {"no_liver": "no liver at all", "gap": "liver on both sides"}
    assert nameless.patient.to_dict() == {"no_liver": "p-no_liver", "gap": "p-gap"}


def test_a_set_that_shows_liver_only_has_one_region():
    named = attach_regions(table(a=[1, 1], b=[1]))
    assert regions_in(named) == ("liver",)
    assert without_region(named).empty
    assert regions_in(attach_regions(table(a=[0, 2, 1, 0]))) == REGIONS


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=12))
def test_regions_run_from_feet_to_head(classes):
    named = attach_regions(table(a=classes))
    assert ((named.region == "liver_with_tumor") == (named["class"] == 2)).all()
    assert ((named.region == "liver") == (named["class"] == 1)).all()
    kinds = named.region.replace({"liver_with_tumor": "liver", NO_REGION: "liver"})
    places = kinds.map({"below_liver": 0, "liver": 1, "above_liver": 2})
    assert places.is_monotonic_increasing or not any(classes)


@pytest.mark.parametrize("column", ["class", "case", "array_index"])
def test_what_it_needs_is_named_where_it_lacks(column):
    with pytest.raises(KeyError, match=column):
        attach_regions(table(a=[0, 1]).drop(columns=column))
