"""The numbers of a network, on disk as bare named arrays and a JSON record: nothing is unpickled.

Read and compared without Keras, which takes seconds to import.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from livseg_lib.errors import InputError
from livseg_lib.files import written_aside
from livseg_lib.provenance import code_of, digest, is_ours

if TYPE_CHECKING:  # only named in signatures
    import keras


def save_variables(path: Path, variables: list, record: dict, half: bool = False) -> None:
    """Write Keras `variables` under their paths, and a JSON-ready `record`, atomically.

    `half`: kernels as float16. Vectors are few numbers, and variances reach beyond its range.
    """
    arrays = {variable.path: np.array(variable, order="C") for variable in variables}
    if half:
        arrays = {path: array.astype("f2") if array.ndim > 1 else array for path, array in arrays.items()}
    with written_aside(path) as partial:
        save_file(arrays, partial, metadata={"record": json.dumps(record)})


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays by variable path, and the record. Raises InputError where the file is damaged."""
    try:
        if not path.is_file():  # pipes and devices have no end
            raise FileNotFoundError("there is no such file")
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            record = json.loads(file.metadata()["record"])
        if not isinstance(record, dict):
            raise TypeError("its record is no object")
        return arrays, record
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        problem = f"is not a readable weights file ({error})."
        raise InputError(path, problem, "Delete it and train again.") from error


def assign_arrays(variables: list, arrays: dict[str, np.ndarray], where: str | Path) -> None:
    """Fill `variables` by their paths.

    Raises InputError unless each has an array of its shape and type, all numbers are finite, and no array is
    left over.
    """
    require_arrays(variables, arrays, where)
    for variable in variables:
        variable.assign(arrays[variable.path])


def require_arrays(variables: list, arrays: dict[str, np.ndarray], where: str | Path) -> None:
    """What `assign_arrays` asks of `arrays`, which may be asked before memory for the variables is taken."""
    remedy = "Copy it again, or delete it and train again."
    for variable in variables:
        array, shape = arrays.get(variable.path), tuple(variable.shape)
        expected = f"{variable.path} of shape {shape}, {variable.dtype}"
        if array is None or f"{variable.path} of shape {array.shape}, {array.dtype}" != expected:
            raise InputError(where, f"holds no {expected}: another network's weights.", remedy)
        if not np.isfinite(array).all():
            raise InputError(where, f"holds numbers in {variable.path} that are not finite.", remedy)
    if left := sorted(set(arrays) - {variable.path for variable in variables}):
        problem = f"holds {len(left)} arrays too many, such as {left[0]}: another network's weights."
        raise InputError(where, problem, remedy)


def number_in_order(model: keras.Model) -> None:
    """Call the layers that were given no name conv2d, conv2d_1, ... in their order, and their weights alike.

    Keras counts on from what was built before in the process, and weights are kept by these names.
    """
    names, counts = {}, Counter()
    for layer in model._flatten_layers(include_self=False):
        plain = re.sub(r"_\d+$", "", layer.name)
        if plain.replace("_", "") == type(layer).__name__.lower():
            names[layer.name] = f"{plain}_{counts[plain]}" if counts[plain] else plain
            layer.name, counts[plain] = names[layer.name], counts[plain] + 1
    for variable in model.variables:
        variable._path = "/".join(names.get(part, part) for part in variable.path.split("/"))


def describe_network(model: keras.Model, trainable: bool = True) -> str:
    """Digest of a network's layers, their wiring and weights' shapes, and of the code of layers of ours.

    Keras numbers what has no name by what was built before in the process: here it goes by its order. With
    `trainable` it counts which layers stand still. In how many bits it computes does not count: that is the
    machine's, not the network's.
    """
    config = {**model.get_config(), "name": ""}  # Keras numbers that, too
    names = {name: f"node {number}" for number, name in enumerate(_node_names(config))}
    names |= {f"{prefix}{name}": "float32" for prefix in ("", "mixed_") for name in ("float16", "bfloat16")}
    return digest(
        [
            _renamed(config, names, () if trainable else ("trainable",)),
            [tuple(weight.shape) for weight in model.weights],
            sorted(code_of(type(layer), *_functions_of_ours(layer)) for layer in model._flatten_layers()),
        ]
    )


def _functions_of_ours(layer: keras.Layer) -> list:
    """A layer's activation, regularizer and alike, where it is ours: its settings tell the name alone."""
    held = (getattr(layer, key, None) for key in layer.get_config())
    return [each for each in held if callable(each) and is_ours(getattr(each, "__module__", None))]


def _node_names(config: object) -> Iterator[str]:
    """Names of all nodes of a configuration, nested networks included, in their order."""
    if isinstance(config, dict):
        if "inbound_nodes" in config:
            yield config["name"]
        config = list(config.values())
    if isinstance(config, list | tuple):
        for item in config:
            yield from _node_names(item)


def _renamed(config: object, names: dict[str, str], left_out: tuple[str, ...]) -> object:
    if isinstance(config, dict):
        return {key: _renamed(item, names, left_out) for key, item in config.items() if key not in left_out}
    if isinstance(config, list | tuple):
        return [_renamed(item, names, left_out) for item in config]
    return names.get(config, config) if isinstance(config, str) else config
