"""Damaged inputs at every door: refused with help, or read as an oracle reads them. Nothing else happens.

`LIVSEG_FAULTS=20000 pytest -m slow tests/faults` draws that many; `LIVSEG_FAULT=nifti:61` repeats one.
"""

from __future__ import annotations

import os
from collections import Counter

import file_doors
import model_doors
import pytest
import scan_doors
from faulty_inputs import attempt

DOORS = scan_doors.DOORS | file_doors.DOORS | model_doors.DOORS
SHARES = {
    **{"nifti": 0.4, "dicom": 0.08, "zip": 0.03, "pictures": 0.14},
    **{"slices.csv": 0.08, "splits.csv": 0.06, "scores.json": 0.03, "params.yaml": 0.04, "--set": 0.01},
    **{"label names": 0.05, "extracted": 0.02, "predicted": 0.003},
    **{"keras": 0.015, "onnx": 0.02, "predict": 0.002, "forest": 0.02},
}
"""Of all inputs."""
WITH_TENSORFLOW = ("keras", "onnx", "predict")
FEW, MANY = 200, int(os.environ.get("LIVSEG_FAULTS", "2000"))
AGAIN, _, SEED = os.environ.get("LIVSEG_FAULT", "").partition(":")


@pytest.mark.parametrize("name", [name for name in DOORS if name not in WITH_TENSORFLOW])
def test_a_few_damaged_inputs(name, tmp_path):
    draw(name, FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", DOORS)
def test_many_damaged_inputs(name, tmp_path):
    draw(name, MANY, tmp_path)


def draw(name, inputs, folder):
    """This door's share of `inputs`; the first seeds of a longer draw are those of a shorter one."""
    seeds = range(max(3, round(inputs * SHARES[name]))) if not AGAIN else [int(SEED)] if name == AGAIN else []
    outcomes = [attempt(name, DOORS[name], seed, folder / "input") for seed in seeds]
    print(name, len(outcomes), dict(Counter(outcome.kind for outcome in outcomes)))
    faults = [outcome for outcome in outcomes if outcome.is_fault]
    stories = [f"LIVSEG_FAULT={one.door}:{one.seed} {one.kind}: {one.story}" for one in faults[:10]]
    assert not faults, "\n".join([f"{len(faults)} faults of {len(outcomes)}", *stories])


def test_every_door_has_a_share():
    assert set(SHARES) == set(DOORS) and sum(SHARES.values()) == pytest.approx(1)
