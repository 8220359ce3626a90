"""What the tests of several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

REAL_CT = Path(os.environ.get("LIVSEG_REAL_CT", Path(__file__).parents[2] / "shared" / "real_ct"))


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """Folder of real CT (not part of this repository); set LIVSEG_REAL_CT to where yours lies."""
    if not REAL_CT.is_dir():
        pytest.skip(f"no real CT at {REAL_CT}: set LIVSEG_REAL_CT")
    return REAL_CT
