"""Keras variables in a safetensors file: bare named arrays and a JSON record; nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path

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
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return arrays, json.loads(file.metadata()["record"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        problem = f"is not a readable weights file ({error})."
        raise InputError(path, problem, "Delete it and train again.") from error


def assign_arrays(variables: list, arrays: dict[str, np.ndarray], where: str | Path) -> None:
    """Fill `variables` by their paths. Raises InputError unless each has an array of its shape."""
    for variable in variables:
        array = arrays.get(variable.path)
        if array is None or array.shape != tuple(variable.shape):
            problem = f"holds no {variable.path} of shape {tuple(variable.shape)}: another network's weights."
            raise InputError(where, problem, "Delete it and train again.")
        variable.assign(array)
