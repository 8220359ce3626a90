"""A random forest that tells true tumours from false alarms among candidates (system H, Chlebus et al. 2017).

scikit-learn grows the trees; from then on they are plain arrays, which predict here exactly as scikit-learn
does. On disk forest.safetensors holds the arrays and forest.json what they are; nothing is unpickled. Train
it on candidates of patients that the network had not seen (out of fold): on its own training patients a
network makes too few false alarms.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save

from livseg_lib import provenance
from livseg_lib.errors import InputError
from livseg_lib.files import write_atomically

TREES = 200
LEAST_LEAF = 2  # candidates in a leaf: one alone would be learnt by heart
SHUFFLES = 10


@dataclass(frozen=True, eq=False)
class Forest:
    """Decision trees, one after another in flat arrays of one entry a node; a leaf is its own child."""

    feature_names: tuple[str, ...]  # columns that it looks at, in the order of `feature`
    roots: np.ndarray  # int32 (trees,): first node of each tree
    left: np.ndarray  # int32 (nodes,): next node where the feature is at most the threshold
    right: np.ndarray  # int32 (nodes,): next node where it is larger. Children stand behind their parents.
    feature: np.ndarray  # int32 (nodes,): which feature decides
    threshold: np.ndarray  # float64 (nodes,)
    missing_left: np.ndarray  # bool (nodes,): whether NaN goes left
    probability: np.ndarray
    """float64 (nodes,): share of true tumours among the training candidates there, classes balanced."""

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Probability of a true tumour, float64 (n,), 0 to 1, a row; columns in any order, NaN allowed.
        Raises InputError where a column that it learnt from is missing."""
        leaves = self._leaves(_columns(features, self.feature_names))
        total = np.zeros(len(features))
        for tree in leaves.T:  # one after another, as scikit-learn adds them up: equal to the last bit
            total += self.probability[tree]
        return total / len(self.roots)

    def _leaves(self, values: np.ndarray) -> np.ndarray:
        """Where each row ends in each tree, int32 (n, trees): all walk down together."""
        rows = np.arange(len(values))[:, None]
        nodes = np.broadcast_to(self.roots, (len(values), len(self.roots)))
        while (self.left[nodes] != nodes).any():
            value = values[rows, self.feature[nodes]]
            goes_left = np.where(np.isnan(value), self.missing_left[nodes], value <= self.threshold[nodes])
            nodes = np.where(goes_left, self.left[nodes], self.right[nodes])
        return nodes


def fit_forest(features: pd.DataFrame, is_tumor: np.ndarray, seed: int, trees: int = TREES) -> Forest:
    """Learn from a row a candidate and its truth, bool (n,). The same seed and rows give the same forest.

    Both classes weigh equally, however rare true tumours are. Every column is a feature; NaN is a value of
    its own. Raises InputError unless there are candidates of both classes.
    """
    truth = np.asarray(is_tumor, bool)
    if not 0 < truth.sum() < len(truth):
        problem = f"are {truth.sum()} true tumours and {(~truth).sum()} false alarms; a forest needs both."
        remedy = "Take a lower tumour threshold or more patients, or leave the filter out."
        raise InputError("candidates", problem, remedy)
    from sklearn.ensemble import RandomForestClassifier  # takes a second to import

    names = tuple(features.columns)
    grower = RandomForestClassifier(
        n_estimators=trees, min_samples_leaf=LEAST_LEAF, class_weight="balanced", random_state=seed
    )
    grower.fit(_columns(features, names), truth)
    return _as_arrays([tree.tree_ for tree in grower.estimators_], names)


def permutation_importance(
    forest: Forest, features: pd.DataFrame, is_tumor: np.ndarray, seed: int
) -> pd.DataFrame:
    """What each feature is worth: how much ROC-AUC is lost when its values are shuffled among candidates.

    A row a feature, the most important first: `feature, auc_drop, auc_drop_std` (over SHUFFLES). Use
    candidates of other patients than it was trained on. Features that say the same share their worth.
    All NaN where the candidates are of one class only, or none. (Breiman 2001, doi:10.1023/A:1010933404324.)
    """
    from sklearn.metrics import roc_auc_score

    random, truth = np.random.default_rng(seed), np.asarray(is_tumor, bool)

    def auc(table: pd.DataFrame) -> float:
        is_defined = 0 < truth.sum() < len(truth)
        return float(roc_auc_score(truth, forest.predict(table))) if is_defined else np.nan

    whole = auc(features)
    rows = []
    for name in forest.feature_names:
        values = features[name].to_numpy(copy=True)  # NumPy fails on a read-only empty column
        shuffles = (features.assign(**{name: random.permutation(values)}) for _ in range(SHUFFLES))
        drops = [whole - auc(shuffled) for shuffled in shuffles]
        rows.append({"feature": name, "auc_drop": np.mean(drops), "auc_drop_std": np.std(drops)})
    return pd.DataFrame(rows).sort_values("auc_drop", ascending=False, ignore_index=True, kind="stable")


