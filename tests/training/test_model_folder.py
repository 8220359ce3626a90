"""A model folder gives back the same network; what it says wrongly is refused, its checksums made to fit."""

import json
from dataclasses import fields
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import load_file, save_file

from livseg_lib.errors import InputError
from livseg_lib.files import file_checksum
from livseg_lib.models import build_model
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.superpixels import CandidateRecipe, PatchRecipe
from livseg_lib.preprocessing.recipe import NetworkInput, Recipe, picture_code, prepare_slices
from livseg_lib.preprocessing.windows import WINDOWS, Window
from livseg_lib.sampling.batches import REGIONS
from livseg_lib.training.model_folder import (
    TrainedClassifier,
    TrainedModel,
    TrainedNetwork,
    TrainedSorter,
    load_classifier,
    load_model,
    load_sorter,
    save_model,
)
from livseg_lib.volumes import Volume

OPTIONS = {"filters": 2, "levels": 3}
THRESHOLDS = {"liver": 0.5, "tumor": 0.3}
TRAINING = {"n_train_patients": 3, "seconds": 1.5}


def segmenter(network: keras.Model | None = None, architecture: str = "unet", **more) -> TrainedModel:
    network = network or build_model("unet", (32, 32, 2), 2, **OPTIONS)
    what = ("unet", architecture, OPTIONS, network, Recipe(windows=("liver", (-100, 200)), size=32), "both")
    return TrainedModel(*what, THRESHOLDS, dict(TRAINING), **more)


def blocks_segmenter() -> TrainedModel:
    options = {"filters": 2, "levels": 2, "patch": (1, 2, 2)}
    network = build_model("unet3d", (4, 32, 32, 7), 1, **options)
    what = ("unet3d", "unet3d", options, network, Recipe(("liver", "min_max"), size=32), "tumor")
    inputs = NetworkInput(neighbours=1, sees_liver=True, block_overlap=2)
    return TrainedModel(*what, {"tumor": 0.4}, dict(TRAINING), inputs)


def classifier() -> TrainedClassifier:
    options = {"filters": 2, "columns": 2, "stages": 2}
    patch = PatchRecipe((40.0, 48.0, 48.0), (4, 8, 8), (120.0,))
    network = build_classifier("fractal3d", (*patch.voxels, patch.channels), 2, **options)
    what = ("superpixel_classifier", "fractal3d", options, network, CandidateRecipe((12.0, 20.0), 8.0, 99))
    return TrainedClassifier(*what, patch, threshold=0.35, training=dict(TRAINING))


def sorter() -> TrainedSorter:
    options = {"filters": 2, "levels": 2}
    network = build_classifier("slice_sorter", (64, 64, 3), len(REGIONS), **options)
    what = ("slice_sorter", "slice_sorter", options, network, Recipe(size=64), REGIONS)
    return TrainedSorter(*what, gate=0.02, training=dict(TRAINING))


def answers(trained: TrainedNetwork) -> np.ndarray:
    inputs = np.random.default_rng(0).random((2, *trained.network.input_shape[1:]), np.float32)
    return np.asarray(trained.network.predict_on_batch(inputs))


def described(folder: Path) -> dict:
    return json.loads((folder / "model.json").read_text())


def rewrite(folder: Path, keys: str, value: object) -> None:
    """Sets the value under "a.b" of model.json, or takes it away."""
    description = described(folder)
    *outer, last = keys.split(".")
    inner = description
    for key in outer:
        inner = inner[key]
    if value is ABSENT:
        del inner[last]
    else:
        inner[last] = value
    (folder / "model.json").write_text(json.dumps(description))


