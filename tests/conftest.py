"""What the tests of several rooms share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
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


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SOFTWARE_3D = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""WebGL without a graphics card."""


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A headless Chromium, driven by playwright; skips where either is missing (apt install chromium)."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    as_root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=[*SOFTWARE_3D, *as_root])
        yield opened
        opened.close()
