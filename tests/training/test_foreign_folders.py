"""A model folder that came from anyone, its checksums made to fit: what it says wrongly is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from livseg_lib.errors import InputError
from livseg_lib.files import file_checksum
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.training.model_folder import TrainedModel, load_model, save_model

OPTIONS = {"filters": 2, "levels": 3}
ABSENT = "left out"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, bytes]:
    """The files of a small model."""
    network = build_model("unet", (32, 32, 1), 2, **OPTIONS)
    recipe, thresholds = Recipe(windows=("liver",), size=32), {"liver": 0.5, "tumor": 0.3}
    trained = TrainedModel("unet", "unet", OPTIONS, network, recipe, "both", thresholds)
    folder = save_model(trained, tmp_path_factory.mktemp("model"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    for name, content in saved.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def rewrite(folder: Path, keys: str, value: object) -> None:
    """Sets the value under "a.b" of model.json, or takes it away."""
    description = json.loads((folder / "model.json").read_text())
    *outer, last = keys.split(".")
    inner = description
    for key in outer:
        inner = inner[key]
    if value is ABSENT:
        del inner[last]
    else:
        inner[last] = value
    (folder / "model.json").write_text(json.dumps(description))


def rewrite_arrays(folder: Path, change) -> None:
    arrays = load_file(folder / "weights.safetensors")
    change(arrays)
    save_file(arrays, folder / "weights.safetensors", metadata={"record": "{}"})
    rewrite(folder, "weights_sha256", file_checksum(folder / "weights.safetensors"))


WRONG_TYPES = (None, "x", -1, 1.5, True, [], {}, [[]])
REQUIRED = ("system", "architecture", "options", "training", "input_shape", "parameters", "weights_sha256")
OWN = ("target", "thresholds", "recipe", "format")
LIES = [
    *((key, ABSENT) for key in (*REQUIRED, *OWN)),
    *(
        (key, value)
        for key in (*REQUIRED[2:], *OWN)
        for value in WRONG_TYPES
        if (key, value) not in (("training", {}), ("options", {}))
    ),
    *(("thresholds.tumor", value) for value in (1.7, 0, -0.1, 1e999, float("nan"), "0.5", None, ABSENT)),
    ("thresholds", {"liver": 0.5, "tumor": 0.3, "spleen": 0.5}),
    ("target", "liver"),
    ("parameters", 404),
    *(("options.levels", value) for value in (2, 4, 0, -1, 3.0, 11, 10**9, "3", None)),
    *(("options.filters", value) for value in (1, 3, 4096, 10**9, 0, -2, 2.0, [2], "2")),
    *(("options", value) for value in ({"surprise": 1}, {"filters": 2, "levels": 3, "output": "os.system"})),
    *(
        ("input_shape", value)
        for value in ([32, 32], [64, 64, 1], [32, 32, 2], [10**9, 32, 1], [32.0, 32, 1])
    ),
    *(("recipe.size", value) for value in (31, 64, 513, "32", 32.0, None)),
    *(("recipe.noise_filter", value) for value in ("os.system", None, 1)),
    *(("recipe.voxel_size_mm", value) for value in ([1, 1], [0, 1, 1], [1, 1, 1e9], 1, "x")),
    *(("recipe.windows", value) for value in ([], "liver", ["liver"] * 17, ["liver", "liver"], ["x"])),
    *(
        ("recipe.windows", [value])
        for value in (None, 3, [], ["x", None, None], ["x", 200, -50], ["x", 0, 1e999])
    ),
    ("recipe.surprise", 1),
    *(("inputs.neighbours", value) for value in (1, -1, 1.0, 10**9)),
    *(("inputs.sees_liver", value) for value in (True, 0, "no")),
    *(("inputs.block_overlap", value) for value in (-1, "x", 10**9)),
    ("inputs.surprise", 1),
    ("architecture", "unet3d"),
    ("architecture", "slice_sorter"),
    ("training.run", 7),
]


@pytest.mark.parametrize(("key", "value"), LIES, ids=lambda value: repr(value)[:30])
def test_a_description_that_is_not_that_of_the_weights_is_refused(folder, key, value):
    rewrite(folder, key, value)
    with pytest.raises(InputError) as refusal:
        load_model(folder)
    assert len(str(refusal.value)) < 1500


def test_what_is_saved_is_believed(folder):
    assert load_model(folder).parameters == json.loads((folder / "model.json").read_text())["parameters"]


def deepest(arrays: dict) -> str:
    return next(name for name in arrays if name.startswith("encoder2_conv1") and "kernel" in name)


def leftover(arrays):
    arrays["encoder3_conv1/kernel"] = np.zeros((3, 3, 2, 2), np.float32)


def missing(arrays):
    del arrays[deepest(arrays)]


def other_shape(arrays):
    arrays[deepest(arrays)] = arrays[deepest(arrays)][:1]


def other_type(arrays):
    arrays[deepest(arrays)] = arrays[deepest(arrays)].astype(np.float64)


def whole_numbers(arrays):
    arrays[deepest(arrays)] = arrays[deepest(arrays)].astype(np.int32)


def not_a_number(arrays):
    arrays[deepest(arrays)].flat[3] = np.nan


def infinite(arrays):
    arrays[deepest(arrays)].flat[3] = np.inf


@pytest.mark.parametrize(
    "change", [leftover, missing, other_shape, other_type, whole_numbers, not_a_number, infinite]
)
def test_weights_of_another_network_are_refused_even_with_a_fitting_checksum(folder, change):
    rewrite_arrays(folder, change)
    with pytest.raises(InputError, match=r"another network's weights|not finite"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"{}"])
def test_files_that_hold_no_arrays_are_refused(folder, content):
    (folder / "weights.safetensors").write_bytes(content)
    rewrite(folder, "weights_sha256", file_checksum(folder / "weights.safetensors"))
    with pytest.raises(InputError, match="not a readable weights file"):
        load_model(folder)


def test_weights_are_not_taken_from_elsewhere(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "weights.safetensors"
    (folder / "weights.safetensors").rename(elsewhere)
    (folder / "weights.safetensors").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"not the name of a folder"):
        load_model(folder)
