"""The examples of docs/ do what the pages say, and every link of a page leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import nibabel
import numpy as np
import pytest

from livseg_lib.cli import main
from livseg_lib.systems import SYSTEMS, training_notebooks

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])


def example(page: str) -> dict:
    """What the Python of a page defines, its blocks run one after the other."""
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.fixture
def planned(monkeypatch):
    """What `run_notebooks` is called with; it runs none."""
    run = Mock(return_value=Path("report"))
    monkeypatch.setattr("livseg_lib.runner.run_notebooks", run)
    return run


def test_the_example_network_joins_the_catalogue(monkeypatch, planned):
    from livseg_lib import models

    names = example("add_a_network.md")
    monkeypatch.setitem(sys.modules, "livseg_lib.models.linknet", SimpleNamespace(**names))
    monkeypatch.setitem(SYSTEMS, "linknet", names["LINKNET"])
    network = models.build_model("linknet", (32, 32, 3), 2, **SYSTEMS["linknet"].small)
    assert names["__doc__"] and 0.4e6 < network.count_params() < 3e6  # as of every network and module
    maps = np.asarray(network(np.random.default_rng(0).random((2, 32, 32, 3), np.float32)))
    assert maps.shape == (2, 32, 32, 2)
    assert maps.min() >= 0 and maps.max() <= 1

    for system in ("linknet", "unet"):
        assert main(["train", "--system", system]) == main(["reproduce", "--only", system]) == 0
    calls = [call.args for call in planned.call_args_list]
    for stems, _, _, given, *_ in calls:
        assert stems[:3] == ["00_prepare_data", "01_extract_slices", "02_classify_masks"]
        of_unet = stems[3:] == ["03_train_unet", "05_evaluate"] and given == {}
        assert of_unet or (stems[3:] == ["10_train_networks"] and given == {"systems": ["linknet"]})
    assert [again for *_, again in calls] == [True, False, True, False]
    assert [stems[3] for stems, *_ in calls] == ["10_train_networks"] * 2 + ["03_train_unet"] * 2


def test_every_system_that_is_trained_has_its_notebooks(capsys):
    stems = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    for name, system in SYSTEMS.items():
        assert stems.issuperset(system.notebooks)
        assert not system.network or system.notebooks == tuple(training_notebooks(name))
    assert main(["train", "--system", "u-net"]) == 2
    assert "Choose from attention_unet" in capsys.readouterr().err


def test_a_notebook_runs_by_its_own_name(planned):
    assert main(["reproduce", "--only", "26_test_every_patient"]) == 0
    assert main(["train", "--system", "41_tumors_in_given_livers"]) == 0
    stems = [call.args[0][3:] for call in planned.call_args_list]
    assert stems == [["26_test_every_patient"], ["41_tumors_in_given_livers"]]


REFUSED = "--minutes=ten --minutes=-5 --minutes=0 --minutes=nan --data=nowhere --data=. --scan=no --liver=no"
REFUSED += " --dataset=litts --dataset=lits"


@pytest.mark.parametrize("option", REFUSED.split())
def test_what_cannot_be_used_is_refused_before_any_notebook_runs(monkeypatch, capsys, option):
    monkeypatch.setattr("livseg_lib.runner.run_notebooks", None)
    assert main(["reproduce", "--only", "unet", option]) == 2  # the phantom has no use for --data
    assert option.partition("=")[0] in capsys.readouterr().err


def test_the_example_data_set_is_found_and_read(tmp_path, monkeypatch):
    from livseg_lib.datasets import catalogue
    from livseg_lib.datasets.catalogue import find_cases

    monkeypatch.setattr(catalogue, "ADAPTERS", dict(catalogue.ADAPTERS))
    text = (ROOT / "docs" / "add_a_dataset.md").read_text()
    adapter, naming = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(adapter, names)
    assert names["__doc__"]  # docs/architecture.md holds the first line of every module
    exec(naming, {"patient_folders": SimpleNamespace(**names)})
    for patient in ("anna", "bela"):
        (tmp_path / patient).mkdir()
        for file, value in (("ct", 60), ("liver", 1)):
            image = nibabel.Nifti1Image(np.full((4, 5, 6), value, np.int16), np.diag([-1.0, -1.0, 2.0, 1.0]))
            nibabel.save(image, tmp_path / patient / f"{file}.nii.gz")
    (tmp_path / "bela" / "liver.nii.gz").unlink()
    anna, bela = find_cases(tmp_path, "patient_folders").cases
    volume = anna.read_volume()
    assert volume.voxels.shape == (6, 5, 4)
    assert (anna.read_labels(volume) == 1).all()
    assert bela.read_labels is None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.slow
def test_the_documentation_is_built_without_a_warning(tmp_path):
    for module in ("sphinx", "myst_parser", "furo", "sphinxcontrib.mermaid"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", ROOT / "docs", ROOT, tmp_path]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
