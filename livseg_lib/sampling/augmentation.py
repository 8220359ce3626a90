"""Varied copies of slices and masks, by imgaug (which is imported here and nowhere else)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from itertools import groupby
from types import ModuleType

import cv2
import numpy as np

from livseg_lib.errors import InputError

ELASTIC_SMOOTHNESS = 0.06
"""Sigma of the Gaussian that smooths elastic displacements, as a fraction of the picture's side."""
ELASTIC_SHIFT = 0.015
"""Largest standard deviation of elastic displacements, as a fraction of the picture's side."""
GAUSSIAN_FILTER = 0.015
"""Largest sigma of the Gaussian filter, as a fraction of the picture's side."""


def augment_batch(
    images: np.ndarray, masks: np.ndarray, recipe: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Augmented copies of `images` uint8 (B, s, s, C) and their label `masks` uint8 (B, s, s).

    Of blocks of slices, (B, D, s, s, C) and (B, D, s, s), all slices of a block are varied alike.

    A function of its arguments alone: the same seed gives the same pictures. Image and mask move
    together; images are interpolated linearly, masks take the nearest label. Intensities shift in images
    only, and alike in all channels of an image. Raises InputError for an unknown recipe, or where imgaug
    is not installed (every recipe but "none" needs it).
    """
    if recipe not in AUGMENTATIONS:
        raise InputError("augmentation", f"is {recipe!r}.", f"Choose one of {', '.join(AUGMENTATIONS)}.")
    steps = AUGMENTATIONS[recipe]
    if steps is None:
        return images.copy(), masks.copy()
    augmenters = _import_augmenters()
    # Built for each batch (a fraction of a millisecond): a shared one would carry its random state along.
    pipeline = augmenters.Sequential(steps(augmenters, images.shape[-2]))
    pipeline.seed_(int(seed))
    blocks = images.reshape(len(images), -1, *images.shape[-3:])  # a picture is a block of one slice
    maps = _slices_as_channels(masks.reshape(*blocks.shape[:-1], 1))
    moved = _slices_as_channels(blocks)
    for vary, group in groupby(pipeline, lambda step: WAYS.get(type(step).__name__, _vary_shape)):
        moved, maps = vary(augmenters.Sequential(list(group)), moved, maps)
    moved, maps = _channels_as_slices(moved, blocks.shape[-1]), _channels_as_slices(maps, 1)
    if recipe == "livers":
        _vary_livers(moved, maps, np.random.default_rng(seed))
    return moved.reshape(images.shape), maps.reshape(masks.shape)


Varied = tuple[np.ndarray, np.ndarray]
"""Pictures uint8 (B, s, s, channels) and their labels, alike. The functions below do to them what the steps,
imgaug's Sequential, would do to the last bit, in less time."""


def _vary_shape(steps, pictures: np.ndarray, maps: np.ndarray) -> Varied:
    return steps(images=pictures, segmentation_maps=maps)


def _vary_greys(steps, pictures: np.ndarray, maps: np.ndarray) -> Varied:
    """What depends on a pixel's grey alone: all steps in one table a picture."""
    count, tables = len(pictures), np.tile(np.arange(256), (len(pictures), 1))
    for step in steps:
        value, random = step.get_parameters()[0], step.random_state
        step.per_channel.draw_samples((count,), random)
        if hasattr(step, "params1d"):  # contrasts, which imgaug draws picture by picture
            samples = [value.draw_samples((1,), random) for _ in range(count)]
        else:
            samples = value.draw_samples((count, pictures.shape[-1]), random)
        after = GREYS[type(step).__name__](np.asarray(samples, np.float32)[:, :1])
        tables = np.take_along_axis(after.clip(0, 255).astype(int), tables, axis=1)
    rows = pictures.reshape(*pictures.shape[:2], -1)  # of one channel: OpenCV takes no more than 512
    found = [cv2.LUT(each, table) for each, table in zip(rows, tables.astype(np.uint8), strict=True)]
    return np.stack(found).reshape(pictures.shape), maps


def _vary_place(steps, pictures: np.ndarray, maps: np.ndarray) -> Varied:
    """One affine step; its matrices are worked out once for pictures and labels."""
    (step,) = steps
    samples, size = step._draw_samples(len(pictures), step.random_state), pictures.shape[1]
    varied = pictures.copy(), maps.copy()
    for k in range(len(pictures)):
        matrix = _matrix(samples.get_affine_parameters(k, (size, size), (size, size)), size / 2 - 0.5)
        if np.abs(matrix - np.eye(3)).mean() <= 1e-4:  # imgaug's bound, below which nothing moves
            continue
        for arrays, flags in zip(varied, (cv2.INTER_LINEAR, cv2.INTER_NEAREST), strict=True):
            args = {"flags": flags, "borderMode": cv2.BORDER_REPLICATE}
            arrays[k] = cv2.warpAffine(arrays[k], matrix[:2], (size, size), **args).reshape(arrays[k].shape)
    return varied


def _matrix(draws: dict[str, float], half: float) -> np.ndarray:
    """Of the moves that imgaug makes of its draws, in its order, around the picture's middle: (3, 3)."""
    size, shift = (draws["scale_x"], draws["scale_y"]), (draws["translate_x_px"], draws["translate_y_px"])
    moves = (
        _affine(shift=(-half, -half)),
        _affine(turn=-3.141592 / 2),
        _affine(shear=draws["shear_y_rad"]),
        _affine(turn=3.141592 / 2),
        _affine(size, draws["rotate_rad"], draws["shear_x_rad"], shift),
        _affine(shift=(half, half)),
    )
    return reduce(lambda before, move: move @ before, moves)


def _affine(size=(1.0, 1.0), turn=0.0, shear=0.0, shift=(0.0, 0.0)) -> np.ndarray:
    (x, y), cos, sin, tan = size, math.cos(turn), math.sin(turn), math.tan(shear)
    return np.array(
        [[x * cos, -y * (tan * cos + sin), shift[0]], [x * sin, -y * (tan * sin - cos), shift[1]], [0, 0, 1]]
    )


_GREY = np.arange(256, dtype=np.float32)
GREYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "GammaContrast": lambda gamma: 255 * (_GREY / 255) ** gamma,
    "LinearContrast": lambda slope: 127 + slope * (_GREY - 127),
    "Multiply": lambda factor: _GREY * factor,
    "Add": lambda shift: _GREY + np.round(shift),
}
"""By imgaug's names of steps: float32 (B, 1) that was drawn -> what becomes of the 256 greys, (B, 256)."""
WAYS: dict[str, Callable[..., Varied]] = {
    **dict.fromkeys(GREYS, _vary_greys),
    "Affine": _vary_place,
    "Sometimes": lambda steps, pictures, maps: (steps(images=pictures), maps),  # texture alone
}
"""By imgaug's names of steps; all others are imgaug's own."""


