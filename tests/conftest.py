"""What the tests of several rooms share."""

import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from livseg_lib.provenance import import_jsonschema
from livseg_lib.runs import seed_everything

import_jsonschema()  # before gradio and others, in every worker
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

ON_ANY_MACHINE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("fixed", derandomize=True, database=None, **ON_ANY_MACHINE)
settings.register_profile("explore", **ON_ANY_MACHINE)
settings.load_profile("fixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--order 1` shuffles the files and the tests within each by that seed: no test may hang on another."""
    parser.addoption("--order", type=int, help="seed by which the tests are shuffled")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files stay together: tests of one share what is costly."""
    if (seed := config.getoption("--order")) is not None:
        draw = random.Random(seed)
        place = {path: draw.random() for path in sorted({item.path for item in items})}
        items.sort(key=lambda item: (place[item.path], draw.random()))


def pytest_configure(config: pytest.Config) -> None:
    """Properties draw the same everywhere, unless asked to explore (`make test-explore`); nothing is left in
    the temporary folder but pytest's own.

    hypothesis also draws constants that stand in the modules imported so far, and so would draw others in
    another order of the tests, or on another number of workers.
    """
    if not hasattr(config, "workerinput"):  # workers inherit it, as does what tests start and kill
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="livseg-tests-")
        config.add_cleanup(lambda: shutil.rmtree(tempfile.tempdir, ignore_errors=True))
    if config.getoption("--hypothesis-profile", None) != "explore":
        nothing = providers.Constants()
        providers._get_local_constants = lambda: nothing


NEEDS = {"win32": "SIGKILL|SIGHUP|symlink_to|os.fork|mkfifo|/dev/|/proc/", "darwin": "/proc/"}
"""What tests use that a system lacks: there their files, and what these import, are left out."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Files of tests that need what this system lacks; on Linux none."""
    if sys.platform not in NEEDS or collection_path.suffix != ".py":
        return None
    return bool(re.search(NEEDS[sys.platform], collection_path.read_text(encoding="utf-8"))) or None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The same random numbers for each test and its fixtures, whatever ran before."""
    seed_everything(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Also where a fixture that several tests share has drawn some, or has just imported Keras."""
    seed_everything(0)


REAL_CT = Path(os.environ.get("LIVSEG_REAL_CT", Path(__file__).parents[2] / "shared" / "real_ct"))


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """Folder of real CT (not part of this repository); set LIVSEG_REAL_CT to where yours lies."""
    if not REAL_CT.is_dir():
        pytest.skip(f"no real CT at {REAL_CT}: set LIVSEG_REAL_CT")
    return REAL_CT


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SOFTWARE_3D = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # WebGL without a graphics card


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A headless Chromium, driven by playwright; skips where either is missing (apt install chromium)."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    as_root = ("--no-sandbox",) if getattr(os, "geteuid", int)() == 0 else ()
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=[*SOFTWARE_3D, *as_root])
        yield opened
        opened.close()