def _columns(features: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    """float32 (n, features), as scikit-learn's trees compare them."""
    if missing := [name for name in names if name not in features]:
        problem = f"lack the columns {', '.join(missing)}."
        raise InputError("features", problem, "Describe candidates as in training.")
    return np.array(features[list(names)], np.float32)  # a copy: pandas lends its own for reading only


def _as_arrays(trees: list, names: tuple[str, ...]) -> Forest:
    """scikit-learn's trees (its leaves have no children and no feature) joined into one `Forest`."""
    counts = [tree.node_count for tree in trees]
    roots, indices = np.cumsum([0, *counts[:-1]]), np.arange(sum(counts))

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(tree, name) for tree in trees])

    sides = joined("children_left"), joined("children_right")
    left, right = (np.where(child < 0, indices, np.repeat(roots, counts) + child) for child in sides)
    feature, probability = np.maximum(joined("feature"), 0), joined("value")[:, 0, 1]
    values = (roots, left, right, feature, joined("threshold"), joined("missing_go_to_left"), probability)
    arrays = zip(DTYPES.items(), values, strict=True)
    return Forest(names, **{name: array.astype(kind) for (name, kind), array in arrays})


FORMAT = 1
KIND = "livseg candidate forest"
REMEDY = "Name a folder with forest.json and forest.safetensors."
COUNT = provenance.between(1, 2**31 - 1, "integer")
SCHEMA = provenance.record(
    {
        "kind": {"const": KIND},
        "format": {"const": FORMAT},
        "features": {**provenance.list_of(provenance.NAME, 1, 1000), "uniqueItems": True},
        "trees": COUNT,
        "nodes": COUNT,
        "arrays_sha256": provenance.SHA256,
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
    """Write the folder; forest.json comes last, so that a folder with one is whole. `description` is
    JSON-ready: what the forest was trained on, its threshold, and so on."""
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
    path = provenance.inside(folder, "forest.safetensors")
    description = provenance.read_description(folder / "forest.json", f"a {KIND}", REMEDY)
    provenance.require(description, SCHEMA, folder, f"a {KIND}", REMEDY)
    try:
        if not path.is_file():  # pipes and devices have no end
            raise FileNotFoundError("there is no forest.safetensors")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != description["arrays_sha256"]:
            raise InputError(path, "is not the file that forest.json describes.", "Copy both again.")
        arrays = load(content)
        if set(arrays) != set(DTYPES):
            raise KeyError(f"its arrays are {', '.join(sorted(arrays))[:200]}")
        forest = Forest(tuple(description["features"]), **arrays)
    except (OSError, LookupError, TypeError, SafetensorError) as error:
        problem = f"is not a {KIND} ({type(error).__name__}: {error})."
        raise InputError(folder, problem, REMEDY) from error
    _require_trees(forest, path)
    counts = description["trees"], description["nodes"]
    provenance.require_equal((len(forest.roots), len(forest.left)), counts, "trees and nodes:", folder)
    return forest, description


def _require_trees(forest: Forest, path: Path) -> None:
    """Raise InputError unless every walk ends: children stand behind parents, a leaf is its own child."""
    arrays = {name: getattr(forest, name) for name in DTYPES}
    nodes, indices = len(forest.left), np.arange(len(forest.left))
    fits = all(array.dtype == DTYPES[name] and array.ndim == 1 for name, array in arrays.items()) and all(
        len(array) == nodes for name, array in arrays.items() if name != "roots"
    )
    if fits and len(forest.roots):
        behind = np.minimum(forest.left, forest.right) > indices
        leaf = (forest.left == indices) & (forest.right == indices)
        bounds = [(forest.roots, nodes), (forest.feature, len(forest.feature_names)), (forest.left, nodes)]
        bounds += [(forest.right, nodes), (forest.probability, 1 + 1e-9)]
        within = all(((values >= 0) & (values < stop)).all() for values, stop in bounds)
        if within and (behind | leaf).all() and not np.isnan(forest.threshold).any():
            return
    raise InputError(path, "holds arrays that are no decision trees.", "Train the forest again.")
