"""Folders that trained networks live in: weights and a model.json, safe to load.

A trained network is a folder: weights.safetensors, and a model.json that says how to use them.

Loading rebuilds the network from our own catalogues and fills it with bare arrays: nothing in the
folder is ever unpickled or executed. An exported folder (`inference.export`) holds network.onnx in the place
of the weights.

A trained segmentation model, saved as a folder and loaded again.

A trained classifier of superpixels, saved as a folder and loaded again.

A trained slice sorter, saved as a folder and loaded again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import keras

from livseg_lib.descriptions import (
    NAME,
    SHA256,
    as_tuples,
    between,
    inside,
    list_of,
    of_type,
    one_of,
    read_description,
    record,
    require,
    require_equal,
)
from livseg_lib.errors import InputError
from livseg_lib.files import file_checksum, written_aside
from livseg_lib.labels import STRUCTURES, TARGETS
from livseg_lib.models import build_model
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.superpixels import CandidateRecipe
from livseg_lib.preprocessing.patches import PatchRecipe
from livseg_lib.preprocessing.recipe import (
    EQUALIZATIONS,
    NOISE_FILTERS,
    OWN_PICTURE,
    NetworkInput,
    Recipe,
    picture_code,
)
from livseg_lib.sampling.batches import REGIONS
from livseg_lib.sampling.blocks import KINDS
from livseg_lib.training.checkpoint import assign_arrays, load_arrays, require_arrays, save_variables
from livseg_lib.training.onnx_network import FILE, read_onnx_network

FORMAT = 3
"""Raise it whenever the same weights would answer otherwise: 2 unfolds without a ReLU, 3 holds windows by
their bounds."""

WARNING = "Research only. Not for clinical use."
ONNX_SHA256 = "onnx_sha256"
"""Key of model.json in exported folders."""

OPTION = {
    "anyOf": [
        of_type("boolean"),
        of_type("string", maxLength=40),
        between(0, 4096),
        list_of(between(0, 4096), 1, 16),
    ]
}
DEEP = between(1, 10, "integer")
OF_ALL_KINDS = {
    "system": NAME,
    "architecture": NAME,
    "options": of_type(
        "object",
        additionalProperties=OPTION,
        properties={"levels": DEEP, "stages": DEEP, "columns": DEEP},  # work that doubles with each
        maxProperties=32,
    ),
    "training": record({}, {"run": of_type("string"), "n_train_patients": between(0, 1e9)}),
    "input_shape": list_of(between(1, 1024, "integer"), 3, 4),
    "parameters": between(0, 1e12, "integer"),
    "weights_sha256": SHA256,
}
"""What every model.json says. Absurd sizes are refused before anything is built of them."""

MM = between(0.01, 1000.0)
RECIPE = record(
    {"windows": list_of({}, 1, 16), "size": between(32, 512, "integer")},
    {
        "noise_filter": one_of(list(NOISE_FILTERS)),
        "equalization": one_of(list(EQUALIZATIONS)),
        "voxel_size_mm": {"anyOf": [of_type("null"), list_of(MM, 3, 3)]},
    },
)
SHARE = between(0.0, 1.0)
"""Schemata that several kinds of model have in common."""
REMEDY = "Name a folder with model.json and weights.safetensors."


@dataclass(frozen=True)
class TrainedNetwork:
    """What every kind of trained network has; each kind adds what its use needs to know, and `training`."""

    system: str
    """Its name in tables, such as "unet"."""
    architecture: str
    """Its name in a catalogue: `livseg_lib.models.MODELS`, or `models.classifiers.CLASSIFIERS`."""
    options: dict
    """Keyword options with which the catalogue builds it."""
    network: keras.Model

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return self.network.count_params()


Trained = TypeVar("Trained", bound=TrainedNetwork)
COMMON = ("system", "architecture", "options", "training")
"""What `TrainedNetwork` and model.json call alike."""


def write_network(folder: Path, trained: Trained, own: dict) -> Path:
    """Write the folder; model.json comes last, so that a folder with one is whole.

    `own` is what this kind of network adds to the description, JSON-ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    save_variables(weights, trained.network.weights, {"architecture": trained.architecture})
    everything = {
        "format": FORMAT,
        "warning": WARNING,
        **{name: getattr(trained, name) for name in COMMON},
        **own,
        "input_shape": list(trained.network.input_shape[1:]),
        "parameters": trained.parameters,
        "weights_sha256": file_checksum(weights),
    }
    with written_aside(folder / "model.json") as partial:
        partial.write_text(json.dumps(everything, indent=2) + "\n")
    return folder


