"""The notebooks: stripped, told as a story, run headlessly, and never half-finished."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from livseg_lib import notebooks
from livseg_lib.errors import InputError

FOLDER = Path(__file__).parents[1] / "notebooks"
ALL = sorted(FOLDER.glob("*.ipynb"))
LONGEST_CELL = 32


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_notebook_is_stripped_and_tells_what_it_does(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert max(len(cell.source.splitlines()) for cell in notebook.cells) <= LONGEST_CELL
    first = notebook.cells[0].source
    assert first.startswith("# ")
    assert all(f"**{word}" in first for word in ("Purpose", "Reads", "Writes", "Takes"))
    assert "Not for clinical use" in notebook.cells[1].source
    assert any(cell.source.startswith("## Recap") for cell in notebook.cells)
    assert notebook.cells[-1].source.endswith("run.finish()")


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_every_notebook_has_one_commented_parameters_cell_and_a_platform_cell(path):
    cells = nbformat.read(path, as_version=4).cells
    tagged = {
        tag: [c for c in cells if tag in c.metadata.get("tags", [])] for tag in ("parameters", "platform")
    }
    assert [len(found) for found in tagged.values()] == [1, 1]
    assert all("  # " in line for line in tagged["parameters"][0].source.splitlines())
    assert "run_name" in notebooks.declared_parameters(path)


def test_the_makefile_names_only_files_that_are_there():
    planned = subprocess.run(
        ["make", "--dry-run", "reproduce", "RUN=never-made"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
    )
    assert planned.returncode == 0, planned.stderr
    assert all(f" run notebooks/{path.name}" in planned.stdout for path in ALL if "scan" not in path.stem)


@pytest.mark.parametrize("profile", [path.stem for path in (FOLDER / "params").glob("*.yaml")])
def test_profiles_set_only_what_a_notebook_declares(profile):
    path = FOLDER / "params" / f"{profile}.yaml"
    chosen = notebooks.choose_parameters(ALL, path, {"run_name": "x", "target": "liver"})
    wanted = yaml.safe_load(path.read_text()) or {}
    assert set(wanted) <= {name for values in chosen.values() for name in values}
    assert chosen["03_train_unet"]["target"] == "liver"
    assert "target" not in chosen["00_prepare_data"]


def test_a_profile_may_have_values_for_one_data_set(tmp_path):
    (tmp_path / "p.yaml").write_text("unet_epochs: 3\nsize: 256\n")
    (tmp_path / "p-kaggle.yaml").write_text("unet_epochs: 9\n")
    chosen = {
        dataset: notebooks.choose_parameters(ALL, tmp_path / "p.yaml", {"dataset": dataset})
        for dataset in ("lits", "kaggle")
    }
    assert [chosen[name]["03_train_unet"]["unet_epochs"] for name in chosen] == [3, 9]
    assert chosen["kaggle"]["01_extract_slices"]["size"] == 256


def test_a_misspelt_parameter_is_refused(tmp_path):
    profile = tmp_path / "p.yaml"
    profile.write_text("unet_epoch: 3\n")
    with pytest.raises(InputError, match="unet_epoch"):
        notebooks.choose_parameters(ALL, profile, {})
    with pytest.raises(InputError, match="nonsense"):
        notebooks.execute(ALL[0], tmp_path, {"nonsense": 1})


def test_parameter_files_are_touched_only_when_a_value_changes(tmp_path):
    profile = FOLDER / "params" / "quick.yaml"
    notebooks.configure(ALL, profile, {"run_name": "x", "unet_epochs": 3}, tmp_path)
    files = {p.stem: p.stat().st_mtime_ns for p in (tmp_path / "parameters").iterdir()}
    notebooks.configure(ALL, profile, {"run_name": "x", "unet_epochs": 4}, tmp_path)
    changed = [p.stem for p in (tmp_path / "parameters").iterdir() if p.stat().st_mtime_ns != files[p.stem]]
    assert changed == ["03_train_unet"]


def small_notebook(path: Path, body: str) -> Path:
    notebook = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell("value = 1  # a number")
    parameters.metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    notebook.cells = [parameters, nbformat.v4.new_code_cell(body)]
    nbformat.write(notebook, path)
    return path


@pytest.mark.slow
def test_a_notebook_that_fails_never_looks_finished(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVSEG_ROOT", str(tmp_path))
    report = tmp_path / "reports" / "r"
    failing = small_notebook(tmp_path / "10_fails.ipynb", "assert value == 1, 'as planned'")
    with pytest.raises(Exception, match="as planned"):
        notebooks.execute(failing, report, {"value": 2})
    assert [p.name for p in report.iterdir()] == ["10_fails.partial.ipynb"]
    done = notebooks.execute(failing, report, {"value": 1})
    assert done.exists() and done.with_suffix(".html").exists() and (report / "index.html").exists()
    assert json.loads(done.read_text())["metadata"]["papermill"]["parameters"] == {"value": 1}


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_who_reads_labels_can_be_told_to_accept_a_foreign_affine(path):
    calls = re.findall(r"find_cases\((.*?)\)(?:\\n|\.|\")", path.read_text())
    of_the_data = [call for call in calls if "dataset" in call]
    assert all(call.endswith(", dataset, accept_affine_mismatch") for call in of_the_data)
    assert bool(of_the_data) == ("accept_affine_mismatch" in notebooks.declared_parameters(path))
