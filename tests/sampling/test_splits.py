import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.sampling.splits import (
    SPLITS,
    assert_no_leak,
    attach_split,
    audit_protocols,
    cases_without_liver,
    deal_protocols,
    deal_to_folds,
    list_patients,
    load_or_create_splits,
    mark_positives,
    nearest_training_slice,
    require_structures,
    resolve_choice,
    select_slices,
    split_patients,
)


def patients_of(has_tumor: list[bool]) -> pd.DataFrame:
    return pd.DataFrame({"patient": [f"p{i}" for i in range(len(has_tumor))], "has_tumor": has_tumor})


cohorts = st.lists(st.booleans(), min_size=3, max_size=60).map(patients_of)
any_fractions = st.tuples(*[st.integers(1, 9)] * 3).map(lambda w: tuple(x / sum(w) for x in w))


@settings(max_examples=60, deadline=None)
@given(cohorts, any_fractions, st.integers(2, 8), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_patients_are_dealt_to_parts_and_balanced_folds_whatever_their_order(
    patients, fractions, folds, seed, random
):
    splits = split_patients(patients, fractions, folds, seed)
    assert list(splits.columns) == ["patient", "has_tumor", "split", "fold"]
    assert sorted(splits["patient"]) == sorted(patients["patient"])
    assert set(splits["split"]) == set(SPLITS)
    merged = splits.merge(patients, on="patient", suffixes=("", "_given"))
    assert (merged["has_tumor"] == merged["has_tumor_given"]).all()
    assert_no_leak(patients, splits)
    assert ((splits["fold"] == -1) == (splits["split"] == "test")).all()
    development = splits[splits["split"] != "test"]
    used = min(folds, len(development))
    assert set(development["fold"]) == set(range(used))
    for group in (development, development[development["has_tumor"]]):
        sizes = group["fold"].value_counts().reindex(range(used), fill_value=0)
        assert sizes.max() - sizes.min() <= 1
    shuffled = patients.iloc[random.sample(range(len(patients)), len(patients))]
    pd.testing.assert_frame_equal(split_patients(shuffled, fractions, folds, seed), splits)


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 200), st.integers(0, 200), st.integers(0, 99))
def test_sizes_and_tumour_share_follow_the_fractions(count, with_tumor, seed):
    with_tumor = min(with_tumor, count)
    patients = patients_of([True] * with_tumor + [False] * (count - with_tumor))
    splits = split_patients(patients, (0.6, 0.2, 0.2), seed=seed)
    for group in (splits, splits[splits["has_tumor"]]):
        sizes = group["split"].value_counts().reindex(SPLITS, fill_value=0).to_numpy()
        if len(group) >= 3:
            assert (sizes >= 1).all()
        if len(group) >= 5:
            assert (np.abs(sizes - np.array([0.6, 0.2, 0.2]) * len(group)) < 1).all()


@pytest.mark.parametrize(
    ("count", "sizes"), [(3, (1, 1, 1)), (5, (3, 1, 1)), (10, (6, 2, 2)), (98, (59, 19, 20))]
)
def test_sizes_by_hand(count, sizes):
    splits = split_patients(patients_of([True] * count))
    assert tuple(splits["split"].value_counts()[list(SPLITS)]) == sizes


def test_with_two_tumour_patients_one_trains_and_one_tests_and_seeds_differ():
    splits = split_patients(patients_of([True, True] + [False] * 8))
    assert sorted(splits["split"][splits["has_tumor"]]) == ["test", "train"]
    patients = patients_of([True, False] * 10)
    assert len({tuple(split_patients(patients, seed=seed)["split"]) for seed in range(10)}) == 10


@pytest.mark.parametrize(("count", "words"), [(0, "No patient"), (1, "One patient"), (2, "Two patients")])
def test_fewer_than_three_patients_cannot_be_split(count, words):
    with pytest.raises(InputError, match=rf"{words} cannot be split.*at least 3.*livseg predict"):
        split_patients(patients_of([True] * count))