@pytest.mark.parametrize("make", [segmenter, blocks_segmenter, classifier, sorter])
def test_saved_and_loaded_it_is_the_same(make, tmp_path):
    before = make()
    after = load_model(save_model(before, tmp_path), type(before))
    np.testing.assert_array_equal(answers(before), answers(after))
    assert after.parameters == before.network.count_params()
    said = {each.name for each in fields(before)} - {"network", "training"}
    assert {name: getattr(after, name) for name in said} == {name: getattr(before, name) for name in said}
    assert after.training.items() >= before.training.items()
    assert {path.name for path in tmp_path.iterdir()} == {"model.json", "weights.safetensors"}
    assert "foreign" not in described(tmp_path)


def test_weights_of_half_the_bytes_answer_nearly_the_same(tmp_path):
    before = segmenter()
    images = np.random.default_rng(1).random((2, *before.network.input_shape[1:]), np.float32)
    whole, halved = (save_model(before, tmp_path / str(half), half) for half in (False, True))
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (whole, halved)]
    assert sizes[1] < 0.7 * sizes[0]
    answers = [load_model(folder).network.predict_on_batch(images) for folder in (whole, halved)]
    assert 0 < np.abs(answers[0] - answers[1]).max() < 0.005


def test_one_kind_is_not_taken_for_another(tmp_path):
    folders = {make: save_model(make(), tmp_path / make.__name__) for make in (segmenter, classifier, sorter)}
    for load, folder, missing in (
        (load_sorter, folders[classifier], "a livseg slice sorter .*regions"),
        (load_model, folders[sorter], "a livseg model .*target"),
        (load_classifier, folders[segmenter], "a livseg classifier of superpixels .*kinds"),
        (load_sorter, tmp_path / "nothing", "a livseg slice sorter .*no model.json"),
    ):
        with pytest.raises(InputError, match=f"is not {missing}"):
            load(folder)


@pytest.mark.parametrize(
    ("make", "keys", "value", "refusal"),
    [
        (classifier, "patch.voxels", [8, 8, 8], "inputs of"),
        (sorter, "recipe.size", 128, "inputs of"),
        (sorter, "regions", [*REGIONS[:2]], "."),
        (sorter, "architecture", "os.system", "not in the catalogue"),
        (classifier, "kinds", ["tumor", "liver"], "kinds"),
    ],
)
def test_what_the_other_kinds_say_wrongly_is_refused_too(tmp_path, make, keys, value, refusal):
    trained = make()
    rewrite(save_model(trained, tmp_path), keys, value)
    with pytest.raises(InputError, match=refusal):
        load_model(tmp_path, type(trained))


def test_the_description_warns_and_names_what_it_expects(tmp_path):
    description = described(save_model(segmenter(), tmp_path))
    assert "Not for clinical use" in description["warning"]
    assert description["input_shape"] == [32, 32, 2]
    assert description["recipe"]["windows"] == [["liver", -50, 200], ["-100..200", -100, 200]]
    assert len(description["weights_sha256"]) == 64
    assert description["training"]["picture_code"] == picture_code()


def test_a_model_keeps_its_own_window_when_the_table_changes(tmp_path, monkeypatch):
    folder = save_model(segmenter(), tmp_path)
    volume = Volume(np.full((1, 40, 40), 75, np.int16), (1.0, 1.0, 1.0), native=None)
    monkeypatch.setitem(WINDOWS, "liver", Window.between(0, 100))
    own, of_today = load_model(folder).recipe, Recipe(size=32)
    # 75 HU is the middle of -50 to 200, and 7/12 of -100 to 200
    assert next(prepare_slices(volume, own))[16, 16].tolist() == [128, 149]
    assert next(prepare_slices(volume, of_today))[16, 16, 0] == 191


def own_network(input_shape, num_classes, *, filters, levels, activation="relu"):
    """As somebody writes one in a notebook."""
    x = inputs = keras.Input(input_shape)
    for level in range(levels):
        x = layers.Conv2D(filters, 3, padding="same", activation=activation, name=f"level{level}")(x)
    return keras.Model(inputs, layers.Conv2D(num_classes, 1, activation="sigmoid", name="maps")(x))


