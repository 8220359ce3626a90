"""livseg's side of `make bench`, and the floors below which no program of its kind can go.

Run as bench_peers.py is, by livseg's own Python: python bench_ours.py WORK CONTENDER FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
from bench_peers import BATCH, STEPS, Run, command, serve

LIVSEG = (sys.executable, "-m", "livseg_lib")
FLOOR = "floor: "  # before the names of contenders that do less than is asked: what cannot be saved


def reading(folder: Path) -> Run:
    from livseg_lib.volumes import load_volume

    return lambda: load_volume(folder / "volume-0.nii.gz").voxels


def decoding(folder: Path) -> Run:
    from isal import igzip

    def run() -> None:
        with igzip.open(folder / "volume-0.nii.gz") as file:
            while file.read(2**20):
                pass

    return run


def extraction(folder: Path, workers: int = 1) -> Run:
    from livseg_lib.datasets.catalogue import find_cases
    from livseg_lib.preprocessing.extraction import extract_dataset
    from livseg_lib.preprocessing.recipe import Recipe

    cases = find_cases(folder, "lits").cases
    recipe = Recipe(size=json.loads((folder / "extraction.json").read_text())["size"])

    def run() -> None:
        shutil.rmtree(folder / "extracted", ignore_errors=True)
        extract_dataset(cases, recipe, folder / "extracted", workers)

    return run


def decoding_and_encoding(folder: Path) -> Run:
    """Both files of each scan decoded, and pictures that are there already packed and written."""
    from isal import igzip, isal_zlib

    extraction(folder)()
    kept = folder / "packed"
    shutil.rmtree(kept, ignore_errors=True)
    (folder / "extracted").rename(kept)
    arrays = {path: np.load(path) for path in kept.glob("*/*.npy")}

    def run() -> None:
        shutil.rmtree(kept)  # a new file costs more than one that is written over
        for path in folder.glob("*.nii.gz"):
            igzip.decompress(path.read_bytes())
        for path, array in arrays.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array)
            for k, picture in enumerate(array):
                path.with_name(f"{path.stem}_{k}").write_bytes(isal_zlib.compress(picture.tobytes(), 2))

    return run


def batches(folder: Path) -> Run:
    import pandas as pd

    from livseg_lib.sampling.batches import SliceBatches

    count = len(np.load(folder / "images.npy", mmap_mode="r"))
    slices = pd.DataFrame({"array": ".", "array_index": range(count)})
    training = SliceBatches(slices, folder, "liver", BATCH, augmentation="strong")

    def run() -> None:
        for number in range(len(training)):
            training[number]

    return run


def training_steps(folder: Path, size: int = 128, channels: int = 1, levels: int = 5) -> Run:
    import keras

    from livseg_lib.models import build_model
    from livseg_lib.training.losses import bce_picture_dice

    rng = np.random.default_rng(0)
    pictures = rng.random((BATCH, size, size, channels), np.float32)
    truth = (pictures[..., :1] > 0.5).astype(np.float32)
    network = build_model("unet", (size, size, channels), 1, filters=16, levels=levels, patch=2)
    network.compile(keras.optimizers.Adam(1e-3), bce_picture_dice)

    def run() -> list[int]:
        for _ in range(STEPS):
            network.train_on_batch(pictures, truth)
        return [network.count_params()]

    return run


def steps_without_onednn(folder: Path) -> Run:
    """With the kernels that TensorFlow takes by itself where a processor has no VNNI."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    return training_steps(folder)


def consuming(folder: Path) -> Run:
    """The quick U-Net learning as many pictures as the contenders of batches make."""
    steps = training_steps(folder, 256, 3, levels=4)
    rounds = len(np.load(folder / "images.npy", mmap_mode="r")) // (BATCH * STEPS)
    return lambda: [steps() for _ in range(rounds)] and None


def network_alone(folder: Path, onnx: bool = True) -> Run:
    """The network on board, asked about as many pictures as the scan has slices."""
    from livseg_lib.inference.export import write_onnx
    from livseg_lib.inference.predict import predict_planes
    from livseg_lib.shelf import find_model
    from livseg_lib.systems import DEFAULT_MODEL
    from livseg_lib.training.model_folder import load_model
    from livseg_lib.training.onnx_network import OnnxNetwork

    trained = load_model(find_model(DEFAULT_MODEL) / "liver")
    network, size = trained.network, trained.recipe.size
    if onnx and not isinstance(network, OnnxNetwork):
        network = OnnxNetwork(write_onnx(network, folder).read_bytes())
    count = json.loads((folder / "scan.json").read_text())["slices"]
    pictures = np.random.default_rng(0).integers(0, 256, (count, size, size, 1), np.uint8)
    return lambda: [predict_planes(network, pictures), None][1]


def scoring(folder: Path) -> Run:
    from livseg_lib.evaluation.cases import score_case

    pair = [np.load(folder / f"{name}.npy") for name in ("prediction", "reference")]
    spacing = json.loads((folder / "scan.json").read_text())["spacing_mm"]

    def run() -> list[float]:
        found = score_case(*pair, spacing)
        names = ("liver_dice", "liver_assd", "liver_hd95", "n_tumors_reference", "true_positives")
        return [float(found[name]) for name in names]

    return run


def whole_command(folder: Path, words: str) -> Run:
    """`livseg` with `words`; @ is the folder that it reads and whose out/ it writes."""

    def run() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        command(*LIVSEG, *words.replace("@", str(folder)).split())()

    return run


