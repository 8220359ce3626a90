"""Notebook 03 shows the library's window, U-Net and loss as code; an edit of one is another training."""

import ast
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
from keras import layers, ops
from stored_cases import store_case

from livseg_lib.errors import InputError
from livseg_lib.inference.export import add_own_graph
from livseg_lib.inference.predict import predict_volume
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.preprocessing.windows import Window, apply_window
from livseg_lib.provenance import code_of
from livseg_lib.studies.training import TrainingPlan, train_network, train_system
from livseg_lib.training.fit import Stage
from livseg_lib.training.losses import binary_cross_entropy, get_loss
from livseg_lib.training.model_folder import load_model, save_model
from livseg_lib.training.weights import describe_network, number_in_order
from livseg_lib.volumes import Volume

PATH = Path(__file__).parents[1] / "notebooks" / "03_train_unet.ipynb"
CODE = [cell for cell in nbformat.read(PATH, 4).cells if cell.cell_type == "code"]
CELLS = [cell.source for cell in CODE if "platform" not in cell.metadata.get("tags", ())]


def parts(*kinds: type, edit=lambda source: source) -> ast.Module:
    """The statements of those kinds on the page."""
    trees = [ast.parse(edit(cell)).body for cell in CELLS]
    return ast.Module([node for tree in trees for node in tree if isinstance(node, kinds)], [])


def lesson(edit=lambda source: source) -> dict:
    """The functions of the page, perhaps edited."""
    names = {"keras": keras, "layers": layers, "ops": ops, "np": np, "math": math}
    names |= {"binary_cross_entropy": binary_cross_entropy, "__name__": "__main__"}
    exec(compile(parts(ast.FunctionDef, edit=edit), "notebook 03", "exec"), names)
    return names


@pytest.mark.parametrize("patch, l2", [(1, 0.0), (2, 1e-4)])
def test_the_network_of_the_page_is_the_librarys_from_its_first_weights_on(patch, l2):
    options = {"filters": 4, "levels": 3, "patch": patch, "l2": l2}
    networks = []
    for build in (lesson()["unet"], lambda *given, **more: build_model("unet", *given, **more)):
        keras.utils.set_random_seed(3)
        networks.append(build((16, 16, 3), 2, **options))
    assert describe_network(networks[0]) == describe_network(networks[1])
    for own, other in zip(networks[0].weights, networks[1].weights, strict=True):
        assert own.path == other.path
        np.testing.assert_array_equal(own, other)


def test_loss_and_window_of_the_page_are_the_librarys_to_the_last_bit():
    generator = np.random.default_rng(0)
    truth = (generator.random((4, 16, 16, 2)) < 0.2).astype(np.float32)
    probability = generator.random((4, 16, 16, 2), np.float32)
    for name in ("dice", "bce_dice"):
        assert float(lesson()[name](truth, probability)) == float(get_loss(name)(truth, probability))
    hu = np.arange(-1024, 3072, dtype=np.int16)
    for low, high in ((-100, 200), (-50, 200), (0, 150), (-200, 250)):
        expected = apply_window(hu, Window.between(low, high))
        np.testing.assert_array_equal(lesson()["window"](hu, low, high), expected)


@pytest.mark.parametrize(
    "name, before, after",
    [
        ("bce_dice", "0.5 * false_alarm + 0.5 * missed", "0.3 * false_alarm + 0.7 * missed"),
        ("unet", "momentum=0.9", "momentum=0.99"),
    ],
)
def test_an_edit_of_the_page_is_another_training(name, before, after):
    def edit(source):
        return source.replace(before, after)

    assert code_of(lesson()[name]) != code_of(lesson(edit)[name])
    if name == "unet":
        options = {"filters": 4, "levels": 2, "patch": 1, "l2": 0.0}
        own, edited = (page["unet"]((16, 16, 1), 1, **options) for page in (lesson(), lesson(edit)))
        assert describe_network(own) != describe_network(edited)


