"""Model folders: networks of Keras, exported to ONNX, forests, cascades; their descriptions and weights."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from faulty_inputs import change_tree, damage, flip_bits, require, run_command
from safetensors import numpy as safetensors
from scan_doors import damaged_nifti, nibabel_reads, nifti_pair

from livseg_lib.errors import InputError
from livseg_lib.postprocessing.forest import DTYPES, fit_forest, load_forest, save_forest
from livseg_lib.volumes import Volume

OPTIONS = {"filters": 2, "levels": 2}
DIGESTS = {
    **{"weights.safetensors": "weights_sha256", "network.onnx": "onnx_sha256"},
    **{"forest.safetensors": "arrays_sha256"},
}
SCAN = Volume(np.random.default_rng(0).integers(-200, 300, (2, 24, 20), np.int16), (2.5, 0.8, 0.7))


@cache
def networks() -> dict[str, Path]:
    """A small U-Net as Keras and as ONNX."""
    from livseg_lib.inference.export import export_system
    from livseg_lib.models import build_model
    from livseg_lib.preprocessing.recipe import Recipe
    from livseg_lib.training.model_folder import TrainedModel, save_model

    home = Path(tempfile.mkdtemp(prefix="livseg-faults-"))
    network = build_model("unet", (32, 32, 1), 2, **OPTIONS)
    recipe = Recipe(windows=("liver",), size=32)
    thresholds = {"liver": 0.5, "tumor": 0.4}
    trained = TrainedModel("unet", "unet", OPTIONS, network, recipe, "both", thresholds, {"run": "r"})
    save_model(trained, home / "keras")
    export_system(home / "keras", home / "onnx", SCAN, ("onnx",))
    return {"keras": home / "keras", "onnx": home / "onnx"}


@cache
def forest_folder() -> Path:
    """A forest of three trees."""
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.random((60, 3)), columns=["volume", "contrast", "texture"])
    forest = fit_forest(features, features.volume > 0.5, 0, trees=3)
    home = Path(tempfile.mkdtemp(prefix="livseg-faults-"))
    return save_forest(forest, home / "forest", {"threshold": 0.5})


def spoil(rng: np.random.Generator, folder: Path, description: str) -> None:
    """The description, or the weights, perhaps with a checksum to match; or a file is gone."""
    weights = next(name for name in DIGESTS if (folder / name).exists())
    path, said = folder / weights, json.loads((folder / description).read_text())
    kinds = ("value", "value", "bytes", "weights", "weights that match", "header that matches", "lost")
    how = rng.choice(kinds)
    if how == "value":
        change_tree(rng, said)
        (folder / description).write_text(json.dumps(said))
    elif how == "bytes":
        (folder / description).write_bytes(damage(rng, (folder / description).read_bytes()))
    elif how == "lost":
        (folder / str(rng.choice([description, weights]))).unlink()
    else:
        content = path.read_bytes()
        of_header = how == "header that matches"
        path.write_bytes(flip_bits(rng, content, 0, 400) if of_header else damage(rng, content))
        if how.endswith(("match", "matches")):
            said[DIGESTS[weights]] = hashlib.sha256(path.read_bytes()).hexdigest()
            (folder / description).write_text(json.dumps(said))


def network(kind: str, rng: np.random.Generator, folder: Path) -> None:
    """What loads is what the files say, answers as they say, and can be used."""
    from livseg_lib.application.predictor import describe_expectations
    from livseg_lib.inference.cascade import load_system, outline

    shutil.copytree(networks()[kind], folder / "model")
    spoil(rng, folder / "model", "model.json")
    system = load_system(folder / "model")
    describe_expectations(system)
    said = json.loads((folder / "model" / "model.json").read_bytes())
    thresholds = dict(system.thresholds)
    require(system.target == said["target"] and thresholds == said["thresholds"], "other description")
    require(set(thresholds) >= set(system.structures), "a structure without a threshold")
    require(all(0 <= float(value) <= 1 for value in thresholds.values()), f"thresholds {thresholds}")
    if kind == "keras":
        arrays = safetensors.load_file(folder / "model" / "weights.safetensors")
        mine = {variable.path: np.asarray(variable) for variable in system.network.weights}
        require(set(arrays) == set(mine), "arrays are left over")
        equal = all(np.array_equal(arrays[name], mine[name], equal_nan=True) for name in mine)
        require(equal, "other weights")
        counted = sum(array.size for array in mine.values())
        require(said["parameters"] == counted, f"{said['parameters']} parameters said")
    labels = outline(system, SCAN)
    require(labels.shape == SCAN.voxels.shape and labels.max() <= 2, "no labels")


def predict(rng: np.random.Generator, folder: Path) -> None:
    """A damaged NIfTI file outlined by the command: the mask lies on the grid that nibabel sees."""
    end, content, _ = damaged_nifti(rng, nifti_pair(rng)[0])
    scan = folder / f"scan{end}"
    scan.write_bytes(content)
    run_command(["predict", str(scan), "--model", str(networks()["onnx"]), "--out", str(folder / "out")])
    (row,) = pd.read_csv(folder / "out" / "cases.csv").itertuples()
    if row.state == "failed":
        raise InputError(scan, row.reason, "as cases.csv says")
    mask = nibabel.as_closest_canonical(nibabel.load(folder / "out" / "scan" / "mask.nii.gz"))
    shape = tuple(np.array(mask.shape)[::-1])
    require(shape == nibabel_reads(content)[0].shape, f"a mask of {shape}")


def forest(rng: np.random.Generator, folder: Path) -> None:
    """Arrays are those of the file, and every walk through the trees ends."""
    shutil.copytree(forest_folder(), folder / "forest")
    spoil(rng, folder / "forest", "forest.json")
    loaded, said = load_forest(folder / "forest")
    arrays = safetensors.load_file(folder / "forest" / "forest.safetensors")
    require(set(arrays) == set(DTYPES), "arrays are left over")
    equal = all(np.array_equal(getattr(loaded, name), arrays[name], equal_nan=True) for name in DTYPES)
    require(equal, "other arrays")
    require(said == json.loads((folder / "forest" / "forest.json").read_bytes()), "another description")
    features = np.random.default_rng(1).random((5, len(loaded.feature_names)))
    probability = loaded.predict(pd.DataFrame(features, columns=loaded.feature_names))
    require(bool(((probability >= 0) & (probability <= 1)).all()), f"probabilities {probability}")


DOORS = {
    **{kind: partial(network, kind) for kind in ("keras", "onnx")},
    **{"predict": predict, "forest": forest},
}
