"""One training on several devices: the same weights as on one, from the same batches."""

import os
import re
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from resumable_run import RandomBatches

from livseg_lib.backend import backend_name, devices_wanted
from livseg_lib.errors import InputError
from livseg_lib.training.devices import Devices, devices_of
from livseg_lib.training.weights import load_arrays

TESTS = Path(__file__).parents[1]
TOLERANCE = 1e-4
"""Of weights and losses after 20 steps at a rate of 0.01: sums are made in another order."""


@pytest.mark.parametrize("text", ["0", "-1", "two", ""])
def test_a_number_of_devices_that_cannot_be_is_refused(monkeypatch, text):
    monkeypatch.setenv("LIVSEG_DEVICES", text)
    with pytest.raises(InputError, match=r"LIVSEG_DEVICES.*Write 1, 2"):
        devices_wanted()


def test_more_devices_than_there_are_and_a_backend_without_them_are_refused(monkeypatch):
    with pytest.raises(InputError, match="is 99; there are"):
        devices_of(99)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(InputError, match="needs TensorFlow or JAX"):
        devices_of(98)


@pytest.mark.parametrize(("sizes", "size"), [((6, 6), 6), ((8, 2), 2)])
def test_batches_that_do_not_divide_are_refused(sizes, size):
    devices = Devices(["the only one"])
    assert devices.training(RandomBatches(*sizes))
    devices.count = 4
    with pytest.raises(InputError, match=f"has {size} pictures, which 4 devices"):
        devices.training(RandomBatches(*sizes))


@pytest.mark.skipif(backend_name() != "tensorflow", reason="the others take batches as they are")
def test_tensorflow_gets_each_epoch_as_it_is_and_no_thread_that_sleeps_on_after_it():
    batches = RandomBatches(4, 4, 2)
    stream = Devices(["the only one"]).training(batches)
    assert len(stream) == 3 and stream.options().autotune.enabled is False
    for epoch in (0, 1, 5):
        batches.start_epoch(epoch)
        for number, (pictures, truth) in enumerate(stream.as_numpy_iterator()):
            np.testing.assert_array_equal(pictures, batches[number][0])
            np.testing.assert_array_equal(truth, batches[number][1])
        assert number == 2


def start(folder: Path, backend: str, **variables: str) -> subprocess.Popen:
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "training")))
    # XLA optimizes for longer than so few numbers take to compute.
    own = {"KERAS_BACKEND": backend, "PYTHONPATH": paths, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    program, said = [sys.executable, TESTS / "training" / "on_devices.py", folder], subprocess.PIPE
    return subprocess.Popen(
        program, env=os.environ | own | variables, stdout=said, stderr=subprocess.STDOUT, text=True
    )


def end_of(*started: subprocess.Popen) -> list[str]:
    """What each has said."""
    try:
        said = [each.communicate()[0] for each in started]
    finally:
        for each in started:
            each.kill()
    assert [each.returncode for each in started] == [0] * len(started), said
    return said


def require_equal(several: Path, one: Path) -> None:
    found, expected = (load_arrays(folder / "last.safetensors") for folder in (several, one))
    assert found[0].keys() == expected[0].keys()
    for path, array in expected[0].items():
        np.testing.assert_allclose(found[0][path], array, TOLERANCE, TOLERANCE, err_msg=path)
    for row, right in zip(found[1]["history"], expected[1]["history"], strict=True):
        for name in ("loss", "val_loss", "liver_dice", "val_liver_dice"):
            np.testing.assert_allclose(row[name], right[name], TOLERANCE, err_msg=name)
    assert found[1]["made_by"]["settings"].pop("devices") == 2
    assert found[1]["made_by"] == expected[1]["made_by"]


def require_said(several: list[str], one: str) -> None:
    """Each has resumed a training, has its network, and made one of some minutes: an epoch a stage."""
    for said in several:
        answers = [float(re.search(r"answer (\S+)", each)[1]) for each in (said, one)]
        assert answers[0] == pytest.approx(answers[1], abs=2 * TOLERANCE)  # rounded
        assert "goes on from epoch 3" in said and "stage 2 of 2: epoch 2/2" in said


@pytest.mark.slow
def test_two_devices_of_tensorflow_train_to_the_weights_of_one(tmp_path):
    one = end_of(start(tmp_path / "one", "tensorflow"))
    two = end_of(start(tmp_path / "two", "tensorflow", LIVSEG_DEVICES="all"))
    require_equal(tmp_path / "two", tmp_path / "one")
    require_said(two, *one)
    assert "finite True" in two[0]  # a step that overflows on the second device was left out


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="no jax: docs/install.md says how to get it")
def test_two_processes_of_jax_train_to_the_weights_of_one_and_the_first_alone_writes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}
    started = [
        start(tmp_path / f"process{number}", "jax", **both, KERAS_DISTRIBUTION_PROCESS_ID=str(number))
        for number in range(2)
    ]
    said = end_of(*started)
    (one,) = end_of(start(tmp_path / "one", "jax"))
    require_equal(tmp_path / "process0", tmp_path / "one")
    require_said(said, one)
    assert not (tmp_path / "process1").exists()