def read_network(
    folder: Path,
    schema: Mapping,
    build: Callable[[dict], keras.Model],
    describe: Callable[[dict, keras.Model], Trained],
    kind: str,
) -> Trained:
    """What `describe` makes of the folder's description and its network.

    The network is what `build` makes of the description, filled with the folder's weights, or an
    `OnnxNetwork` where the folder was exported. Options come as tuples where they were saved as such.
    Raises InputError, naming the `kind` of model, where the folder is not whole, where the description does
    not follow `schema` and that of every network, and where it is not that of the weights.
    """
    description = read_description(folder / "model.json", kind, REMEDY)
    if (found := description.get("format")) != FORMAT:
        problem = f"was trained by another version of livseg (format {found!r}, not {FORMAT})."
        raise InputError(folder, problem, "Train it anew, or use the version that trained it.")
    of_all = record(OF_ALL_KINDS, {ONNX_SHA256: SHA256})
    require(description, {"allOf": [of_all, schema]}, folder, kind, REMEDY)
    description["options"] = as_tuples(description["options"])
    network = _network(folder, description, build)
    require_equal(list(network.input_shape[1:]), description["input_shape"], "inputs of", folder)
    require_equal(network.count_params(), description["parameters"], "the number of weights is", folder)
    try:
        return describe(description, network)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(folder, f"is not {kind} ({type(error).__name__}: {error}).", REMEDY) from error


def _network(folder: Path, description: dict, build: Callable[[dict], keras.Model]) -> keras.Model:
    if ONNX_SHA256 in description:
        return read_onnx_network(inside(folder, FILE), description[ONNX_SHA256], description["parameters"])
    weights = inside(folder, "weights.safetensors")
    if not weights.is_file() or file_checksum(weights) != description["weights_sha256"]:
        raise InputError(weights, "is not the file that model.json describes.", "Copy both anew.")
    arrays = load_arrays(weights)[0]
    with _no_memory():
        require_arrays(_built(build, description, folder).weights, arrays, weights)
    network = build(description)
    assign_arrays(network.weights, arrays, weights)
    return network


def _no_memory():
    """In this context a network is a sketch: options that ask for 100 GB take none."""
    import tensorflow as tf

    return tf.Graph().as_default()


def _built(build: Callable[[dict], keras.Model], description: dict, folder: Path) -> keras.Model:
    try:
        return build(description)
    except InputError:
        raise
    except Exception as error:  # Keras raises what it likes where sizes do not fit
        what = f"{description['architecture']} with {description['options']}"
        problem = f"describes a network that cannot be built ({what}: {str(error)[:200]})."
        raise InputError(folder, problem, "Copy the folder anew, as it was saved.") from error


THRESHOLD = of_type("number", exclusiveMinimum=0.0, maximum=1.0)
INPUTS = {
    "neighbours": between(0, 16, "integer"),
    "sees_liver": of_type("boolean"),
    "block_overlap": {"anyOf": [of_type("null"), between(0, 512, "integer")]},
}
SEGMENTER = record(
    {
        "target": one_of(list(TARGETS)),
        "thresholds": record({}, dict.fromkeys(STRUCTURES, THRESHOLD)),
        "recipe": RECIPE,
    },
    {"inputs": record({}, INPUTS)},
)


@dataclass(frozen=True)
class TrainedModel(TrainedNetwork):
    """A network together with all that prediction needs to know."""

    recipe: Recipe
    """How volumes become its pictures."""
    target: str
    """"liver", "tumor" or "both"."""
    thresholds: dict[str, float]
    """Probability from which a pixel counts, a structure."""
    training: dict = field(default_factory=dict)
    """What it was trained on and how long: data set, patients, seconds, epochs."""
    inputs: NetworkInput = OWN_PICTURE
    """What the network sees besides a slice's own picture."""

    @property
    def structures(self) -> tuple[str, ...]:
        """The channels of its output, in order."""
        return TARGETS[self.target]


def save_model(trained: TrainedModel, folder: Path) -> Path:
    """Write the folder."""
    own = {
        "target": trained.target,
        "labels": {"0": "background", "1": "liver", "2": "tumor"},
        "thresholds": trained.thresholds,
        "recipe": trained.recipe.to_dict(),
        "training": {"picture_code": picture_code(), **trained.training},
        "inputs": trained.inputs.to_dict(),
    }
    return write_network(folder, trained, own)


def load_model(folder: Path) -> TrainedModel:
    """Rebuild the network that `save_model` wrote. Raises InputError where the folder is not whole."""
    trained = read_network(folder, SEGMENTER, _build_segmenter, _describe_segmenter, "a livseg model")
    require_equal(sorted(trained.structures), sorted(trained.thresholds), "thresholds of", folder)
    size, channels = trained.recipe.size, trained.inputs.channels(len(trained.recipe.windows))
    *_, height, width, depth = trained.network.input_shape
    require_equal((height, width, depth), (size, size, channels), "pictures of", folder)
    require_equal(trained.network.output_shape[-1], len(trained.structures), "maps:", folder)
    return trained


def _build_segmenter(description: dict) -> keras.Model:
    shape, structures = description["input_shape"], TARGETS[description["target"]]
    return build_model(description["architecture"], shape, len(structures), **description["options"])


