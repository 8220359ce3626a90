"""`livseg export` from the command line's point of view: what it prints and its exit code."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest

from livseg_lib.application.export_command import export
from livseg_lib.inference import export as exporting
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.training.model_folder import TrainedModel, save_model

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
