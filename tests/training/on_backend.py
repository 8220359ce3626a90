"""All that Keras computes for livseg, once, on the backend of this process: `on_backend.py FOLDER`.

Writes found.npz, digests.json, a model folder and the checkpoints of trainings into FOLDER. Weights are drawn
by NumPy, so that they are the same on every backend.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import resumable_run
from thin_networks import thin

from livseg_lib.inference.explain import seg_grad_cam
from livseg_lib.inference.predict import predict_planes
from livseg_lib.models import MODELS, build_model, keras
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.shelf import ON_BOARD
from livseg_lib.training.fit import ClassAccuracy, FitSettings, RegionDice, Stage, dice_metrics, fit
from livseg_lib.training.losses import CLASS_LOSSES, LOSSES, get_loss
from livseg_lib.training.model_folder import TrainedModel, load_model, save_model
from livseg_lib.training.weights import describe_network

Found = Iterator[tuple[str, np.ndarray]]


def numbers(*shape: int) -> np.ndarray:
    """Pictures, or whatever is from 0 to 1."""
    return np.random.default_rng(shape).random(shape, np.float32)


def filled(network: keras.Model) -> keras.Model:
    """`network` with weights by which numbers stay small from layer to layer, and errors with them."""
    for number, weight in enumerate(network.weights):
        draw, shape, kind = np.random.default_rng(number), tuple(weight.shape), weight.path.split("/")[-1]
        levels = 255 if weight.path.endswith("conv1_conv/kernel") else 1  # ResNet is shown grey levels
        spread = np.sqrt(2 / np.prod(shape[:-1])) / levels if kind == "kernel" else 0.1
        is_scale = kind in ("gamma", "moving_variance")
        weight.assign(draw.uniform(0.3, 0.9, shape) if is_scale else draw.normal(0, spread, shape))
    return network


def networks() -> Iterator[tuple[str, keras.Model]]:
    """Every network of the catalogues with a few filters; the sorter shrinks pictures that do not divide."""
    yield from ((name, thin(name)) for name in MODELS)
    yield "slice_sorter", build_classifier("slice_sorter", (152, 152, 1), 3, filters=2, levels=3)
    yield "fractal3d", build_classifier("fractal3d", (4, 8, 8, 2), 2, filters=2, columns=2, stages=2)


def answers(digests: dict[str, str]) -> Found:
    for name, network in networks():
        digests[name] = describe_network(network)
        shown = numbers(2, *network.input_shape[1:])
        yield f"answer {name}", filled(network).predict_on_batch(shown)
        if name in ("unet", "resnet50_unet"):
            region = np.zeros(shown.shape[:-1], bool)
            region[:, 20:44, 20:44] = True
            yield f"explanation {name}", seg_grad_cam(network, shown, region, channel=1, signed=True)
    trained = load_model(ON_BOARD / "liver-ct" / "liver", with_keras=True)
    planes = predict_planes(trained.network, np.uint8(255 * numbers(3, *trained.takes)))
    yield "on board", planes / np.float32(255)


def losses_and_metrics() -> Found:
    maps, truth = numbers(3, 8, 8, 2), np.float32(numbers(8, 3, 8, 2).swapaxes(0, 1) > 0.7)
    for name in LOSSES:
        yield f"loss {name}", get_loss(name)(truth, maps)
    classes, guesses = np.eye(3, dtype=np.float32)[[0, 2, 1, 1]], numbers(4, 3, 2)
    for name in CLASS_LOSSES:
        yield f"loss {name}", get_loss(name)(classes, guesses[..., 0])
    heads = np.stack([maps, maps[::-1]], axis=-1)
    metrics = [(RegionDice(1, "tumor_dice"), truth, heads), (RegionDice(0, "liver_dice"), truth, maps)]
    for metric, right, given in [*metrics, (ClassAccuracy(), classes, guesses)]:
        for part in (slice(0, 2), slice(2, None)):
            metric.update_state(right[part], given[part])
        yield f"metric {metric.name}", metric.result()


STAGES = (Stage(2, 1e-2, frozen=("fold",)), Stage(3, 1e-2))
"""20 steps, 4 an epoch."""


def end() -> None:
    raise RuntimeError("as planned")


def trainings(folder: Path) -> Found:
    """20 steps; with dropout unbroken, and cut off and resumed; in float16."""
    options = {"filters": 4, "levels": 2, "patch": 2}
    network = filled(build_model("unet", (32, 32, 1), 1, **options))
    batches = resumable_run.RandomBatches(side=32)
    settings = FitSettings(STAGES, schedule="cosine", plateau_patience=1)
    history = fit(network, batches, batches, lambda: dice_metrics(("liver",)), settings, folder / "20 steps")
    for name in ("loss", "val_loss", "liver_dice", "learning_rate"):
        yield f"training {name}", history[name].to_numpy()
    kept = ("mine", "unet", options, network, Recipe(("liver",), size=32), "liver", {"liver": 0.5})
    save_model(TrainedModel(*kept), folder / "model")
    yield "trained answer", network.predict_on_batch(numbers(2, 32, 32, 1))
    resumable_run.run(folder / "unbroken", "staged")
    resumable_run.end = end
    with suppress(Exception):  # TensorFlow makes its own of ours
        resumable_run.run(folder / "cut", "staged", (4, 1))
    resumable_run.run(folder / "cut", "staged")
    _, history = resumable_run.run(folder / "float16", "mixed precision")
    yield "float16 loss", history["loss"].to_numpy()


if __name__ == "__main__":
    digests: dict[str, str] = {}
    folder = Path(sys.argv[1])
    found = dict([*answers(digests), *losses_and_metrics(), *trainings(folder)])
    np.savez(folder / "found.npz", **{name: keras.ops.convert_to_numpy(each) for name, each in found.items()})
    (folder / "digests.json").write_text(json.dumps(digests))
