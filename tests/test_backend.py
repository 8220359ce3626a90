"""The one place that knows with what Keras computes: what it refuses, which GPUs it sees."""

import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from livseg_lib import backend
from livseg_lib.backend import BACKENDS, gpus, gradient, import_backend, sketch
from livseg_lib.errors import InputError
from livseg_lib.inference.export import write_onnx, write_savedmodel
from livseg_lib.models.cost import gflops_an_input
from livseg_lib.provenance import changes, made_with
from livseg_lib.runs import PACKAGES, describe_device


def test_a_backend_that_there_is_not_or_that_is_missing_is_named(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(InputError, match=r"'theano'.*Choose one of tensorflow, jax, torch"):
        import_backend()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", "1")
    with pytest.raises(InputError, match=r"KERAS_DISTRIBUTION_PROCESS_ID.*is for JAX alone"):
        import_backend()
    monkeypatch.delenv("KERAS_DISTRIBUTION_PROCESS_ID")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"torch, which is not installed.*pip install torch"):
        import_backend()


def test_a_record_has_the_version_of_the_backend_in_use_alone(monkeypatch):
    monkeypatch.setattr("livseg_lib.provenance._version", lambda name: f"{name} 1")
    records = {}
    for name in BACKENDS:
        monkeypatch.setenv("KERAS_BACKEND", name)
        records[name] = {"libraries": made_with(*PACKAGES)}
        assert set(BACKENDS) & set(records[name]["libraries"]) == {name}
    found = changes(records["jax"], records["tensorflow"])  # trained on one, gone on with on another
    assert found == ["jax jax 1 -> None", "tensorflow None -> tensorflow 1"]


CARDS = ["H200", "H200"]
TENSORFLOW = SimpleNamespace(
    list_physical_devices=lambda kind: CARDS if kind == "GPU" else ["the processor"],
    experimental=SimpleNamespace(get_device_details=lambda card: {"device_name": card}),
)
TORCH = SimpleNamespace(device_count=lambda: len(CARDS), get_device_name=CARDS.__getitem__)
GPU, PROCESSOR = SimpleNamespace(platform="gpu", device_kind="H200"), SimpleNamespace(platform="cpu")
WITH_GPUS = {
    "tensorflow": SimpleNamespace(config=TENSORFLOW),
    "jax": SimpleNamespace(devices=lambda: [GPU, PROCESSOR, GPU]),
    "torch": SimpleNamespace(cuda=TORCH),
}


@pytest.mark.parametrize("name", BACKENDS)
def test_gpus_are_those_of_the_backend_and_none_before_it_is_there(monkeypatch, name):
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.setitem(sys.modules, name, WITH_GPUS[name])
    assert gpus() == CARDS and describe_device() == "GPU H200 x 2"
    monkeypatch.delitem(sys.modules, name)
    assert gpus() == [] and describe_device().startswith("CPU ")


@pytest.mark.parametrize(
    "make", [write_onnx, write_savedmodel, lambda network, folder: gflops_an_input(network)]
)
def test_what_needs_tensorflow_says_so_on_another_backend(monkeypatch, tmp_path, make):
    image = keras.Input((4, 4, 1))
    network = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(InputError, match=r"needs TensorFlow, and Keras computes with jax.*KERAS_BACKEND"):
        make(network, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_gradient_and_what_else_was_computed():
    at = keras.ops.convert_to_tensor([1.0, 2.0])
    slope, more = gradient(lambda x: (keras.ops.sum(x**3), x + 1), at)
    np.testing.assert_allclose(slope, [3, 12])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(more), [2, 3])


def test_a_sketch_knows_the_shapes_of_weights_that_no_memory_would_hold():
    def huge() -> keras.Model:
        image = keras.Input((4, 4, 4096))
        return keras.Model(image, keras.layers.Conv2D(4096, 64)(keras.layers.ZeroPadding2D(64)(image)))

    assert sketch(huge).count_params() == 4096 * 64 * 64 * 4096 + 4096  # 256 GB


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")])
def test_the_first_cell_of_a_notebook_asks_for_fast_kernels_unless_the_user_has_chosen(given, expected):
    script = (
        "import os, sys, livseg_lib.runs; print(os.environ['TF_ENABLE_ONEDNN_OPTS'], 'keras' in sys.modules)"
    )
    plain = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, env=plain | given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "False"]
