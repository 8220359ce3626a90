"""The notebooks: stripped, told as a story, run headlessly, and never half-finished."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from unittest.mock import MagicMock

import nbformat
import pandas as pd
import pytest
import yaml

from livseg_lib import notebooks
from livseg_lib.cli import _parser, main
from livseg_lib.errors import InputError
from livseg_lib.runs import RunFolders

FOLDER = Path(__file__).parents[1] / "notebooks"
ALL = sorted(FOLDER.glob("*.ipynb"))
LONGEST_CELL = 32


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_notebook_is_stripped_and_has_its_cells(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert max(len(cell.source.splitlines()) for cell in notebook.cells) <= LONGEST_CELL
    assert "Not for clinical use" in notebook.cells[1].source
    assert code[-1].source.endswith("run.finish()")
    (parameters,), (_,) = (
        [cell for cell in code if tag in cell.metadata.get("tags", [])] for tag in ("parameters", "platform")
    )
    assert all("  # " in line for line in parameters.source.splitlines())
    declared = notebooks.declared_parameters(path)
    assert "run_name" in declared
    calls = re.findall(r"find_cases\((.*?)\)(?:\\n|\.|\")", path.read_text())  # who reads labels is told
    of_the_data = [call for call in calls if "dataset" in call]  # whether to accept a foreign affine
    assert all(call.endswith(", dataset, accept_affine_mismatch") for call in of_the_data)
    assert bool(of_the_data) == ("accept_affine_mismatch" in declared)


@pytest.mark.parametrize("profile", [path.stem for path in (FOLDER / "params").glob("*.yaml")])
def test_profiles_set_only_what_a_notebook_declares(profile):
    path = FOLDER / "params" / f"{profile}.yaml"
    chosen = notebooks.choose_parameters(ALL, path, {"run_name": "x", "target": "liver"})
    wanted = yaml.safe_load(path.read_text()) or {}
    assert set(wanted) <= {name for values in chosen.values() for name in values}
    assert chosen["03_train_unet"]["target"] == "liver"
    assert "target" not in chosen["00_prepare_data"]


def test_a_profile_may_have_values_for_one_data_set_and_an_empty_value_is_left_out(tmp_path):
    (tmp_path / "p.yaml").write_text("unet_epochs: 3\nsize: 256\n")
    (tmp_path / "p-kaggle.yaml").write_text("unet_epochs: 9\n")
    (tmp_path / "p-kaggle-liver.yaml").write_text("unet_epochs: 7\n")
    given = {"dataset": "kaggle", "target": "liver"}
    for_livers = notebooks.choose_parameters(ALL, tmp_path / "p.yaml", given)
    assert for_livers["03_train_unet"]["unet_epochs"] == 7 and for_livers["01_extract_slices"]["size"] == 256
    for dataset, epochs, typed, accepted in (("lits", 3, "", None), ("kaggle", 9, "true", True)):
        pairs = [f"accept_affine_mismatch={typed}"]
        chosen = notebooks.choose_parameters(ALL, tmp_path / "p.yaml", {"dataset": dataset}, pairs)
        assert chosen["03_train_unet"]["unet_epochs"] == epochs
        assert chosen["01_extract_slices"]["size"] == 256
        assert chosen["01_extract_slices"].get("accept_affine_mismatch") is accepted


OTHER_TYPES = (
    *(f"unet_epochs: {value}" for value in ("x", "[1]", "-1", "yes", "2.5", "{a: 1}")),
    *("unet_learning_rate: .nan", "unet_learning_rate: 1e-3", "write_png: 1", "remark: 5"),
    *("systems: [1]", "systems: unet", "block_patch: [1, x]", "target: null"),
)
NO_PARAMETERS = ("unet_epochs: [", "\tunet_epochs: 3", "- a", "7", "a\0b", b"\xff\xfe", "1: 2", "data: 007")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("unet_epoch: 3", "unet_epoch"),
        *((content, r"p\.yaml") for content in NO_PARAMETERS),
        *((line, rf"p\.yaml: {line.partition(':')[0]} is") for line in OTHER_TYPES),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused_before_anything_runs(tmp_path, content, words):
    (tmp_path / "p.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=words):
        notebooks.choose_parameters(ALL, tmp_path / "p.yaml", {})


TEXTS = [
    *("/scans/LiTS", "/scans/CT #2", "2024-01-05", "2024_01", "007", "1e3", "yes", "null", "~/ct", "a: b"),
    *("[2024] scans", "[a]", "{x}", "'q' \"r\"", "$HOME `id` \\n", "x\ny", "é ✓", " blank ", "- x", "*"),
]


def test_text_is_the_text_given_as_it_was_typed():
    for text in TEXTS:
        chosen = notebooks.choose_parameters(ALL, FOLDER / "params" / "quick.yaml", {}, [f"data={text}"])
        assert chosen["00_prepare_data"]["data"] == text


def test_parameters_are_written_for_papermill_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVSEG_ROOT", str(tmp_path))
    profile = ["--profile", str(FOLDER / "params" / "tour.yaml"), "--set", "data=CT #2"]
    assert notebooks.main(["--run-name", "x", "configure", *profile, str(ALL[0])]) == 0
    written = json.loads((tmp_path / "reports" / "x" / "parameters" / "00_prepare_data.json").read_text())
    assert written["data"] == "CT #2" and written["n_patients"] == 6


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        *(("3", 5, 3), ("1e3", 5, 1000), ("-1", None, -1), ("none", 5, None), ("3", 0.5, 3)),
        *(("1e-3", 0.5, 0.001), ("true", False, True), ("no", True, False), ("0", True, False)),
        *(("None", None, None), ("4", None, 4), ("0.5", None, 0.5), ("unet", None, "unet")),
        *(("[unet, '007']", None, ["unet", 7]), ("[unet, manet]", "all", ["unet", "manet"])),
        *(("[0.6, 1e-1]", [0.5], [0.6, 0.1]), ("[007, yes]", ["word"], ["007", "yes"])),
        *(("[1, 2]", [3], [1, 2]), ("[[1, 2], [3, 4]]", [[0, 0]], [[1, 2], [3, 4]])),
    ],
)
def test_a_value_has_the_type_of_the_default(text, default, value):
    found = notebooks.read_value("x", text, default)
    assert found == value and isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("text", "default"),
    [
        *(("many", 5), ("0.5", 5), ("nan", 5), ("-1", 5), ("[1]", 5)),
        *(("inf", 0.5), ("maybe", True), ("2", True)),
        *(("3", [1]), ("[1", [1]), ("[a]", [1]), ("{a: b}", [1]), ("\udcff", "")),
    ],
)
def test_a_value_of_another_type_is_refused(text, default):
    with pytest.raises(InputError, match=r"^x: is"):
        notebooks.read_value("x", text, default)


@pytest.mark.parametrize("pair", ["foo", "=3", "", "a b=3", "foo=3", "run_name=other"])
def test_what_sets_nothing_is_refused(pair):
    with pytest.raises(InputError, match="--set"):
        notebooks.choose_parameters(ALL, FOLDER / "params" / "quick.yaml", {}, [pair])


def test_outside_the_repository_training_says_where_to_go(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in ("train", "reproduce"):
        assert main([command]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "not the repository of livseg" in line


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", " ", "{x}"])
def test_a_run_name_that_is_no_folder_is_refused(name):
    with pytest.raises(InputError, match="run name"):
        RunFolders(Path(), name)


@pytest.mark.parametrize("given", ["/scans/CT #2", "a$b $(shell echo x) $$", 'it\'s "q" `id` \\n', "é  x"])
def test_make_hands_a_path_on_as_it_was_typed(tmp_path, given):
    """Make itself, with a program in the place of Python that prints what it is given."""
    shutil.copy(FOLDER.parent / "Makefile", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", ".venv/ready"):  # the last is the newest
        (tmp_path / name).touch()
    program = tmp_path / ".venv" / "bin" / "python"
    typed = 'DATA="$GIVEN" SCAN="$GIVEN" LIVER="$GIVEN"'
    terminal = f'test "$2" = jupyter && exec make reproduce {typed}'  # of JupyterLab that make has started
    program.write_text(f"#!/bin/sh\n{terminal}\nprintf '<%s>' \"$@\"\n")
    program.chmod(0o755)
    environment = {**os.environ, "GIVEN": given}
    for command in (f"make reproduce {typed}", "make lab"):
        options = {"shell": True, "cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        said = subprocess.run(command, **options).stdout
        for option in ("data", "scan", "liver"):
            assert f"<--{option}={given}>" in said


def test_make_reference_keeps_what_the_run_holds_and_drops_what_it_no_longer_makes(tmp_path):
    shutil.copy(FOLDER.parent / "Makefile", tmp_path)
    kept, run = (tmp_path / "reports" / each / "tables" for each in ("reference/mine", "mine"))
    for folder, more in ((kept, "old"), (run, "large")):
        folder.mkdir(parents=True)
        for name in (more, "seed_spread", "systems"):
            (folder / f"{name}.csv").write_text(folder.parts[-2])
    (run.parent / "manifest.json").write_text('{"data": "/home/me/scans"}')
    subprocess.run(["make", "reference", "RUN=mine"], cwd=tmp_path, check=True, capture_output=True)
    assert {path.name for path in kept.iterdir()} == {"seed_spread.csv", "systems.csv"}
    assert {path.read_text() for path in kept.iterdir()} == {"mine"}
    assert json.loads((kept.parent / "manifest.json").read_text()) == {"data": "scans"}


def test_20_goes_on_without_d_metrics_where_no_system_sees_the_extracted_pictures():
    cells = nbformat.read(FOLDER / "20_compare_systems.ipynb", as_version=4).cells
    (cell,) = (cell.source for cell in cells if "d_metrics = " in cell.source and cell.cell_type == "code")
    run, chosen = MagicMock(), pd.DataFrame({"case": ["a"]})
    names = {"run": run, "facts": pd.DataFrame({"system": ["unet"]}), "d_slices": 1, "pd": pd}
    exec(cell, names | dict.fromkeys(["Recipe", "folders", "load_model"], MagicMock()) | {"chosen": chosen})
    assert "no table" in run.note.call_args.args[0] and not run.table.called


def made(target: str, *variables: str) -> list[str]:
    """Words of the command that make would run, where no path is typed."""
    command = ["make", "--dry-run", "--assume-old=.venv/ready", target, *variables]
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # none around
    said = subprocess.run(command, cwd=FOLDER.parent, env=own, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return shlex.split(re.sub(r"\$TYPED_\w+", "", said.stdout.replace("\\\n", " ")))[1:]


def test_make_reproduce_is_livseg_reproduce_with_the_values_of_its_variables():
    plain = _parser().parse_args(made("reproduce")[2:])
    default = _parser().parse_args(["reproduce"])
    assert vars(plain) | {"run_name": ""} == vars(default) and plain.run_name == "phantom-quick"
    assert default.target == _parser().parse_args(["train"]).target == ""  # that of the profile
    variables = {"dataset": "lits", "profile": "full", "target": "liver", "modality": "mr", "only": "unet++"}
    variables |= {"jobs": 3, "minutes": "2.5", "accept_affine_mismatch": True}
    full = _parser().parse_args(made("reproduce", *(f"{k.upper()}={v}" for k, v in variables.items()))[2:])
    assert vars(full).items() >= (variables | {"run_name": "lits-mr-full"}).items()
