"""Which trained systems the app offers, and in which order."""

from __future__ import annotations

import os

import pandas as pd

from livseg_lib.application.visits import shelved_systems


def make_run(reports, name, age_seconds, rows, trained):
    tables = reports / name / "tables"
    tables.mkdir(parents=True)
    columns = ["system", "target", "split_by", "dice_per_case"]
    pd.DataFrame(rows, columns=columns).to_csv(tables / "systems.csv", index=False)
    os.utime(tables / "systems.csv", (1e9 - age_seconds,) * 2)
    for system in trained:
        (reports / name / "models" / system).mkdir(parents=True)
        (reports / name / "models" / system / "model.json").write_text("{}")


def test_the_newest_run_comes_first_and_in_it_the_best_tumours(tmp_path):
    rows = [
        ("unet", "liver", "patient", 0.95),
        ("unet", "tumor", "patient", 0.4),
        ("manet", "tumor", "patient", 0.6),
        ("slice_sorter", "slices", "patient", None),
        ("untrained", "tumor", "patient", 0.9),
        ("leaking", "tumor", "slice", 0.99),
    ]
    make_run(tmp_path, "old", 1000, [("unet", "liver", "patient", 0.9)], ["unet"])
    make_run(tmp_path, "new", 10, rows, ["unet", "manet", "slice_sorter", "leaking"])
    found = shelved_systems(tmp_path)
    assert [(one.run, one.system) for one in found] == [("new", "manet"), ("new", "unet"), ("old", "unet")]
    assert found[1].dice == {"liver": 0.95, "tumor": 0.4}
    assert found[1].title == "unet: liver 0.95, tumour 0.40 (new)"


def test_a_run_that_cannot_be_read_is_named_and_hides_no_other(tmp_path, capsys):
    assert shelved_systems(tmp_path) == []
    for name, age in (("whole", 10), ("broken", 5)):
        make_run(tmp_path, name, age, [("unet", "liver", "patient", 0.9)], ["unet"])
    (tmp_path / "broken" / "tables" / "systems.csv").write_bytes(b"\xff\xfe\x00")
    assert [one.run for one in shelved_systems(tmp_path)] == ["whole"]
    assert "left out: broken" in capsys.readouterr().err
