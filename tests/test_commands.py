"""Commands of their own: two files of scores compared, networks exported."""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import pytest

from livseg_lib.commands import compare_files, export
from livseg_lib.errors import InputError
from livseg_lib.inference import export as exporting
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.training.model_folder import TrainedModel, save_model


def write(path, **dice):
    cases = [{"case": name, "liver_dice": value, "tumor_dice": None} for name, value in dice.items()]
    path.write_text(json.dumps({"cases": cases}))
    return path


def test_the_mean_difference_of_shared_cases_is_told(tmp_path, capsys):
    first = write(tmp_path / "new.json", a=0.9, b=0.8, c=0.7, extra=0.1)
    second = write(tmp_path / "old.json", a=0.8, b=0.8, c=0.4)
    assert compare_files(Namespace(first=first, second=second, score="dice")) == 0
    printed = capsys.readouterr().out
    assert "new minus old +0.1333" in printed and "3 cases, 0 undefined" in printed
    assert "tumor  dice: new minus old +nan" in printed and "3 undefined" in printed
    assert "left out: extra" in printed


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"cases": [{"liver_dice": 1}]}'])
def test_a_file_without_scores_is_named(tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=r"bad\.json"):
        compare_files(Namespace(first=tmp_path / "bad.json", second=tmp_path / "bad.json", score="dice"))


def test_other_cases_cannot_be_compared(tmp_path):
    with pytest.raises(InputError, match="no case in common"):
        compare_files(
            Namespace(
                first=write(tmp_path / "a.json", a=1), second=write(tmp_path / "b.json", b=1), score="dice"
            )
        )


OPTIONS = {"filters": 2, "levels": 2}


@pytest.fixture
def arguments(tmp_path) -> Namespace:
    network = build_model("unet", (32, 32, 1), 1, **OPTIONS)
    recipe = Recipe(windows=("liver",), size=32)
    trained = TrainedModel("unet", "unet", OPTIONS, network, recipe, "liver", {"liver": 0.5})
    model = save_model(trained, tmp_path / "model")
    return Namespace(model=model, out=tmp_path / "out", format="onnx", scan=None, dataset="auto")


def test_the_difference_is_printed_and_the_exit_code_is_0(arguments, capsys):
    assert export(arguments) == 0
    said = capsys.readouterr().out
    assert "coarse phantom" in said and "network.onnx" in said and "Research only" in said
    assert not (arguments.out / "savedmodel").exists()


def test_a_difference_ends_with_exit_code_1(arguments, capsys, monkeypatch):
    write, _ = exporting.WRITERS["onnx"]
    monkeypatch.setitem(exporting.WRITERS, "onnx", (write, lambda path: lambda x: np.ones((*x.shape[:3], 1))))
    assert export(arguments) == 1
    assert "do not use it" in capsys.readouterr().out