def _slices_as_channels(blocks: np.ndarray) -> np.ndarray:
    """Blocks (B, D, s, s, C) as pictures (B, s, s, D * C), which imgaug varies as one."""
    return np.moveaxis(blocks, 1, -2).reshape(len(blocks), *blocks.shape[2:4], -1)


def _channels_as_slices(pictures: np.ndarray, channels: int) -> np.ndarray:
    """Inverse of `_slices_as_channels` for blocks of `channels` channels."""
    return np.moveaxis(pictures.reshape(*pictures.shape[:3], -1, channels), -2, 1)


def _import_augmenters() -> ModuleType:
    # imgaug 0.4.0 reads this table while it is imported; NumPy 2 no longer has it.
    if not hasattr(np, "sctypes"):
        kinds = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64)}
        np.sctypes = {kind: [np.dtype(f"{kind}{bits}").type for bits in kinds[kind]] for kind in kinds}
    try:
        import imgaug.augmenters
    except ImportError as error:
        problem = f"cannot be imported ({error}), and augmentation needs it."
        remedy = "Run `pip install --no-deps imgaug==0.4.0`, or choose the augmentation none."
        raise InputError("imgaug", problem, remedy) from error
    return imgaug.augmenters


def _light_steps(augmenters: ModuleType, size: int) -> list:
    """Small movements and changes of grey that keep the patient's left and right: the quick default."""
    return [
        _move(augmenters, rotate=(-15, 15), scale=(0.9, 1.1), shift=0.05),
        augmenters.LinearContrast((0.9, 1.1)),
        augmenters.Add((-12, 12)),
    ]


def _strong_steps(augmenters: ModuleType, size: int) -> list:
    """Patients of other sizes and scanners of other greys: for few patients, on real slices.

    Wider movements than "light", gamma, contrast and brightness; blur and noise, each of a quarter of the
    pictures. Ours.
    """
    return [
        _move(augmenters, rotate=(-20, 20), scale=(0.75, 1.3), shear=(-6, 6), shift=0.08),
        augmenters.GammaContrast((0.7, 1.4)),
        augmenters.Multiply((0.75, 1.3)),
        augmenters.Add((-15, 15)),
        augmenters.Sometimes(0.25, augmenters.GaussianBlur(sigma=(0.4, 1.0))),
        augmenters.Sometimes(0.25, augmenters.AdditiveGaussianNoise(scale=(2.5, 13.0))),
    ]