def test_bad_settings_are_refused():
    patients = patients_of([True] * 5)
    with pytest.raises(InputError, match="sum 1"):
        split_patients(patients, (0.6, 0.2, 0.1))
    with pytest.raises(InputError, match="positive"):
        split_patients(patients, (0.8, 0.0, 0.2))
    with pytest.raises(InputError, match="at least 2"):
        split_patients(patients, folds=1)
    with pytest.raises(InputError, match="list p0 more than once"):
        split_patients(pd.concat([patients, patients[:1]]))


def test_patients_are_listed_from_their_slices():
    slices = pd.DataFrame({"patient": [7, 7, 8, 9], "class": [0, 2, 1, 0]})
    expected = pd.DataFrame({"patient": ["7", "8", "9"], "has_tumor": [True, False, False]})
    for table in (slices, slices.astype({"patient": "string", "class": "Int64"})):
        pd.testing.assert_frame_equal(list_patients(table), expected, check_dtype=False)


# --- the editable file


@pytest.fixture
def patients() -> pd.DataFrame:
    return patients_of([True] * 6 + [False] * 4)


@pytest.fixture
def path(tmp_path, patients):
    load_or_create_splits(tmp_path / "new" / "splits.csv", patients)
    return tmp_path / "new" / "splits.csv"


def edit(path, change) -> None:
    table = pd.read_csv(path, dtype=str)
    change(table).to_csv(path, index=False)


def test_file_is_written_whole_and_read_back_the_same(path, patients):
    assert [file.name for file in path.parent.iterdir()] == ["splits.csv"]
    again = load_or_create_splits(path, patients, (0.2, 0.4, 0.4), folds=2, seed=99)
    pd.testing.assert_frame_equal(again, split_patients(patients), check_dtype=False)


def test_numbers_and_na_as_names_survive(tmp_path):
    patients = pd.DataFrame({"patient": ["007", "NA", "12"], "has_tumor": True})
    first = load_or_create_splits(tmp_path / "splits.csv", patients)
    again = load_or_create_splits(tmp_path / "splits.csv", patients)
    assert list(first["patient"]) == list(again["patient"]) == ["007", "12", "NA"]


def test_an_edited_split_is_respected(path, patients):
    def swap(table):
        names = {"train": "validation", "validation": "train", "test": "test"}
        return table.assign(split=table["split"].map(names))[::-1]

    before = split_patients(patients)
    edit(path, swap)
    after = load_or_create_splits(path, patients)
    assert list(after["patient"]) == list(before["patient"])
    assert (after["split"] != before["split"]).sum() == (before["split"] != "test").sum()


def test_folds_are_dealt_anew_where_their_column_is_deleted(path, patients):
    edit(path, lambda table: table.drop(columns="fold"))
    again = load_or_create_splits(path, patients)
    pd.testing.assert_frame_equal(again, split_patients(patients), check_dtype=False)


def set_cell(column: str, value: str):
    return lambda table: table.assign(**{column: [value, *table[column][1:]]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[1:], r"missing: add a line for p0\."),
        (lambda t: pd.concat([t, t[:1].assign(patient="stranger")]), r"remove the line of stranger"),
        (lambda t: pd.concat([t, t[:1].assign(split="test", fold="-1")]), r"keep one line for p0"),
        (set_cell("split", "training"), r"write train, validation or test in place of training"),
        (set_cell("split", ""), r"in place of \(blank\)"),
        (lambda t: t.assign(split="train", fold="0"), r"give some patients to test, validation"),
        (set_cell("fold", "x"), r"without a fold.*mend p0, or delete"),
        (set_cell("fold", "1.5"), r"mend p0"),
        (set_cell("fold", "9" * 30), r"mend p0"),
        (lambda t: t.assign(copy=t["split"]).rename(columns={"copy": "split"}), r"and none twice"),
        (lambda t: t.assign(fold="0"), r"in test with a fold other than -1"),
        (lambda t: t.rename(columns={"split": "part"}), r"columns patient, has_tumor, part, fold, but"),
    ],
)
def test_a_spoilt_file_is_refused_with_what_to_mend(path, patients, change, message):
    edit(path, change)
    with pytest.raises(InputError, match=message) as caught:
        load_or_create_splits(path, patients)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("content", [b"", b"patient,split\np0", b"patient,split\n\xe4,test"])
