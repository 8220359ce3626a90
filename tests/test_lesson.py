"""Notebook 03 shows the library's window, U-Net and loss as code; an edit of one is another training."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest
from keras import layers, ops

from livseg_lib.models import build_model
from livseg_lib.preprocessing.windows import Window, apply_window
from livseg_lib.provenance import code_of
from livseg_lib.training.checkpoint import describe_network
from livseg_lib.training.losses import binary_cross_entropy, get_loss

PATH = Path(__file__).parents[1] / "notebooks" / "03_train_unet.ipynb"
CELLS = [cell.source for cell in nbformat.read(PATH, 4).cells if cell.cell_type == "code"]


def parts(*kinds: type, edit=lambda source: source) -> ast.Module:
    """The statements of those kinds on the page."""
    trees = [ast.parse(edit(cell)).body for cell in CELLS]
    return ast.Module([node for tree in trees for node in tree if isinstance(node, kinds)], [])


def lesson(edit=lambda source: source) -> dict:
    """The functions of the page, perhaps edited."""
    import math

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


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_the_page_is_the_librarys_to_the_last_bit(seed):
    generator = np.random.default_rng(seed)
    truth = (generator.random((4, 16, 16, 2)) < 0.2).astype(np.float32)
    probability = generator.random((4, 16, 16, 2), np.float32)
    for name in ("dice", "bce_dice"):
        assert float(lesson()[name](truth, probability)) == float(get_loss(name)(truth, probability))


@pytest.mark.parametrize("low, high", [(-100, 200), (-50, 200), (0, 150), (-200, 250)])
def test_the_window_of_the_page_is_the_librarys(low, high):
    hu = np.arange(-1024, 3072, dtype=np.int16)
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
    assert int(found.stdout.splitlines()[-1]) <= 51
