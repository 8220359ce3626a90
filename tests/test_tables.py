"""systems.csv: rows replace their like and leave all others to the letter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.outputs import (
    SYSTEMS_COLUMNS,
    read_table,
    replace_systems,
    update_systems_table,
    write_table,
)


def row(system="unet", target="liver", split_by="patient", **values) -> dict:
    return {"system": system, "target": target, "split_by": split_by, **values}


def test_a_row_replaces_its_like_in_place_and_keeps_the_rest_to_the_letter(tmp_path):
    path = tmp_path / "tables" / "systems.csv"
    first = [row(dice_per_case=0.1, parameters=1941105), row("resnet50_unet", dice_per_case=1 / 3)]
    table = update_systems_table(path, first)
    assert tuple(table) == SYSTEMS_COLUMNS and table["iou"].isna().all()
    head, own, other = path.read_text().splitlines()
    assert head == ",".join(SYSTEMS_COLUMNS) and own.endswith(",1941105")  # stays a whole number
    later = [
        row(dice_per_case=np.float32("nan"), n_test_patients=np.int64(3)),
        row(split_by="slice", dice_per_case=0.95),
    ]
    table = update_systems_table(path, later)
    assert list(table["dice_per_case"]) == pytest.approx([np.nan, 0.95, 1 / 3], nan_ok=True)
    assert list(table["split_by"]) == ["patient", "slice", "patient"] and table["n_test_patients"][0] == 3
    assert path.read_text().splitlines()[3] == other


@pytest.mark.parametrize("first", [0, 2])
def test_systems_stand_in_the_order_of_their_records_whoever_is_first(tmp_path, first):
    names = ["unet", "manet", "majority_vote", "a_net_of_mine", "my_net"]
    for name in ["my_net", *names[first::-1], *names[first + 1 :]]:
        systems = update_systems_table(tmp_path / "systems.csv", [row(name, "tumor"), row(name, "liver")])
        scores = replace_systems(tmp_path / "patients.csv", pd.DataFrame({"system": [name], "dice": [0.5]}))
    assert list(systems.system) == [name for name in names for _ in range(2)]
    assert list(systems.target) == ["tumor", "liver"] * 5 and list(scores.system) == names


@pytest.mark.parametrize("bad", [row(dise=1), {"system": "unet", "target": "liver"}, row(system="")])
def test_a_bad_row_is_refused_and_the_file_untouched(tmp_path, bad):
    path = tmp_path / "systems.csv"
    update_systems_table(path, [row(dice_per_case=0.5)])
    before = path.read_text()
    with pytest.raises(InputError):
        update_systems_table(path, [row(dice_per_case=0.7), bad])
    assert path.read_text() == before


def test_a_file_with_other_columns_is_refused(tmp_path):
    write_table(pd.DataFrame({"system": ["unet"]}), tmp_path / "systems.csv")
    with pytest.raises(InputError, match="columns"):
        update_systems_table(tmp_path / "systems.csv", [row()])


def test_write_table_round_trip_and_empty_file(tmp_path):
    table = pd.DataFrame({"case": ["a,b", "ü"], "dice": [0.1234567890123, np.nan]})
    pd.testing.assert_frame_equal(read_table(write_table(table, tmp_path / "t.csv")), table)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError):
        read_table(tmp_path / "empty.csv")
