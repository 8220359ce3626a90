"""Exported networks answer as Keras does, on what they would be shown of a scan."""

import hashlib
import json
import shutil

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from livseg_lib.errors import InputError
from livseg_lib.inference import export
from livseg_lib.inference.cascade import load_system, save_cascade
from livseg_lib.inference.predict import volume_planes
from livseg_lib.models import MODELS, build_model
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.superpixels import CandidateRecipe, PatchRecipe
from livseg_lib.preprocessing.recipe import NetworkInput, Recipe, prepare_slices
from livseg_lib.sampling.batches import REGIONS
from livseg_lib.systems import BLOCKS, SYSTEMS, StepPlan
from livseg_lib.training.model_folder import (
    TrainedClassifier,
    TrainedModel,
    TrainedSorter,
    load_model,
    save_model,
)
from livseg_lib.training.onnx_network import OnnxNetwork
from livseg_lib.volumes import Volume

UNET = {"filters": 2, "levels": 2}


def scan() -> Volume:
    hu = np.random.default_rng(0).integers(-50, 150, (7, 40, 32)).astype(np.int16)
    return Volume(hu, (5.0, 2.0, 2.0))


def shuffled(network: keras.Model) -> keras.Model:
    """Weights and moving averages away from their start, so that zeros and ones hide nothing."""
    rng = np.random.default_rng(1)
    for weights in network.weights:
        if "seed" not in weights.path:
            weights.assign(weights.numpy() * rng.uniform(0.5, 1.5, weights.shape).astype(np.float32))
    return network


def trained(target: str = "both", inputs: NetworkInput = NetworkInput()) -> TrainedModel:  # noqa: B008
    thresholds = {"liver": 0.5, "tumor": 0.4} if target == "both" else {target: 0.5}
    network = shuffled(build_model("unet", (32, 32, inputs.channels(1)), len(thresholds), **UNET))
    recipe = Recipe(windows=("liver",), size=32)
    return TrainedModel("unet", "unet", UNET, network, recipe, target, thresholds, inputs=inputs)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model's folder, the one that it is exported to in both formats, and what is told of that."""
    folder = tmp_path_factory.mktemp("exported")
    model = save_model(trained(), folder / "model")
    return model, folder / "out", export.export_system(model, folder / "out", scan())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_network_answers_as_keras_for_batches_of_any_size(name, tmp_path):
    keras.utils.set_random_seed(1)
    shape = (4, 64, 64, 3) if SYSTEMS[name].kind == BLOCKS else (64, 64, 3)
    network = build_model(name, shape, 2, **SYSTEMS[name].small)
    answers_as_keras(network, export.write_onnx(network, tmp_path))


@pytest.mark.parametrize("shape", [(32, 32, 1), (4, 32, 32, 1)])
def test_small_networks_of_pictures_and_of_blocks_do_so_too(shape, tmp_path):
    name = "unet3d" if len(shape) == 4 else "unet"
    network = shuffled(build_model(name, shape, 2, filters=2, levels=2))
    answers_as_keras(network, export.write_onnx(network, tmp_path))


def answers_as_keras(network: keras.Model, path) -> None:
    session = onnxruntime.InferenceSession(path)
    inputs = np.random.default_rng(0).random((3, *network.input_shape[1:]), np.float32)
    for batch in (inputs, inputs[:1]):
        (answer,) = session.run(["probabilities"], {"pictures": batch})
        np.testing.assert_allclose(answer, network.predict_on_batch(batch), atol=export.MOST_APART)
    assert answer.min() >= 0 and answer.max() <= 1 and np.ptp(answer) > 0, "the sigmoid is part of the file"


def test_the_file_is_plain_onnx_of_the_opset_that_is_promised(tmp_path):
    graph = onnx.load(export.write_onnx(trained().network, tmp_path))
    assert {(each.domain, each.version) for each in graph.opset_import} >= {("", export.OPSET)}
    assert not {node.domain for node in graph.graph.node} - {"", "ai.onnx"}
    dims = [graph.graph.input[0], graph.graph.output[0]]
    assert [each.type.tensor_type.shape.dim[0].dim_param for each in dims] == ["batch", "batch"]
    assert "Research only" in graph.metadata_props[0].value


def test_a_single_network_with_all_that_its_use_needs(exported):
    model, out, made = exported
    assert [each.path.name for each in made] == ["savedmodel", "network.onnx"]
    assert all(each.agrees and each.n_inputs == 7 for each in made)
    described = json.loads((out / "model.json").read_text())
    assert described.pop("onnx_sha256") == hashlib.sha256((out / "network.onnx").read_bytes()).hexdigest()
    assert described == json.loads((model / "model.json").read_text())
    (record,) = json.loads((out / "export.json").read_text())["networks"]
    assert record["windows_hu"] == {"liver": [-50, 200]}
    assert record["input"]["shape"] == ["batch", 32, 32, 1]
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert {"network.onnx", "savedmodel/saved_model.pb"} <= set(record["sha256"])


