"""What `make bench` compares livseg with: other people's libraries, used as their own pages say.

Runs in an environment of its own (bench_requirements.txt), one process a contender:

    python bench_peers.py WORK CONTENDER FOLDER

gets ready with what lies in FOLDER, runs once to warm up, then once more for each line that comes in, and
answers each time by a line of JSON. `serve` does so for livseg's own contenders too (bench_ours.py).
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

Run = Callable[[], object]
"""Does the work once. Gives what was worked out, to be compared with the others, or None."""

STEPS, BATCH = 5, 8
"""Training steps of a run, and pictures in each."""
WARM_UP_BATCHES = 50  # as livseg's own training (training/fit.py)


def serve(contenders: dict[str, dict[str, Callable[[Path], Run]]]) -> None:
    """Run the contender that the command line names, as often as lines come in."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    run = contenders[sys.argv[1]][sys.argv[2]](Path(sys.argv[3]))
    print(json.dumps(measure(run)), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure(run)), file=answers, flush=True)


def measure(run: Run) -> dict:
    """Seconds by the clock and of the processor (children that have ended included), memory, the answer."""
    began, used = time.perf_counter(), processor_seconds()
    answer = run()
    seconds, used = time.perf_counter() - began, processor_seconds() - used
    if hasattr(answer, "shape"):
        answer = [*answer.shape, float(answer.sum())]
    memory = max(_own_peak(), _in_bytes(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
    return {"seconds": seconds, "cpu_seconds": used, "peak_memory_mb": memory / 2**20, "answer": answer}


def processor_seconds() -> float:
    """Of this process, all its threads, and its children."""
    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))


def _own_peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would tell the peak of whoever started this process, where that is higher
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return _in_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _in_bytes(maximum: int) -> int:
    return maximum if sys.platform == "darwin" else 1024 * maximum


def command(*words: object) -> Run:
    """A whole process, its start included."""
    words = [str(word) for word in words]

    def run() -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    return run


def nibabel_reading(folder: Path) -> Run:
    import nibabel
    import numpy as np

    def run() -> np.ndarray:
        voxels = np.asarray(nibabel.load(folder / "volume-0.nii.gz").dataobj)  # (W, H, D)
        return np.ascontiguousarray(voxels.T, np.int16)

    return run


def simpleitk_reading(folder: Path) -> Run:
    import SimpleITK

    return lambda: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(folder / "volume-0.nii.gz"))


def usual_extraction(folder: Path) -> Run:
    """As scripts around LiTS do: get_fdata, a window a channel, resize, imwrite, slice by slice."""
    import cv2
    import nibabel
    import numpy as np

    settings = json.loads((folder / "extraction.json").read_text())
    size, out = settings["size"], folder / "usual"

    def window(hu: np.ndarray, low: float, high: float) -> np.ndarray:
        return (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        for path in sorted(folder.glob("volume-*.nii.gz")):
            target = out / path.name.split(".")[0]
            target.mkdir(parents=True, exist_ok=True)
            voxels = nibabel.load(path).get_fdata()
            labels = nibabel.load(folder / path.name.replace("volume", "segmentation")).get_fdata()
            pictures, masks = [], []
            for k in range(voxels.shape[2]):
                channels = [window(voxels[:, :, k].T, low, high) for low, high in settings["windows"]]
                picture = cv2.resize(np.stack(channels, -1), (size, size), interpolation=cv2.INTER_AREA)
                mask = labels[:, :, k].T.astype(np.uint8)
                mask = cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)
                cv2.imwrite(str(target / f"{k:03d}.png"), picture)
                cv2.imwrite(str(target / f"{k:03d}_mask.png"), mask * 127)
                pictures.append(picture)
                masks.append(mask)
            np.save(target / "images.npy", np.stack(pictures))
            np.save(target / "masks.npy", np.stack(masks))

    return run