def test_a_file_that_is_no_table_is_refused(path, patients, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        load_or_create_splits(path, patients)


# --- leaks


def slices_of(patients: pd.DataFrame) -> pd.DataFrame:
    slices = patients[["patient"]].loc[patients.index.repeat(3)].reset_index(drop=True)
    return slices.assign(case="case-" + slices["patient"], array="array-" + slices["patient"])


def test_attached_splits_are_those_of_the_patients(patients):
    splits = split_patients(patients)
    slices = attach_split(slices_of(patients), splits)
    assert_no_leak(slices, splits)
    told = slices.drop_duplicates("patient").set_index("patient")
    assert (told["split"] == splits.set_index("patient")["split"]).all()
    assert (told["fold"] == splits.set_index("patient")["fold"]).all()
    pd.testing.assert_frame_equal(attach_split(slices, splits), slices)  # attaching twice is once
    nullable = slices_of(patients).astype("string")
    assert attach_split(nullable, splits)["split"].tolist() == slices["split"].tolist()


def test_a_patient_on_two_sides_is_a_leak(patients):
    splits = split_patients(patients)
    train = splits[splits["split"] == "train"][:1]
    twice = pd.concat([splits, train.assign(split="test")])
    for check in (assert_no_leak, attach_split):
        with pytest.raises(InputError, match=f"leak: patient {train['patient'].item()} lies on two sides"):
            check(slices_of(patients), twice)


@pytest.mark.parametrize("column", ["case", "array"])
def test_a_case_of_patients_on_two_sides_is_a_leak(patients, column):
    splits = split_patients(patients)
    sides = dict(zip(splits["split"], splits["patient"], strict=True))
    slices = slices_of(patients)
    slices.loc[slices["patient"].isin([sides["train"], sides["test"]]), column] = "shared"
    with pytest.raises(InputError, match=f"leak: {column} shared lies on two sides"):
        assert_no_leak(slices, splits)


def test_a_joined_table_that_was_tampered_with_is_a_leak(patients):
    splits = split_patients(patients)
    slices = attach_split(slices_of(patients), splits)
    row = slices.index[slices["split"] == "test"][0]
    slices.loc[row, "split"] = "train"
    with pytest.raises(InputError, match="lies on two sides"):
        assert_no_leak(slices, splits)
    whole_patient = slices["patient"] == slices.loc[row, "patient"]
    slices.loc[whole_patient, "split"] = "train"
    with pytest.raises(InputError, match="differ from the split column"):
        assert_no_leak(slices, splits)


def test_slices_of_an_unknown_patient_are_refused(patients):
    with pytest.raises(InputError, match="no split for p9"):
        assert_no_leak(slices_of(patients), split_patients(patients[:9]))


# --- which slices a network learns from

SLICES = pd.DataFrame({"array_index": range(30), "class": ([0] * 3 + [1] * 5 + [2] * 2) * 3})


@pytest.mark.parametrize(("choice", "count"), [("tumor", 6), ("liver", 21), ("all", 30)])
def test_choice_takes_the_class_and_all_above(choice, count):
    for table in (SLICES, SLICES.astype("Int64")):  # as read from slices.csv
        chosen = select_slices(table, choice)
        assert len(chosen) == count
        assert chosen["class"].min() == {"tumor": 2, "liver": 1, "all": 0}[choice]


@pytest.mark.parametrize(("ratio", "negatives"), [(0.5, 3), (0.3, 2), (0.2, 1), (1, 6), (2, 12), (99, 24)])
def test_negatives_are_drawn_without_replacement_as_far_as_there_are_any(ratio, negatives):
    chosen = select_slices(SLICES, "tumor", ratio, seed=1)
    assert (chosen["class"] == 2).sum() == 6
    assert (chosen["class"] < 2).sum() == negatives
    assert chosen["array_index"].is_unique and chosen["array_index"].is_monotonic_increasing
    assert len(select_slices(SLICES, "all", ratio)) == 30
    again, other = (select_slices(SLICES, "tumor", 1, seed)["array_index"] for seed in (1, 2))
    assert again.tolist() == select_slices(SLICES, "tumor", 1, 1)["array_index"].tolist() != other.tolist()


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(InputError, match="Choose one of tumor, liver, all"):
        select_slices(SLICES, "spleen")
    with pytest.raises(InputError, match="0 or more"):
        select_slices(SLICES, "tumor", -1)
    with pytest.raises(InputError, match="none of 8 slices"):
        select_slices(SLICES[:8], "tumor")
    counts = pd.DataFrame({"liver_pixels": [0, 4], "tumor_pixels": [0, 0]})
    require_structures(counts, ("liver",))
    with pytest.raises(InputError, match="none of 2 slices shows any tumor"):
        require_structures(counts, ("liver", "tumor"))


def test_the_automatic_choice_follows_the_target():
    automatic = {target: resolve_choice("auto", target) for target in ("liver", "tumor", "both")}
    assert automatic == {"liver": "liver", "tumor": "tumor", "both": "tumor"}
    assert resolve_choice("all", "liver") == "all"


def test_cases_without_any_annotation_are_listed_with_the_reason():
    cases = ["bare"] * 2 + ["liver"] * 3 + ["tumour"] * 2
    slices = pd.DataFrame({"patient": cases, "case": cases, "class": [0, 0, 0, 1, 0, 2, 0]})
    expected = {"patient": "bare", "case": "bare", "slices": 2, "reason": "no liver or tumour in any slice"}
    assert cases_without_liver(slices).to_dict("records") == [expected]
    assert cases_without_liver(slices[2:]).empty


# --- protocols of published studies


def shown_by(tumor_pixels: list[list[int]]) -> pd.DataFrame:
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
).map(lambda both: shown_by(both[0] + both[1]))