def _basic_steps(augmenters: ModuleType, size: int) -> list:
    """System B: random rotations, flips and intensity shifts."""
    return [
        augmenters.Fliplr(0.5),
        augmenters.Flipud(0.5),
        _move(augmenters, rotate=(-20, 20)),
        augmenters.Add((-20, 20)),
    ]


def _lits_steps(augmenters: ModuleType, size: int) -> list:
    """System C: rotation, 5 % shift, shear and zoom, both flips, nearest fill, elastic deformation."""
    shear = np.degrees(np.arctan(0.05))
    return [
        augmenters.Fliplr(0.5),
        augmenters.Flipud(0.5),
        _move(augmenters, rotate=(-15, 15), scale=(0.95, 1.05), shear=(-shear, shear), shift=0.05),
        _elastic(augmenters, size),
    ]


def _sorting_steps(augmenters: ModuleType, size: int) -> list:
    """System F: Gaussian filtering and histogram equalization, each of about a third of the pictures.

    The small movements before them are ours. Each channel is equalized by itself, as all are windows.
    """
    return [
        *_light_steps(augmenters, size),
        augmenters.Sometimes(0.3, augmenters.AllChannelsHistogramEqualization()),
        augmenters.Sometimes(0.3, augmenters.GaussianBlur(sigma=(0.0, GAUSSIAN_FILTER * size))),
    ]


def _vary_livers(blocks: np.ndarray, maps: np.ndarray, rng: np.random.Generator) -> None:
    """Other livers, in place: a third darker or brighter as a whole, half with one to three made-up lesions.

    Few patients have a fatty liver or one with large, odd tumours; both belong to the organ. Texture and
    labels stay. `blocks` uint8 (B, D, s, s, C), `maps` (B, D, s, s, 1).
    """
    size = blocks.shape[-2]
    rows, columns = np.mgrid[:size, :size]
    for block, liver in zip(blocks, maps[..., 0] > 0, strict=True):
        if not liver.any():
            continue
        grey, factor = block[liver].mean(), rng.uniform(0.2, 1.2) if rng.random() < 0.33 else 1.0
        change = np.full(liver.shape, (factor - 1.0) * grey, np.float32)
        for _ in range(rng.integers(1, 4) if rng.random() < 0.5 else 0):
            _, row, column = rng.choice(np.argwhere(liver))
            radius = size * np.exp(rng.uniform(-4.5, -2.1))
            flatness, level = rng.uniform(0.6, 1.6), rng.uniform(0, 1.4)
            inside = ((rows - row) * flatness) ** 2 + (columns - column) ** 2 <= radius**2
            change[:, inside] = (level * factor - 1.0) * grey
        soft = [cv2.GaussianBlur(each, (0, 0), size / 200) for each in np.where(liver, change, 0.0)]
        block[:] = np.clip(block + np.stack(soft)[..., np.newaxis], 0, 255).astype(np.uint8)


AUGMENTATIONS: dict[str, Callable[[ModuleType, int], list] | None] = {
    "none": None,
    "light": _light_steps,
    "strong": _strong_steps,
    "livers": _strong_steps,  # and then `_vary_livers`
    "basic": _basic_steps,
    "lits": _lits_steps,
    "sorting": _sorting_steps,
}
"""Recipes by name: the steps for pictures of size x size pixels."""


def _move(augmenters: ModuleType, shift: float = 0.0, **ranges):
    """`shift`: the furthest along each axis, as a fraction of the side."""
    if shift:
        ranges["translate_percent"] = dict.fromkeys("xy", (-shift, shift))
    return augmenters.Affine(order=1, mode="edge", backend="cv2", **ranges)


def _elastic(augmenters: ModuleType, size: int):
    """Elastic deformation (Simard et al. 2003), alike for any picture size."""

    class Elastic(augmenters.ElasticTransformation):
        # imgaug's own maps are float64, which OpenCV refuses. Here alpha is the shift's deviation in pixels.
        @classmethod
        def _generate_shift_maps(cls, shape, alpha, sigma, random_state):
            noise = random_state.random((2, *shape)).astype(np.float32) - 0.5
            smooth = [cv2.GaussianBlur(axis, (0, 0), sigma) for axis in noise]
            return tuple(alpha * axis / axis.std() for axis in smooth)

    shift, sigma = (0.0, ELASTIC_SHIFT * size), ELASTIC_SMOOTHNESS * size
    step = Elastic(alpha=shift, sigma=sigma, order=1, mode="nearest")
    # Else what fills the border of a mask is not what fills the image.
    step._mode_segmentation_maps = "nearest"
    return step