def test_the_lesson_needs_few_of_our_modules():
    imports = ast.unparse(parts(ast.Import, ast.ImportFrom))
    program = f"{imports}\nimport sys\nprint(sum(name.split('.')[0] == 'livseg_lib' for name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout.splitlines()[-1]) <= 50


def my_network(input_shape, num_classes, *, filters):
    """As somebody writes one in a cell, without a name for any layer."""
    picture = keras.Input(input_shape)
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(picture)
    x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x))
    return keras.Model(picture, layers.Conv2D(num_classes, 1, activation="sigmoid")(x))


def test_layers_without_a_name_are_numbered_in_their_order_and_others_keep_theirs():
    paths = []
    for _ in range(2):  # Keras counts on
        network = my_network((16, 16, 1), 1, filters=2)
        number_in_order(network)
        paths.append([weight.path for weight in network.weights])
    assert paths[0] == paths[1] and paths[0][:3] == ["conv2d/kernel", "conv2d/bias", "conv2d_1/kernel"]
    named = build_model("unet", (16, 16, 1), 1, filters=2, levels=2)
    before = [weight.path for weight in named.weights]
    number_in_order(named)
    assert [weight.path for weight in named.weights] == before


def my_loss(truth, probability):
    return ops.mean(ops.abs(truth - probability))


PLAN = TrainingPlan(
    system="mine",
    architecture=my_network,
    target="liver",
    stages=(Stage(1, 0.01),),
    options={"filters": 2},
    loss=my_loss,
    batch_size=2,
)


@pytest.fixture
def extracted(tmp_path) -> tuple[Path, pd.DataFrame]:
    """Three patients of four slices with a bright liver, in a window of somebody's own."""
    tables, masks = [], np.zeros((4, 32, 32), np.uint8)
    masks[1:3, 8:24, 8:24] = 1
    for patient, split in enumerate(("train", "train", "validation")):
        recipe, who = Recipe(windows=[(-100, 200)], size=32), {"patient": str(patient), "split": split}
        tables.append(store_case(tmp_path, f"volume-{patient}", masks, masks * 150 + 20, recipe, **who))
    return tmp_path, pd.concat(tables, ignore_index=True)


def test_a_loss_a_network_and_a_window_of_a_cell_train_save_load_and_predict(extracted, tmp_path):
    folder, slices = extracted
    trained, _ = train_system(PLAN, slices, folder, tmp_path / "training", "run")
    model = save_model(trained, tmp_path / "model")
    said = json.loads((model / "model.json").read_text())
    assert (said["architecture"], said["training"]["loss"]) == ("my_network", "my_loss")
    assert said["training"]["made_by"]["code"]["loss"] == code_of(my_loss)
    assert said["recipe"]["windows"] == [["-100..200", -100, 200]]
    scan = Volume(np.full((2, 32, 32), 50, np.int16), (3.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"load_model\(folder, build="):
        load_model(model)
    outlined = predict_volume(load_model(model, build=my_network), scan)
    add_own_graph(model, my_network)
    by_graph = load_model(model)  # as the notebooks that follow do, which do not know the function
    assert not hasattr(by_graph.network, "layers")
    np.testing.assert_array_equal(predict_volume(by_graph, scan), outlined)
    np.testing.assert_array_equal(predict_volume(trained, scan), outlined)


def test_an_edited_loss_or_network_of_a_cell_trains_anew(extracted, tmp_path, capsys):
    folder, slices = extracted
    train = slices[slices.split == "train"]

    def trained(**changed) -> tuple[list[np.ndarray], str]:
        network, _ = train_network(replace(PLAN, **changed), train, None, folder, tmp_path / "training")
        return network.get_weights(), capsys.readouterr().out

    before, _ = trained()
    again, said = trained()
    assert "unchanged since" in said and np.array_equal(before[0], again[0])

    def edited(truth, probability):
        return ops.mean(ops.square(truth - probability))

    edited.__name__ = "my_loss"  # the cell was run again
    other, said = trained(loss=edited)
    assert "trained anew, changed since: the loss" in said and not np.array_equal(before[0], other[0])
    _, said = trained(loss=edited, options={"filters": 3})
    assert "trained anew, changed since: the network" in said