def deal(slices: pd.DataFrame, folds: int, seed: int):
    return deal_protocols(slices, audit_protocols(slices, "tumor"), folds, seed)


@settings(max_examples=30, deadline=None)
@given(cohorts, st.integers(2, 3), st.integers(0, 2**40))
def test_every_slice_is_held_out_once_by_networks_that_learn_from_equally_many_others(slices, folds, seed):
    dealt = deal(slices, folds, seed)
    assert list(dealt) == ["slice, tumour only", "slice", "patient, tumour only", "patient"]
    for name, parts in dealt.items():
        held_out = pd.concat([fold.held_out for fold in parts])
        assert sorted(held_out.index) == sorted(slices.index)
        for fold in parts:
            assert not set(fold.training.index) & set(fold.held_out.index)
            assert not fold.training.index.duplicated().any()
            assert name.startswith("slice") or not set(fold.training.patient) & set(fold.held_out.patient)
    assert len({int(fold.training.is_positive.sum()) for parts in dealt.values() for fold in parts}) == 1
    for choice in (["slice", "patient"], ["slice, tumour only", "patient, tumour only"]):
        assert len({len(fold.training) for name in choice for fold in dealt[name]}) == 1
    for deals in ("slice", "patient"):
        for narrow, wide in zip(dealt[f"{deals}, tumour only"], dealt[deals], strict=True):
            assert narrow.training.index.equals(wide.training.index[wide.training.is_positive])


def test_a_split_by_slice_has_every_patient_on_both_sides():
    slices = shown_by([[3] * 12] * 4)
    (fold, *_) = deal_protocols(slices, audit_protocols(slices, "tumor"), 3, 1)["slice"]
    assert set(fold.training.patient) == set(fold.held_out.patient) == set(slices.patient)


def test_the_seed_alone_decides():
    slices = shown_by([[0, 3, 3, 0, 3]] * 5)
    dealt = [deal_to_folds(slices, "slice", 3, seed).tolist() for seed in (1, 1, 2, 3, 4, 5)]
    assert dealt[0] == dealt[1] and len(set(map(tuple, dealt))) > 2  # two seeds may deal alike


def test_two_protocols_are_left_where_every_slice_shows_the_structure():
    slices = shown_by([[3, 3], [4]])
    assert [protocol.name for protocol in audit_protocols(slices, "tumor")] == ["slice", "patient"]


@pytest.mark.parametrize(("folds", "deals"), [(1, "slice"), (3, "slice"), (3, "patient")])
def test_folds_that_cannot_be_filled_are_refused(folds, deals):
    with pytest.raises(InputError, match="audit folds"):
        deal_to_folds(shown_by([[3, 3, 3], [0, 4, 4], [0, 0, 0]]), deals, folds, 0)


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