def pairing(folder: Path) -> Run:
    """Files found in a folder by their names, and paired, before any is read."""
    from livseg_lib.datasets.catalogue import find_cases
    from livseg_lib.evaluation.pairing import pair_files

    return lambda: [len(find_cases(folder, "lits").cases), len(pair_files(folder, folder)[0])]


def sharing(folder: Path) -> Run:
    """Cases that take no time, shared out to two processes."""
    from livseg_lib.datasets.catalogue import find_cases
    from livseg_lib.processes import in_processes

    cases = find_cases(folder, "lits").cases
    return lambda: [len([*in_processes(str, cases, 2)])]


def listing(folder: Path) -> Run:
    """The table of `livseg predict`, written as cases come that take no time."""
    from livseg_lib.application import results
    from livseg_lib.application.inputs import find_inputs

    patients = find_inputs(folder)
    row = dict.fromkeys(results._COLUMNS[1:], 1.0) | {"state": "done", "resumed": False}
    results._treat = lambda *given, **named: dict(row)
    return lambda: [len(results.predict_batch(patients, None, folder / "out"))]


def board(folder: Path, minutes: float, name: str, changed: dict) -> None:
    """As `bench_peers.board`: the recipe of notebooks/params/best.yaml through livseg's own training, but for
    the parameters `changed`.

    Its dial of minutes goes by the clock; here by the processor, as others may use it, too.
    """
    import time
    from types import SimpleNamespace

    import pandas as pd
    import yaml
    from bench_peers import processor_seconds

    from livseg_lib.inference.predict import predict_batches
    from livseg_lib.notebooks import declared_parameters
    from livseg_lib.runs import project_root
    from livseg_lib.studies.training import TrainingPlan, train_network
    from livseg_lib.training import fit

    notebooks = project_root() / "notebooks"
    values = declared_parameters(notebooks / "03_train_unet.ipynb")
    values |= yaml.safe_load((notebooks / "params" / "best.yaml").read_text()) | {"minutes": minutes}
    values |= changed
    names = ("target", "augmentation", "loss", "schedule", "minutes", "seed")
    plan = TrainingPlan(
        system="unet",
        architecture="unet",
        stages=(fit.Stage(values["unet_epochs"], values["unet_learning_rate"]),),
        options={name: values[f"unet_{name}"] for name in ("filters", "levels", "patch")},
        batch_size=values["unet_batch_size"],
        slices_per_epoch=values["unet_slices_per_epoch"],
        **{name: values[name] for name in names},
    )
    train, images = (np.load(folder / f"{name}.npy") for name in ("train", "images"))
    slices = pd.DataFrame({"array": ".", "array_index": np.flatnonzero(train), "liver_pixels": 1})
    fit.time = SimpleNamespace(monotonic=lambda: processor_seconds() / 2)
    clock, began = time.perf_counter(), processor_seconds()
    network, history = train_network(plan, slices, None, folder, folder / f"{name}-{minutes:g}")
    used, wall = processor_seconds() - began, time.perf_counter() - clock
    np.save(folder / f"{name}.npy", np.concatenate([*predict_batches(network, images[~train])])[..., 0])
    shown = len(history) * values["unet_slices_per_epoch"]
    facts = {"cpu_minutes": used / 120, "wall_minutes": wall / 60, "pictures": shown}
    print(json.dumps(facts | {"parameters": network.count_params()}))


COMMANDS = {
    "check": "check @/scans --out @/out --workers 1",
    "extract": "extract @/scans --out @/out --workers 1",
    "predict": "predict @/scans --out @/out",
    "evaluate": "evaluate --reference @/scans --prediction @/scans --out @/out/scores.json --workers 1",
}
CONTENDERS = {
    "reading": {"livseg": reading, f"{FLOOR}gzip decoded by isal": decoding},
    "extraction": {
        "livseg": extraction,
        "livseg, 2 workers": partial(extraction, workers=2),
        f"{FLOOR}decode, pack by isal": decoding_and_encoding,
    },
    "batches": {"livseg": batches, "quick U-Net, learning from them": consuming},
    "training": {"livseg U-Net": training_steps, "livseg U-Net without oneDNN": steps_without_onednn},
    "scan": {
        "livseg predict": partial(whole_command, words="predict @/volume-0.nii.gz --out @/out"),
        f"{FLOOR}the network on board alone": network_alone,
        f"{FLOOR}that network by Keras": partial(network_alone, onnx=False),
    },
    "folder": {
        f"livseg predict, {what}": partial(whole_command, words=f"predict @/{what} --out @/out")
        for what in ("pictures", "scans")
    },
    "scores": {"livseg": scoring},
    "start": {
        "livseg --help": lambda folder: command(*LIVSEG, "--help"),
        "import livseg_lib": lambda folder: command(sys.executable, "-c", "import livseg_lib"),
        f"{FLOOR}python -c pass": lambda folder: command(sys.executable, "-c", "pass"),
    },
    "growth": {
        **{"reading": reading, "extraction": extraction, "scores": scoring},
        **{name: partial(whole_command, words=words) for name, words in COMMANDS.items()},
        **{"pairing": pairing, "sharing": sharing, "listing": listing},
    },
}

if __name__ == "__main__":
    if sys.argv[1] == "board":
        board(Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5]))
    else:
        serve(CONTENDERS)
