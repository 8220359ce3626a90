"""Finishes behind a cascade's own steps: put there, replaced, taken back; never half-written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.inference import cascade as cascade_finishes
from livseg_lib.inference.cascade import (
    chosen_finishes,
    load_cascade,
    load_unfinished,
    save_cascade,
    set_finishes,
)
from livseg_lib.systems import StepPlan

OWN = (StepPlan("largest piece", "finish", "keep_largest_liver"), StepPlan("contour", "contour", "3"))


@pytest.fixture
def folder(tmp_path):
    return save_cascade(tmp_path / "cascade", "two", OWN, {}, {"n_train_patients": 3, "seconds": 1.0})


def steps(cascade) -> list[str]:
    return [step.name for step in cascade.steps]


def test_finishes_come_last_in_their_order_and_the_rest_stays(folder):
    before = json.loads((folder / "model.json").read_text())
    set_finishes(folder, ["fill_liver", "drop_small_tumors"])
    finished = load_cascade(folder)
    assert steps(finished) == ["largest piece", "contour", "fill liver", "drop small tumours"]
    assert [step.part.name for step in finished.steps[2:]] == ["fill_liver", "drop_small_tumors"]
    assert chosen_finishes(folder) == ("fill_liver", "drop_small_tumors")
    after = json.loads((folder / "model.json").read_text())
    assert {name: after[name] for name in before if name != "steps"} == {
        name: before[name] for name in before if name != "steps"
    }


def test_others_replace_them_and_own_finishes_are_no_chosen_ones(folder):
    assert chosen_finishes(folder) == ()
    set_finishes(folder, ["fill_liver", "fill_tumors"])
    assert steps(load_unfinished(folder)) == ["largest piece", "contour"]
    set_finishes(folder, ["drop_small_tumors"])
    assert steps(load_cascade(folder)) == ["largest piece", "contour", "drop small tumours"]
    set_finishes(folder, [])
    assert steps(load_cascade(folder)) == steps(load_unfinished(folder)) == ["largest piece", "contour"]


def test_a_write_that_fails_leaves_the_old_cascade(folder, monkeypatch):
    before = (folder / "model.json").read_bytes()
    monkeypatch.setattr(cascade_finishes.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        set_finishes(folder, ["fill_liver"])
    assert (folder / "model.json").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["model.json"]


def test_what_is_no_finish_or_no_cascade_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="polish"):
        set_finishes(folder, ["polish"])
    (tmp_path / "model.json").write_text(json.dumps({"system": "unet"}))
    with pytest.raises(InputError, match="not a cascade"):
        set_finishes(tmp_path, [])
    with pytest.raises(InputError, match=r"no model\.json"):
        chosen_finishes(tmp_path / "nowhere")


def test_a_finished_cascade_finishes(folder):
    set_finishes(folder, ["fill_liver"])
    labels = np.ones((3, 5, 5), np.uint8)
    labels[1, 2, 2] = 0
    part = load_cascade(folder).steps[-1].part
    volume = type("Volume", (), {"spacing_mm": (1.0, 1.0, 1.0)})()
    assert (part(volume, labels) == 1).all()
