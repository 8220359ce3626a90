from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.labels import class_counts, diagnose_slices, slice_class


def slices_of(liver_pixels: list, tumor_pixels: list) -> pd.DataFrame:
    return pd.DataFrame({"liver_pixels": liver_pixels, "tumor_pixels": tumor_pixels})


def test_classes_by_hand():
    slices = diagnose_slices(slices_of([0, 5, 9, 3], [0, 0, 1, 3]))
    assert slices["class"].tolist() == [0, 1, 2, 2]
    assert slices["class"].dtype.kind == "i"


def test_columns_as_read_from_slices_csv_are_judged_alike():
    slices = slices_of([0, 5, 9], [0, 0, 1])
    nullable = slices.astype("Int64")
    assert diagnose_slices(nullable)["class"].tolist() == diagnose_slices(slices)["class"].tolist()
    nullable.loc[0, "tumor_pixels"] = pd.NA
    with pytest.raises(InputError, match="1 of 3 have no truth"):
        diagnose_slices(nullable)


def test_agrees_with_the_meaning_of_labels():
    rng = np.random.default_rng(0)
    masks = [rng.choice([0, 1, 2], (4, 4), p=p) for p in ([1, 0, 0], [0.5, 0.5, 0], [0.4, 0.3, 0.3])]
    slices = slices_of([(m >= 1).sum() for m in masks], [(m == 2).sum() for m in masks])
    assert diagnose_slices(slices)["class"].tolist() == [slice_class(mask) for mask in masks]


def test_counts_stand_beside_those_of_system_c():
    counts = class_counts(diagnose_slices(slices_of([0, 0, 5, 9], [0, 0, 0, 1])))
    assert counts.index.tolist() == ["empty", "liver only", "liver and tumour", "all"]
    assert counts["slices"].tolist() == [2, 1, 1, 4]
    assert counts["share"].tolist() == [0.5, 0.25, 0.25, 1.0]
    assert counts["system_c_slices"].tolist() == [19_777, 6_948, 2_631, 29_356]
    assert counts["system_c_share"].iloc[:3].sum() == pytest.approx(1.0)


def test_no_slices_have_no_share():
    counts = class_counts(diagnose_slices(slices_of([], [])))
    assert counts["slices"].tolist() == [0, 0, 0, 0]
    assert counts["share"].isna().all()


def test_slices_without_truth_are_refused():
    with pytest.raises(InputError, match="1 of 2 have no truth"):
        diagnose_slices(slices_of([0, np.nan], [0, np.nan]))
    with pytest.raises(InputError, match="lack the columns"):
        diagnose_slices(pd.DataFrame({"liver_pixels": [1]}))
