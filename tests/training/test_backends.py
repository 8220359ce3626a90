"""One code on three backends: JAX and PyTorch compute what TensorFlow does, each in its process."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from on_backend import numbers

from livseg_lib.training.model_folder import load_model
from livseg_lib.training.weights import load_arrays

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[1]

TOLERANCE = {
    "answer": 1e-5,
    "explanation": 1e-5,
    "on": 1.01 / 255,  # stored in steps of 1 / 255: one may be rounded otherwise
    "loss": 1e-5,
    "metric": 1e-6,
    "training": 1e-5,
    "trained": 5e-4,  # weights drift apart where Adam divides by gradients that are nearly zero
}
"""By the first word of what is compared: absolute for what is 0 to 1, else relative as well."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where each backend that is installed has worked."""
    installed = [name for name in ("tensorflow", "jax", "torch") if find_spec(name)]
    places = {name: tmp_path_factory.mktemp(name) for name in installed}
    for name, folder in places.items():
        program = [sys.executable, TESTS / "training" / "on_backend.py", folder]
        paths = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "training")))
        # XLA optimizes for longer than so few numbers take to compute.
        own = {"KERAS_BACKEND": name, "PYTHONPATH": paths, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
        ran = subprocess.run(program, env=os.environ | own, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert "small: unchanged since, goes on from epoch 4" in ran.stdout
    return places


@pytest.fixture(params=["jax", "torch"])
def other(request, folders) -> Path:
    """Folder of another backend than TensorFlow."""
    if request.param not in folders:
        pytest.skip(f"no {request.param}: docs/install.md says how to get it")
    return folders[request.param]


def found_in(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "found.npz") as file:
        return dict(file)


def test_answers_losses_metrics_and_20_steps_of_training_are_equal(folders, other):
    expected, found = found_in(folders["tensorflow"]), found_in(other)
    assert expected.keys() == found.keys()
    for name in expected:
        if not name.startswith("float16"):
            tolerance = TOLERANCE[name.split()[0]]
            np.testing.assert_allclose(found[name], expected[name], tolerance, tolerance, err_msg=name)


def test_a_network_has_one_digest_on_all(folders, other):
    found, expected = (folder / "digests.json" for folder in (other, folders["tensorflow"]))
    assert json.loads(found.read_text()) == json.loads(expected.read_text())


@pytest.mark.parametrize("name", ["tensorflow", "jax", "torch"])
def test_a_training_cut_off_resumes_exactly_dropout_included(folders, name):
    if name not in folders:
        pytest.skip(f"no {name}: docs/install.md says how to get it")
    checkpoints = (folders[name] / each / "last.safetensors" for each in ("unbroken", "cut"))
    unbroken, resumed = map(load_arrays, checkpoints)
    for path, array in unbroken[0].items():
        np.testing.assert_allclose(resumed[0][path], array, rtol=1e-6, atol=1e-8, err_msg=path)
    assert resumed[1]["seeds"] == unbroken[1]["seeds"] != []


def test_half_the_precision_learns_the_same(other):
    """Float16 with a scaled loss beside float32, of one backend."""
    history = load_arrays(other / "unbroken" / "last.safetensors")[1]["history"]
    np.testing.assert_allclose(found_in(other)["float16 loss"], [row["loss"] for row in history], rtol=0.01)


def test_what_one_backend_has_trained_another_uses(folders):
    for folder in folders.values():
        network = load_model(folder / "model").network
        answer = network.predict_on_batch(numbers(2, 32, 32, 1))
        np.testing.assert_allclose(answer, found_in(folder)["trained answer"], atol=1e-5)