def albumentations_batches(folder: Path) -> Run:
    """livseg's recipe "strong" in albumentations' words, on the same arrays."""
    import albumentations as A
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    images, masks = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
    moves = {"rotate": (-20, 20), "scale": (0.75, 1.3), "shear": (-6, 6), "translate_percent": (-0.08, 0.08)}
    steps = [
        A.Affine(**moves, border_mode=cv2.BORDER_REPLICATE, p=1),
        A.RandomGamma(gamma_limit=(70, 140), p=1),
        A.RandomBrightnessContrast(brightness_limit=15 / 255, contrast_limit=(-0.25, 0.3), p=1),
        A.GaussianBlur(sigma_limit=(0.4, 1.0), blur_limit=0, p=0.25),
        A.GaussNoise(std_range=(2.5 / 255, 13 / 255), p=0.25),
    ]
    vary = A.Compose(steps)

    def run() -> None:
        for first in range(0, len(images), BATCH):
            pairs = [vary(image=images[k], mask=masks[k]) for k in range(first, first + BATCH)]
            np.stack([pair["image"] for pair in pairs]).astype(np.float32) / 255.0
            np.stack([pair["mask"] > 0 for pair in pairs]).astype(np.float32)[..., np.newaxis]

    return run


def torch_network(name: str, channels: int):
    """A network of about two million parameters, giving logits: for pictures (B, C, H, W) of 128 pixels."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if name == "MONAI UNet":  # residual, strided: as in MONAI's spleen tutorial, in the plane
        from monai.networks.nets import UNet

        return UNet(2, channels, 1, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    if name == "MONAI BasicUNet":
        from monai.networks.nets import BasicUNet

        return BasicUNet(2, channels, 1)
    if name == "nnU-Net 2D":  # its plain U-Net, with half its usual filters: equal parameters
        from dynamic_network_architectures.architectures.unet import PlainConvUNet

        stages = (16, 32, 64, 128, 256)
        strides = (1, 2, 2, 2, 2)
        normed = {"norm_op": torch.nn.InstanceNorm2d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
        bent = {"nonlin": torch.nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}
        sizes = (torch.nn.Conv2d, 3, strides, 2, 1, 2)
        return PlainConvUNet(channels, 5, stages, *sizes, conv_bias=True, **normed, **bent)
    assert name == "the same U-Net, PyTorch"
    return _twin(channels)


def _twin(channels: int, filters: int = 16, levels: int = 5, patch: int = 2):
    """livseg's U-Net (models/unet.py) layer by layer in PyTorch, down to the last parameter."""
    import torch
    from torch import nn

    def double(given: int, filters: int) -> nn.Sequential:
        first, second = nn.Conv2d(given, filters, 3, padding=1), nn.Conv2d(filters, filters, 3, padding=1)
        return nn.Sequential(first, nn.ReLU(), second, nn.BatchNorm2d(filters), nn.ReLU())

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = [filters * 2**level for level in range(levels)]
            self.fold = nn.Conv2d(channels, filters, patch, patch)
            self.down = nn.ModuleList(map(double, [filters, *sizes], sizes))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in sizes[:-1])
            self.joined = nn.ModuleList(double(2 * n, n) for n in sizes[:-1])
            self.unfold = nn.ConvTranspose2d(filters, filters // 2, patch, patch)
            self.maps = nn.Conv2d(filters // 2, 1, 1)

        def forward(self, x):
            x, skips = self.fold(x), []
            for level, block in enumerate(self.down):
                x = block(nn.functional.max_pool2d(x, 2) if level else x)
                skips.append(x)
            for level in reversed(range(levels - 1)):
                x = self.joined[level](torch.cat([skips[level], self.up[level](x)], 1))
            return self.maps(self.unfold(x))

    return Twin()


TORCH = ("MONAI UNet", "MONAI BasicUNet", "nnU-Net 2D", "the same U-Net, PyTorch")


def torch_step(network, rate: float) -> Callable:
    """(pictures, truth, rate) -> one step of Adam on cross-entropy + Dice of each picture (bce_picture_dice).

    Arrays float32 (B, H, W, C) and (B, H, W, 1), as livseg's.
    """
    import torch

    network.train().to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), rate)

    def step(pictures, truth, rate: float) -> None:
        for group in adam.param_groups:
            group["lr"] = rate
        pictures, truth = (torch.from_numpy(each).permute(0, 3, 1, 2) for each in (pictures, truth))
        logits = network(pictures)
        found = torch.sigmoid(logits)
        hit, total = (each.sum((1, 2, 3)) for each in (truth * found, truth + found))
        dice = (1 - (2 * hit + 1) / (total + 1)).mean()
        adam.zero_grad()
        (torch.nn.functional.binary_cross_entropy_with_logits(logits, truth) + dice).backward()
        adam.step()

    return step


