"""Training: resumed equals unbroken, schedules, refusals."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import resumable_run
from resumable_run import SMALL, run

from livseg_lib.errors import InputError
from livseg_lib.models import build_model
from livseg_lib.training import losses
from livseg_lib.training.checkpoint import load_arrays, save_variables
from livseg_lib.training.fit import describe_network

TOLERANCE = 1e-6
"""Relative; on one machine the two runs were equal to the last bit when this was written."""


KILLS = [
    ("plateau", 3, 2),
    ("staged", 4, 0),
    pytest.param("staged", 1, 1, marks=pytest.mark.slow),
    pytest.param("mixed precision", 4, 0, marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def float32_again():
    yield
    keras.mixed_precision.set_global_policy("float32")


def everything(folder: Path):
    arrays, record = load_arrays(folder / "last.safetensors")
    history = [
        {key: value for key, value in row.items() if key not in ("seconds", "memory_mb")}
        for row in record["history"]
    ]
    return arrays, record["best"], record["counters"], history


@pytest.mark.parametrize("name, epoch, batch", KILLS)
def test_a_training_killed_and_started_again_equals_an_unbroken_one(tmp_path, name, epoch, batch):
    unbroken_network, _ = run(tmp_path / "unbroken", None, name)
    program = Path(__file__).with_name("resumable_run.py")
    command = [sys.executable, str(program), name, str(tmp_path / "killed"), str(epoch), str(batch)]
    assert subprocess.run(command, capture_output=True).returncode == -9
    resumed_network, history = run(tmp_path / "killed", None, name)

    expected, found = everything(tmp_path / "unbroken"), everything(tmp_path / "killed")
    assert set(expected[0]) == set(found[0])  # weights, moments, learning rate
    for path, array in expected[0].items():
        np.testing.assert_allclose(array, found[0][path], rtol=TOLERANCE, atol=1e-8, err_msg=path)
    assert found[1] == pytest.approx(expected[1], rel=TOLERANCE)
    assert found[2] == expected[2]
    for one, other in zip(expected[3], found[3], strict=True):
        assert other == pytest.approx(one, rel=TOLERANCE)
    assert len(history) == len(expected[3])
    for one, other in zip(unbroken_network.get_weights(), resumed_network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=1e-8)


def test_a_finished_training_is_not_repeated_and_another_one_starts_anew(tmp_path):
    _, first = run(tmp_path, None, "plateau")
    written = (tmp_path / "last.safetensors").stat().st_mtime_ns
    _, again = run(tmp_path, None, "plateau")
    assert (tmp_path / "last.safetensors").stat().st_mtime_ns == written
    assert again.equals(first)
    _, other = run(tmp_path, None, "staged")
    assert list(other["stage"].unique()) == [0, 1]


def run_and_give_first_weights(folder: Path) -> Path:
    keras.utils.set_random_seed(7)  # as the run does
    save_variables(folder / "first.safetensors", build_model("unet", (16, 16, 1), 1, **SMALL).weights, {})
    run(folder / "frozen", None, "frozen")
    return folder / "first.safetensors"


def test_frozen_layers_stand_still_in_their_stage_only(tmp_path):
    start, _ = load_arrays(run_and_give_first_weights(tmp_path))
    frozen, _ = load_arrays(tmp_path / "frozen" / "best.safetensors")
    moved = {path for path in frozen if not np.array_equal(start[path], frozen[path])}
    assert "encoder0_conv2/kernel" in moved
    assert not {"encoder0_conv1/kernel", "encoder0_conv1/bias"} & moved
    network, _ = run(tmp_path / "staged", None, "staged")
    assert network.get_layer("encoder0_conv1").trainable


def test_the_cosine_ends_near_zero_and_the_plateau_lowers_the_rate(tmp_path):
    _, cosine = run(tmp_path / "cosine", None, "staged")
    assert cosine.loss.iloc[-1] < cosine.loss.iloc[0]
    _, plateau = run(tmp_path / "plateau", None, "plateau")
    assert (plateau.learning_rate.diff().dropna() <= 0).all()


def test_history_csv_tells_what_fit_returns(tmp_path):
    import pandas as pd

    _, history = run(tmp_path, None, "plateau")
    assert list(pd.read_csv(tmp_path / "history.csv").columns) == list(history.columns)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "last.safetensors"
    save_variables(path, [keras.Variable(np.arange(1000.0), name="a")], {})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="readable weights file"):
        load_arrays(path)


def weighted_twice(truth, probability):
    return 2.0 * losses.LOSSES["bce"](truth, probability)


def wider(monkeypatch):
    monkeypatch.setattr(resumable_run, "SMALL", {"filters": 5, "levels": 2})


CHANGED = {
    "the loss": lambda patch: patch.setitem(losses.LOSSES, "bce_dice", weighted_twice),
    "the network": wider,
    "the batches": lambda patch: patch.setattr(resumable_run.RandomBatches, "__len__", lambda self: 3),
    "the metrics": lambda patch: patch.setattr(resumable_run, "dice_metrics", lambda structures: []),
    "the training loop": lambda patch: patch.setattr("livseg_lib.training.fit._companions", lambda _: []),
    "keras": lambda patch: patch.setattr("livseg_lib.provenance.metadata.version", lambda name: "0.1"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, run(folder, None, "frozen")[0].get_weights()


def test_unchanged_code_keeps_what_it_trained_and_says_so(trained, tmp_path, capsys):
    shutil.copytree(trained[0], tmp_path / "copy")
    network, history = run(tmp_path / "copy", None, "frozen")
    assert "unchanged since, goes on from epoch 1" in capsys.readouterr().out
    assert all(np.array_equal(a, b) for a, b in zip(trained[1], network.get_weights(), strict=True))
    assert set(history.attrs["made_by"]) == {"revision", "code", "libraries"}


@pytest.mark.parametrize("part", CHANGED)
def test_changed_code_trains_anew_and_says_which(trained, tmp_path, monkeypatch, capsys, part):
    shutil.copytree(trained[0], tmp_path / "copy")
    CHANGED[part](monkeypatch)
    anew, _ = run(tmp_path / "copy", None, "frozen")
    assert re.search(f"trained anew, changed since: .*{part}", capsys.readouterr().out)
    if part in ("the loss", "the batches"):  # others change nothing that one epoch would show
        assert not np.array_equal(trained[1][-2], anew.get_weights()[-2])


def test_a_network_has_one_digest_however_much_was_built_before():
    digests = []
    for _ in range(2):
        digests.append(
            [describe_network(build_model(name, (32, 32, 1), 1, **SMALL)) for name in ("unet", "unet++")]
        )
    assert digests[0] == digests[1] and len(set(digests[0])) == 2
    inputs = keras.Input((8, 8, 1))
    for activation in ("relu", "elu"):
        x = keras.layers.Conv2D(2, 3, activation=activation)(inputs)
        digests.append(describe_network(keras.Model(inputs, x + x)))
    assert digests[2] != digests[3]