def test_a_network_of_ones_own_loads_beside_its_function_alone(tmp_path):
    before = segmenter(own_network((32, 32, 2), 2, **OPTIONS), "own_network")
    folder = save_model(before, tmp_path)
    refusal = r"no catalogue builds: own_network.*load_model\(folder, build=.*livseg_lib/models"
    with pytest.raises(InputError, match=refusal):
        load_model(folder)
    np.testing.assert_array_equal(answers(load_model(folder, build=own_network)), answers(before))

    def deeper(*given, filters, levels):
        return own_network(*given, filters=filters, levels=levels + 1)

    with pytest.raises(InputError, match="has changed since"):
        load_model(folder, build=partial(own_network, activation="elu"))
    with pytest.raises(InputError, match="another network's weights"):
        load_model(folder, build=deeper)

    keras.mixed_precision.set_global_policy("mixed_float16")  # learnt on a GPU, used without one
    halves = own_network((32, 32, 2), 2, **OPTIONS)
    keras.mixed_precision.set_global_policy("float32")
    folder = save_model(segmenter(halves, "own_network"), tmp_path / "float16")
    assert load_model(folder, build=own_network).network.compute_dtype == "float32"


def test_a_network_that_was_changed_is_not_taken_for_that_of_the_catalogue(tmp_path):
    plain = build_model("unet", (32, 32, 2), 2, **OPTIONS)
    squashed = layers.Activation("tanh", name="squashed")(plain.output)
    with pytest.raises(InputError, match="no catalogue builds: unet"):
        load_model(save_model(segmenter(keras.Model(plain.inputs, squashed)), tmp_path / "changed"))
    plain.get_layer("encoder0_conv1").trainable = False  # stands still, and answers alike
    assert load_model(save_model(segmenter(plain), tmp_path / "frozen")).architecture == "unet"


ABSENT = "left out"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, bytes]:
    """The files of a small model."""
    network = build_model("unet", (32, 32, 1), 2, **OPTIONS)
    recipe = Recipe(windows=("liver",), size=32)
    trained = TrainedModel("unet", "unet", OPTIONS, network, recipe, "both", THRESHOLDS)
    folder = save_model(trained, tmp_path_factory.mktemp("model"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    for name, content in saved.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


WRONG_TYPES = (None, "x", 1.5, [[]])
REQUIRED = ("system", "architecture", "options", "training", "input_shape", "parameters", "weights_sha256")
OWN = ("target", "thresholds", "recipe", "format")
LIES = [
    *((key, ABSENT) for key in (*REQUIRED, *OWN)),
    *((key, value) for key in (*REQUIRED[2:], *OWN) for value in WRONG_TYPES),
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


CHANGES = {
    "left over": lambda arrays, name: arrays | {"encoder3_conv1/kernel": np.zeros((3, 3, 2, 2), np.float32)},
    "missing": lambda arrays, name: {path: arrays[path] for path in arrays if path != name},
    "other shape": lambda arrays, name: arrays | {name: arrays[name][:1]},
    "other type": lambda arrays, name: arrays | {name: arrays[name].astype(np.float64)},
    "whole numbers": lambda arrays, name: arrays | {name: arrays[name].astype(np.int32)},
    "not a number": lambda arrays, name: arrays | {name: arrays[name] * np.float32(np.nan)},
    "infinite": lambda arrays, name: arrays | {name: np.full_like(arrays[name], np.inf)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_of_another_network_are_refused_even_with_a_fitting_checksum(folder, change):
    arrays = load_file(folder / "weights.safetensors")
    arrays = CHANGES[change](arrays, "encoder2_conv1/kernel")
    save_file(arrays, folder / "weights.safetensors", metadata={"record": "{}"})
    rewrite(folder, "weights_sha256", file_checksum(folder / "weights.safetensors"))
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


def test_changed_weights_and_another_format_are_refused(folder):
    rewrite(folder, "format", 2)
    with pytest.raises(InputError, match="another version of livseg"):
        load_model(folder)
    rewrite(folder, "format", 3)
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=r"not the file that model\.json describes"):
        load_model(folder)
