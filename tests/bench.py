"""`make bench`: how fast the parts are, each as a ratio against a peer timed in the same run.

A ratio of 2.0 means that livseg needs half the peer's time. Never a test: machines differ.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np

from livseg_lib.datasets.phantom.writing import write_phantom
from livseg_lib.evaluation import masks
from livseg_lib.inference.export import write_onnx
from livseg_lib.inference.predict import BATCH, predict_planes
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe, prepare_slices
from livseg_lib.systems import SYSTEMS
from livseg_lib.training.onnx_network import OnnxNetwork
from livseg_lib.volumes import load_volume

ROUNDS = 5


def compare(name: str, ours: Callable[[], object], peer: Callable[[], object], peer_name: str) -> None:
    """Run both in turn, so that a drift of the machine hits both; print medians and their ratio."""
    seconds: dict[Callable, list[float]] = {ours: [], peer: []}
    for run in (ours, peer):
        run()  # warm up
    for _ in range(ROUNDS):
        for run, times in seconds.items():
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    mine, other = (1000 * statistics.median(times) for times in seconds.values())
    print(f"{name:44}{mine:10.1f} ms{other:10.1f} ms{other / mine:8.1f} x   {peer_name}")


def bench_reading(folder: Path) -> None:
    """A whole scan from .nii.gz, checksum included."""
    path = write_phantom(folder, 1, workers=1) / "volume-0.nii.gz"
    compare(
        "read a scan (.nii.gz, CRC checked)",
        lambda: load_volume(path),
        lambda: np.asarray(nibabel.load(path).dataobj),
        "nibabel, CRC not checked",
    )


def bench_slices(folder: Path) -> None:
    """One slice for a training batch: from the memory map, against its PNG."""
    pictures = np.stack(list(prepare_slices(load_volume(folder / "volume-0.nii.gz"), Recipe(size=256))))
    np.save(folder / "images.npy", pictures)
    names = [str(folder / f"{index}.png") for index in range(16)]
    for name, picture in zip(names, pictures, strict=False):
        cv2.imwrite(name, picture)
    compare(
        "16 slices of 256 x 256 x 3 for a batch",
        lambda: np.stack(list(np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)[:16])),
        lambda: np.stack([cv2.imread(name) for name in names]),
        "PNG by OpenCV",
    )


def bench_prediction() -> None:
    """All slices of a scan through the quick network, in batches, against slice by slice."""
    network = build_model("unet", (128, 128, 3), 2, filters=32, levels=4, patch=2)
    pictures = np.random.default_rng(0).integers(0, 256, (2 * BATCH, 128, 128, 3), np.uint8)
    compare(
        f"predict {len(pictures)} slices of 128 x 128",
        lambda: predict_planes(network, pictures),
        lambda: [network.predict(picture[None] / 255.0, verbose=0) for picture in pictures],
        "predict() a slice",
    )


def bench_exported(folder: Path) -> None:
    """The quick network computed by ONNX Runtime, as `livseg predict` does for exported models."""
    network = build_model("unet", (128, 128, 3), 2, **SYSTEMS["unet"].small)
    exported = OnnxNetwork(write_onnx(network, folder).read_bytes())
    pictures = np.random.default_rng(0).integers(0, 256, (4 * BATCH, 128, 128, 3), np.uint8)
    compare(
        f"predict {len(pictures)} slices, exported as ONNX",
        lambda: predict_planes(exported, pictures),
        lambda: predict_planes(network, pictures),
        "the same by Keras",
    )


def bench_training() -> None:
    """One training step of the quick network against system C's layout with as many filters."""
    pictures = np.random.default_rng(0).random((8, 128, 128, 3), np.float32)
    truth = (pictures[..., :1] > 0.5).astype(np.float32)
    steps = []
    for options in ({"patch": 2, "levels": 4}, {"patch": 1, "levels": 4}):
        network = build_model("unet", (128, 128, 3), 1, filters=32, **options)
        network.compile("adam", "binary_crossentropy")
        steps.append(lambda network=network: network.train_on_batch(pictures, truth))
    compare("train on 8 slices of 128 x 128, folded 2 x 2", *steps, "the same, not folded")


def bench_scores() -> None:
    """Dice, ASSD and HD95 of a liver on its box: one pass for all, against MedPy's three functions."""
    try:
        from medpy.metric import binary as medpy
    except ImportError:
        print("scores of a liver: MedPy is not installed, nothing to compare with (pip install medpy)")
        return
    spacing, shape = (1.5, 0.8, 0.8), (64, 160, 160)
    grid = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in shape)]
    pair = [
        sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True)) <= 1 for radii in ((1,) * 3, (0.9,) * 3)
    ]

    def ours() -> list[float]:
        distances = masks.surface_distances(*pair, spacing)
        dice = masks.dice(masks.overlap_counts(*pair))
        return [dice, masks.assd(distances), masks.hd95(distances)]

    def peer() -> list[float]:
        return [medpy.dc(*pair), *(score(*pair, spacing, 2) for score in (medpy.assd, medpy.hd95))]

    np.testing.assert_allclose(ours(), peer(), rtol=1e-6)
    compare("Dice, ASSD, HD95 of 64 x 160 x 160 voxels", ours, peer, "MedPy, the same numbers")


if __name__ == "__main__":
    print(f"{'':44}{'livseg':>13}{'peer':>13}{'ratio':>10}   peer")
    with tempfile.TemporaryDirectory() as temporary:
        bench_reading(Path(temporary))
        bench_slices(Path(temporary))
        bench_exported(Path(temporary))
    bench_scores()
    bench_prediction()
    bench_training()
