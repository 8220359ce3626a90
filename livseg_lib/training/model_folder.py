"""A trained network as a folder: weights.safetensors, and a model.json that says how to use them.

Loading rebuilds the network from our own catalogues, or by a function that the caller gives, and fills it
with bare arrays: nothing in the folder is ever unpickled or executed. An exported folder
(`inference.export`) holds network.onnx in the place of the weights; or beside them, and then without the
kernels, which it takes from there: ONNX Runtime answers before Keras would be imported.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from livseg_lib import WARNING
from livseg_lib.backend import sketch
from livseg_lib.errors import InputError
from livseg_lib.files import file_checksum, written_aside
from livseg_lib.labels import KINDS, REGIONS, STRUCTURES, TARGETS
from livseg_lib.postprocessing.superpixels import CandidateRecipe, PatchRecipe
from livseg_lib.preprocessing.recipe import (
    EQUALIZATIONS,
    NOISE_FILTERS,
    OWN_PICTURE,
    NetworkInput,
    Recipe,
    picture_code,
)
from livseg_lib.provenance import (
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
from livseg_lib.training import weights

if TYPE_CHECKING:  # only named in signatures
    import keras

    from livseg_lib.models import Build
    from livseg_lib.training.onnx_network import OnnxNetwork

MODEL_FORMAT = 3
"""Raise it whenever the same weights would answer otherwise: 2 unfolds without a ReLU, 3 holds windows by
their bounds."""

ONNX_SHA256 = "onnx_sha256"
"""Key of model.json in exported folders."""
FOREIGN = "foreign"
"""Key of model.json where no catalogue builds the network, but a function of the user's: the digest of what
it built (`describe_network`)."""
MODEL_REMEDY = "Name a folder with model.json and weights.safetensors."

OPTION = {
    "anyOf": [
        of_type("boolean"),
        of_type("string", maxLength=40),
        between(0, 4096),
        list_of(between(0, 4096), 1, 16),
    ]
}
DEEP = between(1, 10, "integer")
MADE_BY = record({}, {"libraries": record({}, {"python": of_type("string")})})
OF_ALL_KINDS = record(
    {
        "system": NAME,
        "architecture": NAME,
        "options": of_type(
            "object",
            additionalProperties=OPTION,
            properties={"levels": DEEP, "stages": DEEP, "columns": DEEP},  # work that doubles with each
            maxProperties=32,
        ),
        "training": record(
            {}, {"run": of_type("string"), "n_train_patients": between(0, 1e9), "made_by": MADE_BY}
        ),
        "input_shape": list_of(between(1, 1024, "integer"), 3, 4),
        "parameters": between(0, 1e12, "integer"),
        "weights_sha256": SHA256,
    },
    {ONNX_SHA256: SHA256, FOREIGN: of_type("string")},
)
"""What every model.json says. Absurd sizes are refused before anything is built of them."""

MM = between(0.01, 1000.0)
SHARE = between(0.0, 1.0)
RECIPE = record(
    {"windows": list_of({}, 1, 16), "size": between(32, 512, "integer")},
    {
        "noise_filter": one_of(list(NOISE_FILTERS)),
        "equalization": one_of(list(EQUALIZATIONS)),
        "voxel_size_mm": {"anyOf": [of_type("null"), list_of(MM, 3, 3)]},
    },
)


@dataclass(frozen=True)
class TrainedNetwork:
    """What every kind of trained network has. A kind adds what its use needs to know: all fields but the
    network stand in model.json."""

    system: str
    """Its name in tables, such as "unet"."""
    architecture: str
    """Its name in a catalogue, `livseg_lib.models.MODELS` or `models.classifiers.CLASSIFIERS`, or that of
    the function that built it."""
    options: dict
    """Keyword options with which it is built."""
    network: keras.Model

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return self.network.count_params()


@dataclass(frozen=True)
class TrainedModel(TrainedNetwork):
    """A network that outlines structures."""

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

    KIND: ClassVar = "a livseg model"
    SCHEMA: ClassVar = record(
        {
            "target": one_of(list(TARGETS)),
            "thresholds": record(
                {}, dict.fromkeys(STRUCTURES, of_type("number", exclusiveMinimum=0.0, maximum=1.0))
            ),
            "recipe": RECIPE,
        },
        {
            "inputs": record(
                {},
                {
                    "neighbours": between(0, 16, "integer"),
                    "sees_liver": of_type("boolean"),
                    "block_overlap": {"anyOf": [of_type("null"), between(0, 512, "integer")]},
                },
            )
        },
    )

    @property
    def structures(self) -> tuple[str, ...]:
        """The channels of its output, in order."""
        return TARGETS[self.target]

    answers = structures

    @property
    def takes(self) -> tuple[int, ...]:
        """Height, width and channels of what it sees."""
        size = self.recipe.size
        return size, size, self.inputs.channels(len(self.recipe.windows))


@dataclass(frozen=True)
class TrainedClassifier(TrainedNetwork):
    """A network that tells tumour from liver, superpixel by superpixel (system J)."""

    candidates: CandidateRecipe
    """Which superpixels it is asked about."""
    patch: PatchRecipe
    """What it is shown of each."""
    threshold: float
    """Mean probability over a voxel's superpixels from which it is tumour, chosen on validation patients."""
    training: dict = field(default_factory=dict)
    """As that of `TrainedModel`."""

    KIND: ClassVar = "a livseg classifier of superpixels"
    SCHEMA: ClassVar = record(
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
    answers: ClassVar = KINDS

    @property
    def takes(self) -> tuple[int, ...]:
        """Depth, height, width and channels of what it sees."""
        return *self.patch.voxels, self.patch.channels


@dataclass(frozen=True)
class TrainedSorter(TrainedNetwork):
    """A network that names slices (system F)."""

    recipe: Recipe
    """How volumes become its pictures."""
    regions: tuple[str, ...]
    """Its outputs in order, names of `livseg_lib.labels.REGIONS`."""
    gate: float
    """Probability of liver from which a slice is worth segmenting, chosen on validation patients."""
    training: dict = field(default_factory=dict)
    """As that of `TrainedModel`."""

    KIND: ClassVar = "a livseg slice sorter"
    SCHEMA: ClassVar = record(
        {
            "regions": {**list_of(one_of(REGIONS), 1, len(REGIONS)), "uniqueItems": True},
            "gate": SHARE,
            "recipe": RECIPE,
        }
    )

    @property
    def answers(self) -> tuple[str, ...]:
        """The numbers of its output, in order."""
        return self.regions

    @property
    def takes(self) -> tuple[int, ...]:
        """Height, width and channels of what it sees."""
        return self.recipe.size, self.recipe.size, len(self.recipe.windows)


_Trained = TypeVar("_Trained", bound=TrainedNetwork)

READ_BACK: dict[str, Callable] = {
    "recipe": Recipe.from_dict,
    "inputs": lambda values: NetworkInput(**values),
    "candidates": CandidateRecipe.from_dict,
    "patch": PatchRecipe.from_dict,
    "regions": tuple,
    "options": as_tuples,
}
"""Field -> what makes it of its value in model.json; others are there as they are."""


def _build_from_catalogue(trained: TrainedNetwork) -> Build:
    """What builds a network of that kind by its name; imports Keras."""
    from livseg_lib.models import build_model
    from livseg_lib.models.classifiers import build_classifier

    build = build_model if isinstance(trained, TrainedModel) else build_classifier
    return partial(build, trained.architecture)


def save_model(trained: TrainedNetwork, folder: Path, half: bool = False) -> Path:
    """Write the folder of any kind of network; model.json comes last, so that a folder with one is whole.

    `half`: kernels are kept in float16, of half the bytes; they are float32 again when they are loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.safetensors"
    weights.number_in_order(trained.network)
    weights.save_variables(path, trained.network.weights, {"architecture": trained.architecture}, half)
    values = {each.name: getattr(trained, each.name) for each in fields(trained) if each.name != "network"}
    description = {
        "format": MODEL_FORMAT,
        "warning": WARNING,
        **{name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in values.items()},
        "input_shape": list(trained.network.input_shape[1:]),
        "parameters": trained.parameters,
        "weights_sha256": file_checksum(path),
    }
    if isinstance(trained, TrainedModel):
        description["labels"] = {"0": "background", "1": "liver", "2": "tumor"}
        description["training"] = {"picture_code": picture_code(), **trained.training}
    if isinstance(trained, TrainedClassifier):
        description["kinds"] = list(KINDS)
    network = weights.describe_network(trained.network, trainable=False)
    if network != _of_the_catalogue(trained):
        description[FOREIGN] = network
    with written_aside(folder / "model.json") as partial:
        partial.write_text(json.dumps(description, indent=2) + "\n")
    return folder


def _of_the_catalogue(trained: TrainedNetwork) -> str:
    """Digest of the network that the catalogue builds under the name of `trained`; empty if it cannot."""
    shape, random_state = trained.network.input_shape[1:], random.getstate()
    try:
        build = partial(_build_from_catalogue(trained), shape, len(trained.answers), **trained.options)
        return weights.describe_network(sketch(build), trainable=False)
    except InputError:
        return ""
    finally:
        random.setstate(random_state)  # Keras draws the seeds of first weights from it


def load_model(
    folder: Path,
    kind: type[_Trained] = TrainedModel,
    build: Build | None = None,
    with_keras: bool = False,
) -> _Trained:
    """Rebuild the network that `save_model` wrote, a segmentation network unless another `kind` is asked for.

    A network that no catalogue builds needs `build`, the function of (input_shape, num_classes, **options)
    that built it. Options come as tuples where they were saved as such. Where the folder holds a graph, too,
    ONNX Runtime answers in the place of Keras, unless it is missing or Keras is asked for. Raises InputError
    where the folder is not whole, is none of that kind, or was written for another network than is built.
    """
    description = read_description(folder / "model.json", kind.KIND, MODEL_REMEDY)
    if (found := description.get("format")) != MODEL_FORMAT:
        problem = f"was trained by another version of livseg (format {found!r}, not {MODEL_FORMAT})."
        raise InputError(folder, problem, "Train it again, or use the version that trained it.")
    require(description, {"allOf": [OF_ALL_KINDS, kind.SCHEMA]}, folder, kind.KIND, MODEL_REMEDY)
    names = {each.name for each in fields(kind)} & set(description)  # those with a default may be absent
    try:
        values = {name: READ_BACK.get(name, lambda value: value)(description[name]) for name in names}
        trained = kind(network=None, **values)
        takes = trained.takes
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        problem = f"is not {kind.KIND} ({type(error).__name__}: {error})."
        raise InputError(folder, problem, MODEL_REMEDY) from error
    network = _network(folder, description, trained, build, with_keras)
    require_equal(list(network.input_shape[1:]), description["input_shape"], "inputs of", folder)
    require_equal(network.count_params(), description["parameters"], "the number of weights is", folder)
    require_equal(tuple(network.input_shape[-len(takes) :]), takes, "inputs of", folder)
    require_equal(network.output_shape[-1], len(trained.answers), "outputs:", folder)
    if isinstance(trained, TrainedModel):
        require_equal(sorted(trained.structures), sorted(trained.thresholds), "thresholds of", folder)
    return replace(trained, network=network)


load_classifier = partial(load_model, kind=TrainedClassifier)
load_sorter = partial(load_model, kind=TrainedSorter)


def _network(
    folder: Path, description: dict, trained: _Trained, build: Build | None, with_keras: bool
) -> keras.Model | OnnxNetwork:
    path = inside(folder, "weights.safetensors")
    with_keras = with_keras or not (find_spec("onnx") and find_spec("onnxruntime"))
    if ONNX_SHA256 in description and not (with_keras and path.is_file()):
        from livseg_lib.training.onnx_network import FILE, read_onnx_network

        arrays = _weights(path, description) if path.is_file() else None
        graph, parameters = inside(folder, FILE), description["parameters"]
        return read_onnx_network(graph, description[ONNX_SHA256], parameters, arrays)
    arrays = _weights(path, description)
    if FOREIGN in description and build is None:
        problem = f"holds a network that no catalogue builds: {trained.architecture}."
        remedy = "Give its function, load_model(folder, build=...), or make it part of livseg_lib/models."
        raise InputError(folder, problem, remedy)
    build = build or _build_from_catalogue(trained)
    make = partial(build, tuple(description["input_shape"]), len(trained.answers), **trained.options)
    built = _built(make, trained, folder)
    weights.number_in_order(built)
    weights.require_arrays(built.weights, arrays, path)
    if FOREIGN in description and weights.describe_network(built, trainable=False) != description[FOREIGN]:
        problem = "holds another network than `build` builds: its function, or Keras, has changed since."
        raise InputError(folder, problem, "Give the function as it was, or train again.")
    network = make()
    weights.number_in_order(network)
    weights.assign_arrays(network.weights, arrays, path)
    return network


def _weights(path: Path, description: dict) -> dict[str, np.ndarray]:
    """By their paths in Keras; halves are float32 again."""
    if not path.is_file() or file_checksum(path) != description["weights_sha256"]:
        raise InputError(path, "is not the file that model.json describes.", "Copy both again.")
    halves = weights.load_arrays(path)[0]
    return {name: array.astype(np.promote_types(array.dtype, "f4")) for name, array in halves.items()}


def _built(make: Callable[[], keras.Model], trained: TrainedNetwork, folder: Path) -> keras.Model:
    """A sketch of the network: options that ask for 100 GB take none."""
    try:
        return sketch(make)
    except InputError:
        raise
    except Exception as error:  # Keras raises what it likes where sizes do not fit
        description = f"{trained.architecture} with {trained.options}"
        problem = f"describes a network that cannot be built ({description}: {str(error)[:200]})."
        raise InputError(folder, problem, "Copy the folder again, as it was saved.") from error
