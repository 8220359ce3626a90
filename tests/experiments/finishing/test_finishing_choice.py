"""Which finishes are kept: what helps, in order; what harms or changes nothing is not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from livseg_lib.datasets.case import Case
from livseg_lib.studies import finishing
from livseg_lib.studies.finishing import Outlined, choose_finishes, outline_cases
from livseg_lib.volumes import Volume

SPACING_MM = (5.0, 2.0, 2.0)
BOTH = ("liver", "tumor")


def truth() -> np.ndarray:
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[1:5, 2:14, 2:14] = 1
    labels[2:4, 4:8, 4:8] = 2
    return labels


def outlined(labels: np.ndarray, patient: str = "a", reference: np.ndarray | None = None) -> Outlined:
    return Outlined(patient, labels, truth() if reference is None else reference, SPACING_MM)


def flawed() -> np.ndarray:
    """A blob beside the liver, a hole in it, and a tumour of three voxels that is none."""
    labels = truth()
    labels[1:3, 17:19, 17:19] = 1
    labels[3, 12, 12] = 0
    labels[3, 10, 3:6] = 2
    return labels


def reasons(table, structure: str = "liver") -> dict[str, str]:
    return table[table.structure == structure].set_index("finish").reason.to_dict()


def test_what_helps_is_kept_in_order_and_what_changes_nothing_is_not():
    kept, table = choose_finishes([outlined(flawed())], BOTH)
    assert kept == ("keep_largest_liver", "fill_liver", "drop_small_tumors")
    assert reasons(table)["fill_tumors"] == reasons(table)["keep_tumors_in_liver"] == "changes nothing"
    assert len(table) == 10 and (table.kept == table.finish.isin(kept)).all()
    liver = table[table.structure == "liver"]
    # each begins where those kept before it have ended
    assert (liver.dice_before.iloc[1:].to_numpy() == liver.dice_after.iloc[:-1].to_numpy()).all()
    assert table.dice_after.iloc[-2:].tolist() == [1.0, 1.0]
    assert table.change.to_numpy() == pytest.approx((table.dice_after - table.dice_before).to_numpy())


def test_what_harms_is_left_out_and_leaves_no_trace():
    small = np.zeros((6, 20, 20), np.uint8)
    small[1:5, 2:14, 2:14] = 1
    small[3, 5, 5:8] = 2  # a true tumour of 0.06 ml
    kept, table = choose_finishes([outlined(small.copy(), reference=small)], BOTH)
    assert kept == () and reasons(table)["drop_small_tumors"] == "harms"
    harm = table[(table.finish == "drop_small_tumors") & (table.structure == "tumor")].iloc[0]
    assert (harm.dice_before, harm.dice_after, harm.kept) == (1.0, 0.0, False)


def test_what_one_patient_gains_and_another_loses_is_no_reason():
    small = truth()
    small[3, 10, 3:6] = 2
    both = [outlined(small.copy(), "real", small), outlined(small.copy(), "none")]
    kept, table = choose_finishes(both, BOTH)
    assert kept == () and reasons(table)["drop_small_tumors"] == "changes next to nothing"
    rows = table[table.finish == "drop_small_tumors"]
    assert rows.n_changed.tolist() == [2, 2] and rows.n_patients.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("pixels", "reason"), [(0, "changes nothing"), (1, "changes next to nothing"), (200, "helps")]
)
def test_a_gain_of_next_to_nothing_is_none(monkeypatch, pixels, reason):
    reference = np.ones((10, 100, 10), np.uint8)

    def mend(labels, spacing_mm, step=0):
        mended = labels.copy()
        mended.ravel()[:pixels] = 1
        return mended

    broken = reference.copy()
    broken.ravel()[:400] = 0
    monkeypatch.setattr(finishing, "FINISHES", {"mend": mend})
    kept, table = choose_finishes([outlined(broken, reference=reference)], ("liver",))
    assert table.reason.tolist() == [reason] and kept == (("mend",) if reason == "helps" else ())


def test_of_two_that_do_the_same_the_first_is_kept(monkeypatch):
    def first(labels, spacing_mm):
        return np.where(labels == 2, np.uint8(1), labels)

    monkeypatch.setattr(finishing, "FINISHES", {"first": first, "second": partial(first)})
    reference = np.where(truth() == 2, np.uint8(1), truth())
    kept, table = choose_finishes([outlined(truth(), reference=reference)], BOTH)
    assert kept == ("first",) and reasons(table) == {"first": "helps", "second": "changes nothing"}


def test_cases_of_one_patient_count_once():
    perfect, empty = outlined(truth(), "a"), outlined(np.zeros_like(truth()), "a")
    _, table = choose_finishes([perfect, empty, outlined(truth(), "b")], BOTH)
    assert table.dice_before.iloc[0] == 0.75 and table.n_patients.iloc[0] == 2


class Finder:
    """Finds what is bright."""

    system = "finder"


def test_cases_are_cut_to_what_matters_and_may_be_empty(monkeypatch):
    monkeypatch.setattr(finishing, "outline", lambda _, volume: (volume.voxels > 0).astype(np.uint8))
    voxels = np.zeros((6, 20, 20), np.int16)
    voxels[1:5, 2:14, 2:15] = 100
    cases = [
        Case(name, name, (), partial(Volume, hu, SPACING_MM), lambda _, labels=labels: labels)
        for name, hu, labels in (
            ("a", voxels, truth()),
            ("empty", np.zeros_like(voxels), np.zeros_like(truth())),
        )
    ]
    found = outline_cases(Finder(), cases)
    assert [each.labels.shape for each in found] == [(4, 12, 13), (0, 0, 0)]
    kept, table = choose_finishes(found, BOTH)
    assert kept == () and table.n_patients.iloc[0] == 2