def test_a_graph_beside_the_weights_takes_its_kernels_from_there(tmp_path):
    folder = save_model(trained(), tmp_path / "model", half=True)
    whole = export.write_onnx(trained().network, tmp_path).stat().st_size
    assert export.add_graph(folder).stat().st_size < whole
    of_graph, of_keras = load_model(folder), load_model(folder, with_keras=True)
    assert isinstance(of_graph.network, OnnxNetwork) and isinstance(of_keras.network, keras.Model)
    inputs = np.random.default_rng(0).random((3, 32, 32, 1), np.float32)
    answers = [each.network.predict_on_batch(inputs) for each in (of_graph, of_keras)]
    np.testing.assert_allclose(*answers, atol=export.MOST_APART)
    export.export_system(folder, tmp_path / "out", scan(), ["onnx"])
    np.testing.assert_array_equal(load_model(tmp_path / "out").network.predict_on_batch(inputs), answers[0])
    (folder / "weights.safetensors").write_bytes(b"others")
    with pytest.raises(InputError, match="not the file that model"):
        load_model(folder)


def test_a_cascade_gives_a_folder_a_network_and_names_the_rest(tmp_path):
    parts = {"coarse": trained("liver"), "fine": trained("tumor", NetworkInput(1, sees_liver=True))}
    sources = {name: save_model(part, tmp_path / "parts" / name) for name, part in parts.items()}
    plans = [
        StepPlan("coarse liver", "network", "coarse"),
        StepPlan("largest piece", "finish", "keep_largest_liver"),
        StepPlan("tumours", "network", "fine", "box", 10.0),
        StepPlan("forest", "forest", "trees", "box", 10.0),
    ]
    sources["trees"] = tmp_path / "trees"
    sources["trees"].mkdir()
    (sources["trees"] / "forest.json").write_text("{}")
    cascade, out = save_cascade(tmp_path / "cascade", "two", plans, sources, {}), tmp_path / "out"
    made = export.export_system(cascade, out, scan(), ("onnx",))
    names = [str(each.path.relative_to(out)) for each in made]
    assert names == ["coarse/network.onnx", "fine/network.onnx"]
    assert (out / "fine" / "model.json").is_file() and (out / "model.json").is_file()
    left_out = json.loads((out / "export.json").read_text())["not_exported"]
    assert [each["using"] for each in left_out] == ["keep_largest_liver", "trees"]
    assert (out / "trees" / "forest.json").is_file()


def test_an_exported_model_outlines_as_the_one_it_comes_from(exported, tmp_path):
    model, out, _ = exported
    ours, theirs = load_system(out), load_system(model)
    assert isinstance(ours.network, OnnxNetwork) and ours.parameters == theirs.parameters
    assert (ours.recipe, ours.thresholds) == (theirs.recipe, theirs.thresholds)
    probabilities = [volume_planes(each, scan()).astype(int) for each in (ours, theirs)]
    assert np.ptp(probabilities) > 0
    assert np.abs(np.subtract(*probabilities)).max() <= 1, "more than a rounding of 1 / 255"
    with pytest.raises(InputError, match="exported already"):
        export.export_system(out, tmp_path / "again", scan())


def test_a_model_is_never_overwritten_and_an_export_is(exported, tmp_path):
    model, other = (shutil.copytree(exported[0], tmp_path / name) for name in ("model", "other"))
    before = {path: path.read_bytes() for path in (*model.iterdir(), *other.iterdir())}
    for out in (model, other):
        with pytest.raises(InputError, match="not exported"):
            export.export_system(model, out, scan(), ("onnx",))
    assert {path: path.read_bytes() for path in (*model.iterdir(), *other.iterdir())} == before
    for _ in range(2):
        assert export.export_system(model, tmp_path / "out", scan(), ("onnx",))[0].agrees


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_another_onnx_file_than_the_one_compared_is_refused(exported, damage, tmp_path):
    out = shutil.copytree(exported[1], tmp_path / "out")
    if damage == "changed":
        (out / "network.onnx").write_bytes((out / "network.onnx").read_bytes()[:-1] + b"x")
    else:
        (out / "network.onnx").unlink()
    with pytest.raises(InputError, match="Export it again"):
        load_system(out)


