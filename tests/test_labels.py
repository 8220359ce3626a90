import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import find_objects

from livseg_lib.errors import InputError
from livseg_lib.labels import bounding_box, class_counts, diagnose_slices, fullest_slice


def slices_of(liver_pixels: list, tumor_pixels: list) -> pd.DataFrame:
    return pd.DataFrame({"liver_pixels": liver_pixels, "tumor_pixels": tumor_pixels})


def test_classes_by_hand_and_as_labels_say():
    masks = [np.zeros((2, 2)), np.array([[0, 1], [0, 0]]), np.array([[1, 2], [0, 0]]), np.full((2, 2), 2)]
    slices = slices_of([(m >= 1).sum() for m in masks], [(m == 2).sum() for m in masks])
    for table in (slices, slices.astype("Int64")):  # as read from slices.csv
        assert diagnose_slices(table)["class"].tolist() == [0, 1, 2, 2]


def test_counts_stand_beside_those_of_system_c_and_no_slices_have_no_share():
    counts = class_counts(diagnose_slices(slices_of([0, 0, 5, 9], [0, 0, 0, 1])))
    assert counts.index.tolist() == ["empty", "liver only", "liver and tumour", "all"]
    assert counts["slices"].tolist() == [2, 1, 1, 4]
    assert counts["share"].tolist() == [0.5, 0.25, 0.25, 1.0]
    assert counts["system_c_slices"].tolist() == [19_777, 6_948, 2_631, 29_356]
    assert counts["system_c_share"].iloc[:3].sum() == pytest.approx(1.0)
    nothing = class_counts(diagnose_slices(slices_of([], [])))
    assert nothing["slices"].tolist() == [0] * 4 and nothing["share"].isna().all()


@pytest.mark.parametrize("missing", [np.nan, pd.NA])
def test_slices_without_truth_are_refused(missing):
    with pytest.raises(InputError, match="1 of 2 have no truth"):
        diagnose_slices(slices_of([0, 1], [0, missing]))


def test_the_fullest_slice_goes_by_tumor_before_liver():
    labels = np.zeros((3, 4, 4), np.uint8)
    assert fullest_slice(labels) == 0
    labels[1, :, :3] = 1
    labels[2, :, 0] = 1
    assert fullest_slice(labels) == 1
    labels[2, 0, 0] = 2
    assert fullest_slice(labels) == 2


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_bounding_boxes_are_those_of_scipy(kind, share):
    rng = np.random.default_rng(7)
    for shape in ((1, 1, 1), (5, 9, 7), (12, 3), (8,)):
        labels = (rng.random(shape) < share).astype(kind)
        assert bounding_box(labels) == (find_objects(labels.astype(np.uint8)) or [None])[0]
        assert bounding_box(-labels.astype(np.int16)) is None
