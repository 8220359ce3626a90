"""Keras variables in a safetensors file: bare named arrays and a JSON record; nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from livseg_lib.atomic import written_aside
from livseg_lib.errors import InputError


def save_variables(path: Path, variables: list, record: dict) -> None:
    """Write Keras `variables` under their paths, and a JSON-ready `record`, atomically."""
    arrays = {variable.path: np.array(variable, order="C") for variable in variables}
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
    remedy = "Copy it anew, or delete it and train again."
    for variable in variables:
        array, shape = arrays.get(variable.path), tuple(variable.shape)
        wanted = f"{variable.path} of shape {shape}, {keras.backend.standardize_dtype(variable.dtype)}"
        if array is None or f"{variable.path} of shape {array.shape}, {array.dtype}" != wanted:
            raise InputError(where, f"holds no {wanted}: another network's weights.", remedy)
        if not np.isfinite(array).all():
            raise InputError(where, f"holds numbers in {variable.path} that are not finite.", remedy)
    if left := sorted(set(arrays) - {variable.path for variable in variables}):
        problem = (
            f"holds {len(left)} arrays more than the network, such as {left[0]}: another network's weights."
        )
        raise InputError(where, problem, remedy)
