"""Which trained models there are, in which order, and that the one on board can be used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from livseg_lib import shelf
from livseg_lib.application.predictor import load_predictor
from livseg_lib.cli import main
from livseg_lib.datasets.phantom.patient import make_phantom_patient
from livseg_lib.errors import InputError
from livseg_lib.inference.cascade import outline
from livseg_lib.inference.predict import predict_volume
from livseg_lib.postprocessing.components import label_components, largest_component
from livseg_lib.shelf import find_model, find_shelved, models_table, shelved_systems
from livseg_lib.systems import DEFAULT_MODEL
from livseg_lib.training.model_folder import load_model
from livseg_lib.volumes import Volume


def make_run(reports, name, age_seconds, rows, trained):
    tables = reports / name / "tables"
    tables.mkdir(parents=True)
    columns = ["system", "target", "split_by", "dice_per_case"]
    pd.DataFrame(rows, columns=columns).to_csv(tables / "systems.csv", index=False)
    os.utime(tables / "systems.csv", (1e9 - age_seconds,) * 2)
    (reports / name / "manifest.json").write_text(json.dumps({"dataset": "phantom"}))
    for system in trained:
        (reports / name / "models" / system).mkdir(parents=True)
        (reports / name / "models" / system / "model.json").write_text("{}")


@pytest.fixture
def nothing_on_board(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "ON_BOARD", tmp_path / "nothing")


def test_the_newest_run_comes_first_and_in_it_the_best_tumours(tmp_path, nothing_on_board):
    rows = [
        ("unet", "liver", "patient", 0.95),
        ("unet", "tumor", "patient", 0.4),
        ("manet", "tumor", "patient", 0.6),
        ("slice_sorter", "slices", "patient", None),
        ("untrained", "tumor", "patient", 0.9),
        ("leaking", "tumor", "slice", 0.99),
    ]
    make_run(tmp_path, "old", 1000, [("unet", "liver", "patient", 0.9)], ["unet"])
    make_run(tmp_path, "new", 10, rows, ["unet", "manet", "slice_sorter", "leaking"])
    found = shelved_systems(tmp_path)
    assert [(one.run, one.system) for one in found] == [("new", "manet"), ("new", "unet"), ("old", "unet")]
    assert found[1].dice == {"liver": 0.95, "tumor": 0.4}
    assert shelved_systems(tmp_path / "new") == found[:2]
    assert found[1].title == "unet: liver 0.95, tumour 0.40 (new)"
    table = models_table(tmp_path)
    assert table.model.tolist()[0] == str(tmp_path / "new" / "models" / "manet")
    assert set(table.data) == {"phantom"} and table.tumor_dice.tolist()[:2] == [0.6, 0.4]


def test_a_run_that_cannot_be_read_is_named_and_hides_no_other(tmp_path, capsys, nothing_on_board):
    make_run(tmp_path, "whole", 10, [("unet", "liver", "patient", 0.9)], ["unet"])
    make_run(tmp_path, "broken", 5, [("unet", "liver", "patient", 0.9)], ["unet"])
    (tmp_path / "broken" / "tables" / "systems.csv").write_bytes(b"\xff\xfe\x00")
    assert [one.run for one in shelved_systems(tmp_path)] == ["whole"]
    assert "left out: broken" in capsys.readouterr().err


def test_there_may_be_none(tmp_path, nothing_on_board):
    assert shelved_systems(tmp_path) == []
    with pytest.raises(InputError, match="none yet"):
        find_shelved(tmp_path, None)


def test_the_model_on_board_comes_first_and_says_what_it_is(tmp_path, capsys):
    make_run(tmp_path, "new", 10, [("unet", "tumor", "patient", 0.9)], ["unet"])
    first = shelved_systems(tmp_path)[0]
    assert first == find_shelved(tmp_path, None) == find_shelved(tmp_path, DEFAULT_MODEL)
    assert find_model(DEFAULT_MODEL) == first.folder and find_model("reports/x") == Path("reports/x")
    assert first.licence == "CC BY-SA 4.0" and "3D-IRCADb" in first.data and first.dice["liver"] > 0.85
    card = (first.folder / "card.md").read_text()
    assert "Not for clinical use" in card and "https://creativecommons.org/licenses/by-sa/4.0/" in card
    assert main(["models", "--reports", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in listed] == [DEFAULT_MODEL, str(tmp_path / "new" / "models" / "unet")]
    assert main(["models", "--reports", str(tmp_path / "nowhere")]) == 2
    assert listed[0]["megabytes"] < 6.1


def test_the_model_on_board_finds_the_liver_of_a_phantom_alone():
    patient = make_phantom_patient(2026, 0, site="tiny")
    predictor = load_predictor(DEFAULT_MODEL, liver=DEFAULT_MODEL)
    assert predictor.structures == ("liver",)
    labels = outline(predictor.system, Volume(patient.voxels, patient.spacing_mm))
    assert set(np.unique(labels)) <= {0, 1}
    assert label_components(labels > 0)[1] <= 1


def test_the_model_on_board_answers_without_keras_as_keras_does(tmp_path):
    picture, out = tmp_path / "slice.png", tmp_path / "out"
    greys = np.clip(make_phantom_patient(2026, 0, site="tiny").voxels[8], 0, 255).astype(np.uint8)
    Image.fromarray(greys).save(picture)
    program = "import sys\nfrom livseg_lib.cli import main\nassert main(sys.argv[1:]) == 0\n"
    program += "assert not {'tensorflow', 'keras', 'nbconvert', 'scipy.stats', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program, "predict", picture, "--out", out], check=True)
    found = np.asarray(Image.open(out / "slice" / "mask.png")) > 0
    cautions = json.loads((out / "slice" / "record.json").read_text())["cautions"]
    assert not [each for each in cautions if "was trained with" in each]  # the code of its pictures still is
    in_keras = load_model(find_model(DEFAULT_MODEL) / "liver", with_keras=True)
    volume = Volume(greys[np.newaxis].astype(np.int16), (np.nan, np.nan, np.nan))
    expected = largest_component(predict_volume(in_keras, volume) > 0)[0]
    assert expected.any() and np.count_nonzero(found != expected) <= 3