def _describe_segmenter(description: dict, network: keras.Model) -> TrainedModel:
    kept = (*COMMON, "target", "thresholds")
    return TrainedModel(
        network=network,
        recipe=Recipe.from_dict(description["recipe"]),
        inputs=NetworkInput(**description.get("inputs", {})),  # absent in folders of earlier versions
        **{name: description[name] for name in kept},
    )


CLASSIFIER = record(
    {
        "kinds": {"const": list(KINDS)},
        "threshold": SHARE,
        "candidates": record(
            {"scales_mm": list_of(MM, 1, 16)},
            {"least_contrast_hu": between(-4096, 4096), "most_a_scale": between(1, 100000, "integer")},
        ),
        "patch": record(
            {
                "size_mm": list_of(MM, 3, 3),
                "voxels": list_of(between(1, 256, "integer"), 3, 3),
                "widths_hu": list_of(between(1, 65536), 1, 16),
            }
        ),
    }
)


@dataclass(frozen=True)
class TrainedClassifier(TrainedNetwork):
    """A network that tells tumour from liver, with all that its use needs to know (system J)."""

    candidates: CandidateRecipe
    """Which superpixels it is asked about."""
    patch: PatchRecipe
    """What it is shown of each."""
    threshold: float
    """Mean probability over a voxel's superpixels from which it is tumour, chosen on validation patients."""
    training: dict = field(default_factory=dict)
    """What it was trained on and how long: data set, patients, seconds, epochs."""


def save_classifier(trained: TrainedClassifier, folder: Path) -> Path:
    """Write the folder."""
    own = {
        "kinds": list(KINDS),
        "threshold": trained.threshold,
        "candidates": trained.candidates.to_dict(),
        "patch": trained.patch.to_dict(),
    }
    return write_network(folder, trained, own)


def load_classifier(folder: Path) -> TrainedClassifier:
    """Rebuild what `save_classifier` wrote. Raises InputError where the folder is not whole."""
    trained = read_network(
        folder, CLASSIFIER, _build_classifier, _describe_classifier, "a livseg classifier of superpixels"
    )
    shape = (*trained.patch.voxels, trained.patch.channels)
    require_equal(tuple(trained.network.input_shape[1:]), shape, "patches of", folder)
    require_equal(trained.network.output_shape[-1], len(KINDS), "kinds:", folder)
    return trained


def _build_classifier(description: dict) -> keras.Model:
    shape, kinds = description["input_shape"], description["kinds"]
    return build_classifier(description["architecture"], shape, len(kinds), **description["options"])


def _describe_classifier(description: dict, network: keras.Model) -> TrainedClassifier:
    kept = (*COMMON, "threshold")
    return TrainedClassifier(
        network=network,
        candidates=CandidateRecipe.from_dict(description["candidates"]),
        patch=PatchRecipe.from_dict(description["patch"]),
        **{name: description[name] for name in kept},
    )


SORTER = record(
    {
        "regions": {**list_of(one_of(REGIONS), 1, len(REGIONS)), "uniqueItems": True},
        "gate": SHARE,
        "recipe": RECIPE,
    }
)


@dataclass(frozen=True)
class TrainedSorter(TrainedNetwork):
    """A network that names slices, with all that its use needs to know."""

    recipe: Recipe
    """How volumes become its pictures."""
    regions: tuple[str, ...]
    """Its outputs in order, names of `livseg_lib.sampling.batches.REGIONS`."""
    gate: float
    """Probability of liver from which a slice is worth segmenting, chosen on validation patients."""
    training: dict = field(default_factory=dict)
    """What it was trained on and how long: data set, patients, seconds, epochs."""


def save_sorter(trained: TrainedSorter, folder: Path) -> Path:
    """Write the folder."""
    own = {
        "regions": list(trained.regions),
        "gate": trained.gate,
        "recipe": trained.recipe.to_dict(),
    }
    return write_network(folder, trained, own)


def load_sorter(folder: Path) -> TrainedSorter:
    """Rebuild the sorter that `save_sorter` wrote. Raises InputError where the folder is not whole."""
    trained = read_network(folder, SORTER, _build_sorter, _describe_sorter, "a livseg slice sorter")
    shape = (trained.recipe.size, trained.recipe.size, len(trained.recipe.windows))
    require_equal(tuple(trained.network.input_shape[1:]), shape, "pictures of", folder)
    require_equal(trained.network.output_shape[-1], len(trained.regions), "regions:", folder)
    return trained


def _build_sorter(description: dict) -> keras.Model:
    shape, regions = description["input_shape"], description["regions"]
    return build_classifier(description["architecture"], shape, len(regions), **description["options"])


def _describe_sorter(description: dict, network: keras.Model) -> TrainedSorter:
    kept = (*COMMON, "gate")
    return TrainedSorter(
        network=network,
        recipe=Recipe.from_dict(description["recipe"]),
        regions=tuple(description["regions"]),
        **{name: description[name] for name in kept},
    )
