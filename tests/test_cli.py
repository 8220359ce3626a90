"""The command line, called as a user calls it."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pandas as pd
import pytest

from livseg_lib.cli import _parser, main
from livseg_lib.evaluation.masks import SURFACE_TOLERANCE_MM
from livseg_lib.models import build_model
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.sampling.batches import REGIONS
from livseg_lib.training.model_folder import TrainedModel, TrainedSorter, save_model


@pytest.fixture
def lits(tmp_path):
    """Two patients in LiTS layout: an abdomen of air and tissue with a block of liver and a tumour."""
    folder = tmp_path / "lits"
    folder.mkdir()
    for number in range(2):
        voxels = np.full((64, 64, 8), -1000, np.int16)
        voxels[8:56, 8:56] = 40 + number
        voxels += np.random.default_rng(number).integers(-9, 9, voxels.shape, np.int16)
        labels = np.zeros(voxels.shape, np.uint8)
        labels[16:40, 16:40, 2:6], labels[20:26, 20:26, 3:5] = 1, 2
        affine = np.diag([-0.8, -0.8, 3.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"volume-{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, affine), folder / f"segmentation-{number}.nii.gz")
    return folder


def test_check_lists_the_cases_and_tells_errors_by_its_exit_code(lits, tmp_path, capsys):
    assert main(["check", str(lits), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert (tmp_path / "out" / "contact_sheet.png").exists()
    content = (lits / "volume-1.nii.gz").read_bytes()
    (lits / "volume-1.nii.gz").write_bytes(content[: len(content) // 2])
    assert main(["check", str(lits), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    findings = pd.read_csv(tmp_path / "out" / "findings.csv")
    assert findings.set_index("case").severity.to_dict() == {"volume-0": "ok", "volume-1": "error"}
    assert "volume-1" in capsys.readouterr().out


def test_extract_leaves_out_and_names_a_broken_case(lits, tmp_path, capsys):
    (lits / "volume-0.nii.gz").write_bytes(b"not a scan")
    arguments = ["extract", str(lits), "--out", str(tmp_path / "s"), "--size", "128", "--workers", "1"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "volume-0" in printed.err and "1 cases, 8 slices" in printed.out
    assert np.load(tmp_path / "s" / "volume-1" / "images.npy").shape == (8, 128, 128, 3)


def test_predict_writes_masks_on_the_scans_grid_and_evaluate_scores_them(lits, tmp_path, capsys):
    options = {"filters": 4, "levels": 3}
    network = build_model("unet", (128, 128, 3), 2, **options)
    thresholds = {"liver": 0.5, "tumor": 0.5}
    save_model(
        TrainedModel("unet", "unet", options, network, Recipe(), "both", thresholds), tmp_path / "model"
    )
    out = tmp_path / "masks"
    assert main(["predict", str(lits), "--model", str(tmp_path / "model"), "--out", str(out)]) == 0
    assert "Not for clinical use" in capsys.readouterr().out
    scan, mask = nibabel.load(lits / "volume-0.nii.gz"), nibabel.load(out / "volume-0" / "mask.nii.gz")
    assert mask.shape == scan.shape
    np.testing.assert_array_equal(mask.affine, scan.affine)

    reference = str(lits / "segmentation-0.nii.gz")
    scores = tmp_path / "scores.json"
    assert main(["evaluate", "--reference", reference, "--prediction", reference, "--out", str(scores)]) == 0
    assert json.loads(scores.read_text())["summary"]["tumor"]["dice_per_case"] == 1.0


@pytest.mark.parametrize("mode", ["intended", "lits_asis"])
def test_evaluate_says_the_scores_and_writes_tables_beside_them(lits, tmp_path, capsys, mode):
    given = ["--reference", str(lits), "--prediction", str(lits), "--mode", mode, "--tolerance-mm", "2"]
    assert main(["evaluate", *given, "--out", str(tmp_path / "out" / "scores.json")]) == 0
    said = capsys.readouterr().out
    assert f"mode {mode}, surface Dice at 2 mm" in said and "HD95" in said and "20 to 50 mm" in said
    tables = {
        name: pd.read_csv(tmp_path / "out" / f"scores_{name}.csv")
        for name in ("cases", "lesions", "lesions_by_size")
    }
    assert tables["cases"].liver_surface_dice.eq(1).all() and tables["lesions"].detected.all()
    assert tables["lesions_by_size"].n_reference.sum() == tables["cases"].n_tumors_reference.sum() > 0
    assert _parser().parse_args(["evaluate", *given[:4]]).tolerance_mm == SURFACE_TOLERANCE_MM
    assert main(["evaluate", *given[:-1], "-1", "--out", str(tmp_path / "s.json")]) == 2
    assert "tolerance_mm" in capsys.readouterr().err


@pytest.fixture
def sorter(tmp_path):
    """An untrained slice sorter whose gate lets nothing through."""
    options = {"filters": 4, "levels": 2, "pixels": 32}
    network = build_classifier("slice_sorter", (128, 128, 3), len(REGIONS), **options)
    trained = TrainedSorter("slice_sorter", "slice_sorter", options, network, Recipe(), REGIONS, gate=1.0)
    return save_model(trained, tmp_path / "sorter")


def test_sort_lists_each_slice_once_and_draws_those_to_read_first(lits, sorter, tmp_path, capsys):
    out = tmp_path / "sorted"
    assert main(["sort", str(lits), "--model", str(sorter), "--out", str(out)]) == 0
    order = pd.read_csv(out / "volume-0.csv")
    assert sorted(order.slice) == list(range(8)) and list(order.place) == list(range(1, 9))
    assert (out / "volume-0.png").exists() and "Not for clinical use" in capsys.readouterr().out
    (lits / "volume-1.nii.gz").write_bytes(b"not a scan")
    assert main(["sort", str(lits), "--model", str(sorter), "--out", str(out)]) == 1


def test_predict_spares_the_slices_that_a_sorter_holds_back(lits, sorter, tmp_path, capsys):
    network = build_model("unet", (128, 128, 3), 1, filters=4, levels=3)
    trained = TrainedModel(
        "unet", "unet", {"filters": 4, "levels": 3}, network, Recipe(), "liver", {"liver": 0.01}
    )
    model = save_model(trained, tmp_path / "model")  # untrained maps lie near 0.05: all that it sees is liver
    arguments = ["predict", str(lits), "--model", str(model), "--out", str(tmp_path / "masks")]
    assert main(arguments) == 0
    assert np.asarray(nibabel.load(tmp_path / "masks" / "volume-0" / "mask.nii.gz").dataobj).any()
    assert main([*arguments, "--sorter", str(sorter)]) == 0
    assert "liver 0.0 ml" in capsys.readouterr().out


def test_predict_lists_what_failed_names_its_expectation_and_goes_on_where_it_stopped(lits, tmp_path, capsys):
    options = {"filters": 4, "levels": 2}
    network = build_model("unet", (32, 32, 1), 1, **options)
    recipe = Recipe(("stored",), size=32)
    trained = TrainedModel("unet", "unet", options, network, recipe, "liver", {"liver": 0.5})
    model = save_model(trained, tmp_path / "model")
    (lits / "volume-1.nii.gz").write_bytes(b"not a scan")
    arguments = ["predict", str(lits), "--model", str(model), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "Expected by unet: HU cut to 0 to 255" in printed.out and "volume-0: liver" in printed.out
    assert "volume-1: failed" in printed.err and "1 of 2 cases done" in printed.out
    assert main(arguments) == 1
    assert "volume-0: done before" in capsys.readouterr().out
    assert main([*arguments, "--augment", "shift", "--case-names", "numbered"]) == 1
    assert "case-001: liver" in capsys.readouterr().out
    cases = pd.read_csv(tmp_path / "out" / "cases.csv").set_index("case")
    assert cases.state.to_dict() == {"case-001": "done", "case-002": "failed"}


def test_input_that_cannot_be_used_is_one_clear_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "scan.nii.gz").write_bytes(b"never read")
    assert main(["predict", str(tmp_path), "--model", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and all(line.startswith("livseg: ") for line in lines)
    assert "nowhere" in lines[0] and "model" in lines[1]
