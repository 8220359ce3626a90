"""A forest on disk: forest.safetensors holds bare arrays, forest.json what they are; nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from livseg_lib.atomic import write_atomically
from livseg_lib.descriptions import (
    NAME,
    SHA256,
    between,
    inside,
    list_of,
    read_description,
    record,
    require,
    require_equal,
)
from livseg_lib.errors import InputError
from livseg_lib.postprocessing.forest import Forest

FORMAT = 1
KIND = "livseg candidate forest"
REMEDY = "Name a folder with forest.json and forest.safetensors."
COUNT = between(1, 2**31 - 1, "integer")
SCHEMA = record(
    {
        "kind": {"const": KIND},
        "format": {"const": FORMAT},
        "features": {**list_of(NAME, 1, 1000), "uniqueItems": True},
        "trees": COUNT,
        "nodes": COUNT,
        "arrays_sha256": SHA256,
    }
)
DTYPES = {
    "roots": np.int32,
    "left": np.int32,
    "right": np.int32,
    "feature": np.int32,
    "threshold": np.float64,
    "missing_left": np.bool_,
    "probability": np.float64,
}


def save_forest(forest: Forest, folder: Path, description: dict) -> Path:
    """Write the folder; forest.json comes last, so that a folder with one is whole.

    `description` is JSON-ready: what the forest was trained on, its threshold, and so on.
    """
    content = save({name: np.ascontiguousarray(getattr(forest, name)) for name in DTYPES})
    write_atomically(folder / "forest.safetensors", content)
    everything = {
        **description,
        "kind": KIND,
        "format": FORMAT,
        "features": list(forest.feature_names),
        "trees": len(forest.roots),
        "nodes": len(forest.left),
        "arrays_sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(folder / "forest.json", (json.dumps(everything, indent=2) + "\n").encode())
    return folder


def load_forest(folder: Path) -> tuple[Forest, dict]:
    """The forest that `save_forest` wrote, and its whole description.

    Raises InputError where a file is missing, damaged or of another kind, and for arrays that are no trees
    (which could otherwise send a prediction round in circles).
    """
    path = inside(folder, "forest.safetensors")
    description = read_description(folder / "forest.json", f"a {KIND}", REMEDY)
    require(description, SCHEMA, folder, f"a {KIND}", REMEDY)
    try:
        if not path.is_file():  # pipes and devices have no end
            raise FileNotFoundError("there is no forest.safetensors")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != description["arrays_sha256"]:
            raise InputError(path, "is not the file that forest.json describes.", "Copy both anew.")
        arrays = load(content)
        if set(arrays) != set(DTYPES):
            raise KeyError(f"its arrays are {', '.join(sorted(arrays))[:200]}")
        forest = Forest(tuple(description["features"]), **arrays)
    except (OSError, LookupError, TypeError, SafetensorError) as error:
        problem = f"is not a {KIND} ({type(error).__name__}: {error})."
        raise InputError(folder, problem, REMEDY) from error
    _require_trees(forest, path)
    require_equal(
        (len(forest.roots), len(forest.left)),
        (description["trees"], description["nodes"]),
        "trees and nodes:",
        folder,
    )
    return forest, description


def _require_trees(forest: Forest, path: Path) -> None:
    """Raise InputError unless every walk ends: children stand behind parents, a leaf is its own child."""
    arrays = {name: getattr(forest, name) for name in DTYPES}
    nodes = len(forest.left)
    own = np.arange(nodes)
    is_sound = (
        all(array.dtype == DTYPES[name] and array.ndim == 1 for name, array in arrays.items())
        and all(len(array) == nodes for name, array in arrays.items() if name != "roots")
        and len(forest.roots) > 0
        and _all_within(forest.roots, nodes)
        and _all_within(forest.feature, len(forest.feature_names))
        and all(_all_within(child, nodes) for child in (forest.left, forest.right))
        and bool(
            np.where(
                forest.left == own, forest.right == own, np.minimum(forest.left, forest.right) > own
            ).all()
        )
        and _all_within(forest.probability, 1 + 1e-9)
        and not np.isnan(forest.threshold).any()
    )
    if not is_sound:
        raise InputError(path, "holds arrays that are no decision trees.", "Train the forest again.")


def _all_within(values: np.ndarray, stop: float) -> bool:
    return bool(((values >= 0) & (values < stop)).all())
