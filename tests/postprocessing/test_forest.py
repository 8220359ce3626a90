"""The stored forest is scikit-learn's, to the last bit, and nothing else passes for one."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.ensemble import RandomForestClassifier

from livseg_lib.errors import InputError
from livseg_lib.postprocessing import forest as module

NAMES = ("volume_ml", "mean_hu", "noise", "sphericity")


def candidates(count: int, seed: int, missing: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """A table whose truth follows from the first two columns, and the truth."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(random.normal(size=(count, len(NAMES))), columns=list(NAMES))
    truth = (2 * table.volume_ml + table.mean_hu > 1).to_numpy()
    return table.mask(random.random(table.shape) < missing), truth


def small_forest(missing: float = 0.0, seed: int = 3):
    return module.fit_forest(*candidates(200, 0, missing), seed, trees=12)


def both_fitted(table: pd.DataFrame, truth: np.ndarray, seed: int, trees: int):
    """A forest, and what scikit-learn's own makes of a table."""
    options = {"min_samples_leaf": module.LEAST_LEAF, "class_weight": "balanced", "random_state": seed}
    reference = RandomForestClassifier(trees, **options).fit(np.array(table, np.float32), truth)
    forest = module.fit_forest(table, truth, seed, trees)
    return forest, lambda others: reference.predict_proba(np.array(others, np.float32))[:, 1]


@pytest.mark.parametrize(("missing", "seed"), [(0.0, 0), (0.2, 1)])
def test_predicts_what_scikit_learn_predicts(missing, seed):
    forest, expected = both_fitted(*candidates(300, seed, missing), seed, trees=25)
    others, _ = candidates(2000, seed + 10, missing=0.1)  # NaN also where training had none
    np.testing.assert_array_equal(forest.predict(others), expected(others))


def test_values_on_a_threshold_go_the_way_scikit_learn_sends_them():
    table = pd.DataFrame({"x": np.repeat([0.0, 0.1, 0.2, 0.3], 5)})
    forest, expected = both_fitted(table, np.repeat([False, True, False, True], 5), seed=0, trees=5)
    cuts = pd.DataFrame({"x": np.concatenate([forest.threshold, np.nextafter(forest.threshold, 1)])})
    np.testing.assert_array_equal(forest.predict(cuts), expected(cuts))


def test_learns_what_can_be_learnt_and_the_seed_decides():
    table, truth = candidates(200, 5)
    assert ((small_forest().predict(table) >= 0.5) == truth).mean() > 0.9
    np.testing.assert_array_equal(small_forest().predict(table), small_forest().predict(table))
    assert (small_forest().predict(table) != small_forest(seed=4).predict(table)).any()


def test_columns_are_found_by_name_and_missed_by_name():
    table, _ = candidates(20, 1)
    forest = small_forest()
    shuffled = table[list(NAMES[::-1])].assign(another=1.0)
    np.testing.assert_array_equal(forest.predict(shuffled), forest.predict(table))
    with pytest.raises(InputError, match="lack the columns noise"):
        forest.predict(table.drop(columns="noise"))


@pytest.mark.parametrize("truth", [np.zeros(5, bool), np.ones(5, bool), np.zeros(0, bool)])
def test_one_class_alone_teaches_nothing(truth):
    with pytest.raises(InputError, match="a forest needs both"):
        module.fit_forest(candidates(len(truth), 0)[0], truth, seed=0)


def test_importance_ranks_what_decides_above_noise():
    table = module.permutation_importance(small_forest(), *candidates(300, 7), seed=0)
    assert table.feature.tolist()[:2] == ["volume_ml", "mean_hu"] and set(table.feature) == set(NAMES)
    assert table.auc_drop[0] > 0.1 and table.auc_drop.iloc[-1] < 0.02
    for count in (9, 0):
        features = candidates(9, 7)[0].head(count)
        unknown = module.permutation_importance(small_forest(), features, np.zeros(count, bool), seed=0)
        assert unknown.auc_drop.isna().all()


def test_saved_and_loaded_predict_the_same(tmp_path):
    forest, (table, _) = small_forest(missing=0.1), candidates(300, 9, missing=0.1)
    folder = module.save_forest(forest, tmp_path / "forest", {"threshold": 0.4})
    loaded, description = module.load_forest(folder)
    np.testing.assert_array_equal(loaded.predict(table), forest.predict(table))
    assert loaded.feature_names == NAMES and description["threshold"] == 0.4 and description["trees"] == 12


def in_circles(arrays):
    inner = np.flatnonzero(arrays["left"] != np.arange(len(arrays["left"])))[1]
    arrays["right"][inner] = 0


SPOILED = {
    "in circles": in_circles,
    "beyond the end": lambda arrays: arrays["left"].put(0, len(arrays["left"])),
    "other feature": lambda arrays: arrays["feature"].put(0, len(NAMES)),
    "other type": lambda arrays: arrays.update(threshold=arrays["threshold"].astype(np.float32)),
    "cut short": lambda arrays: arrays.update(probability=arrays["probability"][:-1].copy()),
    "no number": lambda arrays: arrays["probability"].put(-1, np.nan),
    "no array": lambda arrays: arrays.pop("roots"),
    "no trees": lambda arrays: arrays.update(roots=arrays["roots"][:0].copy()),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_arrays_that_are_no_trees_are_refused_even_with_a_fitting_checksum(tmp_path, spoil):
    module.save_forest(small_forest(), tmp_path, {})
    arrays = load_file(tmp_path / "forest.safetensors")
    spoil(arrays)
    save_file(arrays, tmp_path / "forest.safetensors")
    description = json.loads((tmp_path / "forest.json").read_text())
    digest = hashlib.sha256((tmp_path / "forest.safetensors").read_bytes()).hexdigest()
    (tmp_path / "forest.json").write_text(json.dumps({**description, "arrays_sha256": digest}))
    with pytest.raises(InputError, match=r"no decision trees|not a livseg candidate forest"):
        module.load_forest(tmp_path)


FOREIGN = [
    ("forest.json", text) for text in (b"{", b"[]", b"{}", b'{"kind": "a song", "format": 1}', b"\xff")
]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *((*foreign, "not a livseg candidate forest") for foreign in FOREIGN),
        *((name, None, r"Name a folder with forest\.json") for name in ("forest.json", "forest.safetensors")),
        ("forest.safetensors", b"other", r"not the file that forest\.json describes"),
    ],
)
def test_foreign_missing_and_changed_files_are_refused(tmp_path, name, content, message):
    module.save_forest(small_forest(), tmp_path, {})
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        module.load_forest(tmp_path)