def medicai_network(channels: int):
    """medicai's U-Net on its residual encoder, both narrowed to equal parameters; Keras on TensorFlow."""
    import keras
    from medicai.models import ResNetBackbone, UNet

    keras.utils.set_random_seed(0)
    sizes = {"num_blocks": [1] * 4, "num_filters": [64, 96, 128, 192], "conv_filters": [64]}
    encoder = ResNetBackbone(input_shape=(128, 128, channels), block_type="basic_block", **sizes)
    decoder = {"decoder_filters": (128, 96, 64, 32, 16), "classifier_activation": "sigmoid"}
    return UNet(encoder=encoder, num_classes=1, **decoder)


def medicai_step(network, rate: float) -> Callable:
    """As `torch_step`; the loss is livseg's own, as medicai's networks are Keras' too."""
    import keras

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from livseg_lib.training.losses import bce_picture_dice

    network.compile(keras.optimizers.Adam(rate), bce_picture_dice)

    def step(pictures, truth, rate: float) -> None:
        network.optimizer.learning_rate = rate
        network.train_on_batch(pictures, truth)

    return step


def make_step(name: str, channels: int, rate: float = 1e-3) -> tuple[object, Callable]:
    """The network called `name`, and its step."""
    if name == "medicai UNet":
        network = medicai_network(channels)
        return network, medicai_step(network, rate)
    network = torch_network(name, channels)
    return network, torch_step(network, rate)


def count_parameters(network) -> int:
    """Numbers that are learnt, and those that Keras counts besides (means of batches)."""
    if hasattr(network, "count_params"):
        return network.count_params()
    kept = [*network.parameters(), *(each for each in network.buffers() if each.ndim)]
    return sum(each.numel() for each in kept)


def training_steps(name: str, folder: Path) -> Run:
    """STEPS steps on random pictures."""
    import numpy as np

    rng = np.random.default_rng(0)
    pictures = rng.random((BATCH, 128, 128, 1), np.float32)
    truth = (pictures > 0.5).astype(np.float32)
    network, step = make_step(name, 1)

    def run() -> list[int]:
        for _ in range(STEPS):
            step(pictures, truth, 1e-3)
        return [count_parameters(network)]

    return run


def monai_scan(scan: str, out: str, in_plane: bool) -> None:
    """From file to mask on the scan's own grid by MONAI's transforms and inferers, the network untrained.

    In the plane: slices of 192 x 192 pixels by the network of the row `training`. In space: as the tutorial
    on spleens, voxels of 1.5 x 1.5 x 2 mm, windows of 96, a network of as many parameters.
    """
    import torch
    from monai import transforms as T
    from monai.inferers import SliceInferer, SlidingWindowInferer
    from monai.networks.nets import UNet

    network = torch_network("MONAI UNet", 1)
    inferer = SliceInferer(spatial_dim=2, roi_size=(192, 192), sw_batch_size=16)
    on_grid = T.Resized("image", (192, 192, -1))
    if not in_plane:
        network = UNet(3, 1, 1, (16, 32, 64, 128), (2, 2, 2), num_res_units=2)
        inferer = SlidingWindowInferer((96, 96, 96), sw_batch_size=4, overlap=0.25)
        on_grid = T.Spacingd("image", (1.5, 1.5, 2.0))
    network.eval()
    loaded, turned = T.LoadImaged("image", ensure_channel_first=True), T.Orientationd("image", "RAS")
    windowed = T.ScaleIntensityRanged("image", 0, 255, 0, 1, clip=True)
    before = T.Compose([loaded, turned, windowed, on_grid])
    mask = T.Activationsd("pred", sigmoid=True), T.AsDiscreted("pred", threshold=0.5)
    back = T.Invertd("pred", before, "image", nearest_interp=True)
    after = T.Compose(
        [*mask, back, T.SaveImaged("pred", output_dir=out, output_postfix="liver", print_log=False)]
    )
    with torch.no_grad():
        batch = before({"image": scan})
        batch["pred"] = inferer(batch["image"][None], network)[0]
        after(batch)