def test_files_that_disagree_are_told_and_never_called_whole(exported, tmp_path, monkeypatch):
    model, out = exported[0], shutil.copytree(exported[1], tmp_path / "out")
    write, read = export.WRITERS["onnx"]
    off = (write, lambda path: lambda inputs: read(path)(inputs) + np.float32(0.01))
    monkeypatch.setitem(export.WRITERS, "onnx", off)
    (made,) = export.export_system(model, out, scan(), ("onnx",))
    assert not made.agrees and made.most_apart == pytest.approx(0.01, abs=1e-4)
    assert not (out / "export.json").exists() and not (out / "model.json").exists()
    assert not export.Exported(out, 1, float("nan")).agrees


def test_a_sorter_is_exported_too(tmp_path):
    network = build_classifier("slice_sorter", (32, 32, 1), 3, **UNET)
    recipe = Recipe(windows=("liver",), size=32)
    sorter = TrainedSorter("slice_sorter", "slice_sorter", UNET, network, recipe, REGIONS[:3], 0.1)
    loaded = export.load_network(save_model(sorter, tmp_path / "sorter"))
    assert isinstance(loaded, TrainedSorter)
    (made,) = export.export_network(loaded, tmp_path / "out", scan(), ("onnx",))
    assert made.agrees


@pytest.mark.parametrize("content", [None, "{", "[]", '{"kind": "cascade", "steps": [{"part": 1}]}'])
def test_folders_without_a_model_are_refused(content, tmp_path):
    if content:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(InputError):
        export.export_system(tmp_path, tmp_path / "out", scan())


def test_the_same_network_is_the_same_onnx_file_whatever_was_exported_before(tmp_path):
    network = shuffled(build_model("attention_unet", (32, 32, 1), 1, filters=2, levels=3))
    first, second = (export.write_onnx(network, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


RECIPE = Recipe(windows=("liver", "bone"), size=32)


def random_scan(depth: int) -> Volume:
    hu = np.random.default_rng(depth).integers(-100, 200, (depth, 40, 36)).astype(np.int16)
    return Volume(hu, (4.0, 1.0, 1.0))


def network_for(shape: tuple[int, ...], inputs: NetworkInput, name: str = "unet") -> TrainedModel:
    options = UNET if name == "unet" else UNET | {"patch": (1, 2, 2)}
    network = build_model(name, shape, 1, **options)
    return TrainedModel("x", name, options, network, RECIPE, "liver", {"liver": 0.5}, inputs=inputs)


def test_few_slices_are_all_there_as_the_recipe_makes_them():
    volume = random_scan(5)
    inputs = export.sample_inputs(network_for((32, 32, 2), NetworkInput()), volume)
    np.testing.assert_allclose(inputs * 255, np.stack(list(prepare_slices(volume, RECIPE))), atol=1e-4)
    volume = random_scan(21)
    thinned = export.sample_inputs(network_for((32, 32, 2), NetworkInput()), volume, most=3) * 255
    expected = np.stack(list(prepare_slices(volume, RECIPE)))[[0, 10, 20]]
    np.testing.assert_allclose(thinned, expected, atol=1e-4)


def test_neighbours_and_a_liver_stand_beside_the_slice():
    trained = network_for((32, 32, 7), NetworkInput(neighbours=1, sees_liver=True))
    inputs = export.sample_inputs(trained, random_scan(9))
    assert inputs.shape == (9, 32, 32, 7)
    shown = inputs[..., -1].max(axis=(1, 2))
    assert shown.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("depth", [3, 8, 20])
def test_blocks_are_as_deep_as_the_network(depth):
    network = network_for((8, 32, 32, 2), NetworkInput(), "unet3d")
    inputs = export.sample_inputs(network, random_scan(depth), most=16)
    assert inputs.shape == (min(2, -(-depth // 8)), 8, 32, 32, 2)


def test_a_scan_that_shows_a_classifier_nothing_is_refused():
    network = build_classifier("fractal3d", (8, 16, 16, 4), 2, filters=2, columns=2, stages=2)
    patch = PatchRecipe(voxels=(8, 16, 16))
    model = TrainedClassifier("x", "fractal3d", {}, network, CandidateRecipe(), patch, 0.5)
    even = Volume(np.zeros((9, 40, 36), np.int16), (4.0, 1.0, 1.0))
    with pytest.raises(InputError, match="shows this network nothing"):
        export.sample_inputs(model, even)
    slope = np.broadcast_to(np.arange(36, dtype=np.int16) * 10, (30, 40, 36))
    found = export.sample_inputs(model, Volume(np.ascontiguousarray(slope), (4.0, 1.0, 1.0)))
    assert 0 < len(found) <= 16 and found.shape[1:] == (8, 16, 16, 4)
    keras.backend.clear_session()
