"""Damaged inputs at every door: refused with help, or read as an oracle reads them. Nothing else happens.

`LIVSEG_FAULTS=20000 pytest -m slow tests/faults` draws that many; `LIVSEG_FAULT=nifti:61` repeats one.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from faulty_inputs import attempt
from scan_doors import DOORS

SHARES = {"nifti": 0.6, "dicom": 0.12, "zip": 0.05, "pictures": 0.23}
"""Of all inputs."""
FEW, MANY = 130, int(os.environ.get("LIVSEG_FAULTS", "2000"))
AGAIN, _, SEED = os.environ.get("LIVSEG_FAULT", "").partition(":")


@pytest.mark.parametrize("name", DOORS)
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