def medpy_scores(folder: Path) -> Run:
    """The same numbers as livseg's by MedPy and SciPy on whole arrays, as scripts of LiTS do."""
    import numpy as np
    from medpy.metric import binary
    from scipy import ndimage

    prediction, reference = (np.load(folder / f"{name}.npy") for name in ("prediction", "reference"))
    spacing = json.loads((folder / "scan.json").read_text())["spacing_mm"]

    def run() -> list[float]:
        found = []
        for label in (1, 2):
            pair = prediction >= label, reference >= label
            distances = [score(*pair, spacing, 2) for score in (binary.assd, binary.hd95)]
            found += [binary.dc(*pair), *distances]
        predicted, _ = ndimage.label(prediction == 2)
        lesions, count = ndimage.label(reference == 2)
        hits, sizes = 0, np.bincount(predicted.ravel())
        for number, box in enumerate(ndimage.find_objects(lesions), 1):
            inside = lesions[box] == number
            touched = np.unique(predicted[box][inside])
            touched = touched[touched > 0]
            shared = np.isin(predicted[box][inside], touched).sum()
            hits += shared > 0.5 * (inside.sum() + sizes[touched].sum() - shared)  # IoU, as LiTS counts
        return [*map(float, found[:3]), float(count), float(hits)]

    return run


def board(name: str, folder: Path, minutes: float, rate: float) -> None:
    """Train `name` for so many minutes of two processors, a cosine down to zero, on livseg's own batches.

    Reads images.npy uint8 (N, s, s, 1), masks.npy (N, s, s) and train.npy, bool (N,); writes what it gives
    for the others, `name`.npy. Prints minutes, pictures and parameters as JSON. The minutes begin once a
    network like it has warmed up.
    """
    import numpy as np

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from livseg_lib.sampling.augmentation import augment_batch

    images, masks, train = (np.load(folder / f"{each}.npy") for each in ("images", "masks", "train"))
    pictures, labels = augment_batch(images[:BATCH], masks[:BATCH], "strong", 0)
    blank = np.zeros((*pictures.shape[:-1], 1), np.float32)
    _, warm_up = make_step(name, images.shape[-1], rate)
    warm_up(pictures.astype(np.float32), blank, rate)  # imports what is needed
    network, step = make_step(name, images.shape[-1], rate)
    rng, order, steps = np.random.default_rng(0), np.zeros(0, int), 0
    began, clock, budget = processor_seconds(), time.perf_counter(), 120 * minutes
    while (used := processor_seconds() - began) < budget:
        if len(order) < BATCH:
            order = np.concatenate([order, rng.permutation(np.flatnonzero(train))])
        rows, order = order[:BATCH], order[BATCH:]
        pictures, labels = augment_batch(images[rows], masks[rows], "strong", rng.integers(2**31))
        warmth = min(1, (steps + 1) / WARM_UP_BATCHES) * 0.5 * (1 + math.cos(math.pi * used / budget))
        truth = (labels[..., np.newaxis] > 0).astype(np.float32)
        step(pictures.astype(np.float32) / 255.0, truth, rate * warmth)
        steps += 1
    wall = time.perf_counter() - clock
    tested = images[~train]
    found = [probabilities(network, tested[first : first + 16]) for first in range(0, len(tested), 16)]
    np.save(folder / f"{name}.npy", np.concatenate(found)[..., 0])
    facts = {"cpu_minutes": used / 120, "wall_minutes": wall / 60, "pictures": steps * BATCH}
    print(json.dumps(facts | {"parameters": count_parameters(network)}))


def probabilities(network, images):
    """Of pictures uint8 (n, s, s, C): float32 (n, s, s, 1)."""
    import numpy as np

    pictures = images.astype(np.float32) / 255.0
    if hasattr(network, "predict_on_batch"):
        return network.predict_on_batch(pictures)
    import torch

    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        return torch.sigmoid(logits).permute(0, 2, 3, 1).numpy()


def _monai_command(in_plane: bool, folder: Path) -> Run:
    words = ("monai-scan", folder / "volume-0.nii.gz", folder / "monai", int(in_plane))
    return command(sys.executable, __file__, *words)


CONTENDERS = {
    "reading": {"nibabel": nibabel_reading, "SimpleITK": simpleitk_reading},
    "extraction": {"nibabel and OpenCV, as usual": usual_extraction},
    "batches": {"albumentations": albumentations_batches},
    "training": {name: partial(training_steps, name) for name in (*TORCH, "medicai UNet")},
    "scan": {
        "MONAI, slice by slice": partial(_monai_command, True),
        "MONAI, sliding window in 3D": partial(_monai_command, False),
    },
    "scores": {"MedPy and SciPy": medpy_scores},
    "start": {"import monai": lambda folder: command(sys.executable, "-c", "import monai")},
}

if __name__ == "__main__":
    if sys.argv[1] == "monai-scan":
        monai_scan(*sys.argv[2:4], in_plane=sys.argv[4] == "1")
    elif sys.argv[1] == "board":
        board(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
    else:
        serve(CONTENDERS)
