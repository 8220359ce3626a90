"""Where things lie, and the record of what was run."""

import json
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from livseg_lib import runs
from livseg_lib.errors import InputError
from livseg_lib.outputs import read_caption, read_table, write_table
from livseg_lib.reporting.style import new_figure
from livseg_lib.runs import RunFolders, project_root


def test_the_root_is_found_from_inside_notebooks(tmp_path, monkeypatch):
    monkeypatch.delenv("LIVSEG_ROOT", raising=False)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert project_root() == tmp_path
    monkeypatch.setenv("LIVSEG_ROOT", str(tmp_path / "elsewhere"))
    assert project_root() == tmp_path / "elsewhere"


def test_the_phantom_has_its_own_folder_and_other_data_stays_where_it_is(tmp_path):
    folders = RunFolders(tmp_path, "phantom-quick")
    assert folders.source("phantom", "") == tmp_path / "data" / "raw" / "phantom-quick"
    assert folders.source("lits", "my/scans") == tmp_path / "my" / "scans"
    assert folders.source("lits", "/scans").as_posix() == "/scans"
    with pytest.raises(InputError, match="--data"):  # all of the repository would be looked through
        folders.source("lits", "")


def test_a_run_records_parameters_time_memory_and_notes(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVSEG_ROOT", str(tmp_path))
    namespace = {"run_name": "r", "dataset": "phantom", "seed": 3, "np": np, "_hidden": 1}
    namespace |= {"In": ["x"], "GREY": "#808080"}  # by IPython; imported
    run = runs.begin_run("00_prepare_data", namespace)
    first = np.random.random()
    run.note("something to know")
    run.facts["data_checksum"] = "abc"
    run.finish()
    runs.begin_run("01_extract_slices", {"run_name": "r", "seed": 3}).finish()
    assert np.random.default_rng is not None and first == np.random.RandomState(3).random_sample()

    manifest = json.loads((tmp_path / "reports" / "r" / "manifest.json").read_text())
    entry = manifest["notebooks"]["00_prepare_data"]
    assert entry["parameters"] == {"run_name": "r", "dataset": "phantom", "seed": 3}
    assert entry["notes"] == ["something to know"]
    assert entry["seconds"] >= 0 and entry["cpu_seconds"] > 0 and entry["peak_memory_mb"] > 10
    assert list(manifest["notebooks"]) == ["00_prepare_data", "01_extract_slices"]
    assert manifest["data_checksum"] == "abc" and manifest["dataset"] == "phantom"
    assert manifest["packages"]["numpy"] == np.__version__
    assert manifest["device"] and manifest["platform"]
    record = tmp_path / "reports" / "r" / "records" / "00_prepare_data.json"
    assert "livseg_lib/runs.py" in json.loads(record.read_text())["sources"]
    runs.begin_run("00_prepare_data", namespace)
    assert not record.exists()  # by hand: what it made is no longer what the record says


def test_results_are_written_and_named_in_order_and_a_cell_may_run_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVSEG_ROOT", str(tmp_path))
    run = runs.begin_run("05_evaluate", {"run_name": "r"})
    shared = pd.DataFrame({"system": ["unet"], "dice": [0.5]})
    write_table(shared, run.folders.tables / "systems.csv")
    frame = pd.DataFrame({"x": [1.25, np.nan]})
    assert run.table("new", frame.assign(x=0.0), "Old words.") is not frame
    assert run.table("systems", None, "All systems.").equals(shared)
    figure = new_figure(2, 1)
    assert run.figure("roc", figure, "Curves.") is figure
    run.conclude(iter(["It helps."]))
    assert run.table("new", frame, "New words.") is frame
    run.finish()

    assert read_table(run.folders.tables / "new.csv").equals(frame)
    assert read_caption(run.folders.figures / "roc.png") == "Curves."
    manifest = json.loads((run.folders.report / "manifest.json").read_text())
    assert manifest["notebooks"]["05_evaluate"]["results"] == [
        {"table": "systems", "caption": "All systems."},
        {"figure": "roc", "caption": "Curves."},
        {"conclusions": ["It helps."]},
        {"table": "new", "caption": "New words."},
    ]


def test_seeds_for_different_purposes_differ_and_repeat():
    seeds = [runs.derived_seed(2026, purpose) for purpose in ("splits", "unet", "resnet50_unet")]
    assert len(set(seeds)) == 3
    assert seeds[0] == runs.derived_seed(2026, "splits") != runs.derived_seed(2027, "splits")
    assert all(0 <= seed < 2**32 for seed in seeds)


NOTEBOOKS = [json.loads(path.read_text()) for path in Path(__file__).parents[1].glob("notebooks/*.ipynb")]
(PLATFORM,) = {json.dumps(notebook["cells"][2]): notebook["cells"][2] for notebook in NOTEBOOKS}.values()


def test_a_notebook_installs_only_what_is_missing_and_nothing_of_the_platform(monkeypatch):
    pip = Mock(return_value=Mock(returncode=0))
    monkeypatch.setattr(runs.subprocess, "run", pip)
    runs.install_missing_packages()
    monkeypatch.setattr(runs, "find_spec", lambda module: None if module in ("imgaug", "cc3d") else module)
    monkeypatch.setattr(sys, "path", [*sys.path])
    InteractiveShell().run_cell("".join(PLATFORM["source"])).raise_error()
    command = pip.call_args.args[0]  # of the only call: everything is installed where tests run
    assert pip.call_count == 1 and command[-3:] == ["--no-deps", "connected-components-3d", "imgaug==0.4.0"]
    pip.return_value.returncode = 1  # as without internet
    with pytest.raises(InputError, match=r'lacks "connected-components-3d" "imgaug==0\.4\.0", and pip'):
        runs.install_missing_packages()
