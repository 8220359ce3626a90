"""Batches of slices for Keras, read from the memory-mapped arrays of an extraction, and the right answers.

System F (Kaur et al. 2021) sorts slices into organ regions (liver, lungs, bone, ...) that people named in
63 503 slices of its own data. Labels of liver and tumour name no lung and no bone: what they tell is liver,
liver with tumour, and on which side of the liver a slice without any lies.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from livseg_lib.backend import import_backend
from livseg_lib.errors import InputError
from livseg_lib.labels import REGIONS, STRUCTURE_LABELS, TARGETS, structure_mask
from livseg_lib.preprocessing.recipe import OWN_PICTURE, NetworkInput, with_liver
from livseg_lib.provenance import code_of, digest
from livseg_lib.sampling.augmentation import AUGMENTATIONS, augment_batch

import_backend()
import keras  # noqa: E402 (after its backend)


def encode_target(labels: np.ndarray, target: str) -> np.ndarray:
    """Labels 0/1/2, any shape (...), as float32 0/1 maps (..., K), one a structure of `TARGETS[target]`.

    K is 1 for "liver" and "tumor" and 2 for "both": liver (label >= 1), then tumour (label == 2), which
    overlap as a tumour is liver too. Raises InputError for an unknown target.
    """
    if target not in TARGETS:
        raise InputError("target", f"is {target!r}.", f"Choose one of {', '.join(TARGETS)}.")
    return np.stack([structure_mask(labels, name) for name in TARGETS[target]], axis=-1).astype(np.float32)


def decode_target(maps: np.ndarray, target: str) -> np.ndarray:
    """Inverse of `encode_target`: maps (..., K) from 0.5 up -> labels 0/1/2, uint8 (...)."""
    labels = np.zeros(maps.shape[:-1], np.uint8)
    for channel, structure in enumerate(TARGETS[target]):
        labels[maps[..., channel] >= 0.5] = STRUCTURE_LABELS[structure]
    return labels


OPEN_FILES = 64
"""Arrays kept open at a time: some systems allow a process 256 files. Opening one takes 0.1 ms."""

ORDER, AUGMENTATION, POSITION = 0, 1, 2
"""Keep the kinds of draws from one seed apart."""

_EXTRACT_AGAIN = "Extract the slices again (notebook 01)."


def arrays_checksum(folder: Path, arrays: Iterable[str]) -> str:
    """Of all pictures and masks below `folder` that `arrays` names: they may have been extracted anew."""
    total = 0
    for array in sorted(set(map(str, arrays))):
        for name in ("images.npy", "masks.npy"):
            total = zlib.crc32(np.ascontiguousarray(_open_array(Path(folder) / array / name)), total)
    return f"{total:08x}"


class PictureBatches(keras.utils.PyDataset):
    """Images float32 (B, s, s, C) in [0, 1], and what a subclass makes of them in `_truth`.

    `slices` has a row each, with `array` and `array_index`: slice `array_index` of
    `folder/array/images.npy`, uint8 (D, s, s, C), and `masks.npy`, uint8 labels (D, s, s).

    With `shuffle` every slice comes once an epoch and the last batch is filled up with slices from the
    epoch's start, so that all batches have one shape; `slices_per_epoch` makes epochs shorter or longer,
    each going on where the one before stopped. Without it the order is that of the rows, nothing comes
    twice, the last batch may be smaller, and `slices_per_epoch` takes the same evenly spaced slices every
    time.

    Batches are a function of the arguments and the epoch alone. Keras moves the epoch on; a training that
    resumes at epoch n first calls `start_epoch(n)`. Train by `fit(..., shuffle=False)`: by default Keras
    asks for the batches of an epoch in an order of its own, which no resumed training could repeat.

    A subclass with a `depth` makes blocks (B, depth, s, s, C) of it: so many slices from `array_index` on,
    the array's last one again where it ends before them. Raises InputError for arrays that are missing,
    damaged or do not fit.
    """

    depth: int | None = None

    def __init__(
        self,
        slices: pd.DataFrame,
        folder: Path,
        batch_size: int,
        augmentation: str = "none",
        seed: int = 0,
        shuffle: bool = True,
        slices_per_epoch: int | None = None,
    ) -> None:
        # One thread reads and augments far faster than a network trains; process workers have hung for
        # others, and threads would gain nothing.
        super().__init__(workers=1, use_multiprocessing=False)
        cv2.setNumThreads(1)  # a second one would wait for a core that the training has
        if not {"array", "array_index"} <= set(slices.columns):
            raise InputError("slices", "lack the columns array and array_index.", _EXTRACT_AGAIN)
        if slices.empty:
            raise InputError("slices", "are none, so there is nothing to learn from.", "Choose other slices.")
        if augmentation not in AUGMENTATIONS:
            problem = f"is {augmentation!r}."
            raise InputError("augmentation", problem, f"Choose one of {', '.join(AUGMENTATIONS)}.")
        require_counts(batch_size=batch_size, slices_per_epoch=slices_per_epoch)
        self.folder, self.augmentation = Path(folder), augmentation
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self._arrays = slices["array"].astype(str).to_numpy()
        self._indices = slices["array_index"].to_numpy(dtype=int)
        self._epoch_length = slices_per_epoch or len(slices)
        if not shuffle:
            self._epoch_length = min(self._epoch_length, len(slices))
        self._open = lru_cache(maxsize=OPEN_FILES)(_open_array)
        self.input_shape = self._check_arrays()
        self.start_epoch(0)

    def description(self) -> dict:
        """What defines the batches, JSON-ready: a resumed training must see the same ones."""
        names = ("batch_size", "augmentation", "seed", "shuffle", *(["depth"] if self.depth else []))
        return {name: getattr(self, name) for name in names} | {
            "slices": digest([self._arrays.tolist(), self._indices]),
            "pictures": arrays_checksum(self.folder, self._arrays),
            "an_epoch": self._epoch_length,
        }

    def code(self) -> dict[str, str]:
        """Digests of the code that makes the batches."""
        steps = AUGMENTATIONS[self.augmentation]
        return {"batches": code_of(type(self), apart=[AUGMENTATIONS]), "augmentation": code_of(steps)}

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self._epoch_length // self.batch_size)

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and truth of one batch of the current epoch."""
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of {len(self)}")
        rows = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        images, masks = self._pictures(rows), self._read(rows, "masks.npy")
        seed = np.random.SeedSequence((self.seed, AUGMENTATION, self.epoch, batch)).generate_state(1)[0]
        images, masks = augment_batch(images, masks, self.augmentation, seed)
        return self._inputs(images, masks).astype(np.float32) / 255.0, self._truth(rows, masks)

    def _pictures(self, rows: np.ndarray) -> np.ndarray:
        """Pictures uint8 (B, s, s, C') before augmentation, for rows of the table."""
        return self._read(rows, "images.npy")

    def _inputs(self, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """What the network gets, uint8, of augmented pictures and labels."""
        return images

    def _truth(self, rows: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """The right answers for pictures `rows` of the table, whose augmented labels are `masks`."""
        raise NotImplementedError

    def start_epoch(self, epoch: int) -> None:
        """Make the batches those of `epoch`, counted from 0; Keras's next epoch is this one too."""
        self.epoch = self._next_epoch = epoch
        self._order = self._rows_of_epoch(epoch)

    def on_epoch_begin(self) -> None:
        """Called by Keras once an epoch (unlike `on_epoch_end`, which `fit` also calls before the first)."""
        self.start_epoch(self._next_epoch)
        self._next_epoch += 1

    def _rows_of_epoch(self, epoch: int) -> np.ndarray:
        """Rows of the table, int, in the order of the epoch."""
        return self._turns(len(self._arrays), epoch)

    def _turns(self, count: int, epoch: int) -> np.ndarray:
        """Which of `count` things, numbered from 0, come in `epoch`, in their order."""
        length = self._epoch_length
        if not self.shuffle:
            return np.arange(length) * count // length
        # Epochs are cut from one endless row of permutations.
        first, last = epoch * length, (epoch + 1) * length
        numbers = range(first // count, (last - 1) // count + 1)
        orders = [np.random.default_rng((self.seed, ORDER, number)).permutation(count) for number in numbers]
        start = first - numbers[0] * count
        rows = np.concatenate(orders)[start : start + length]
        return np.resize(rows, len(self) * self.batch_size)  # repeats the rows from their start

    def _read(self, rows: np.ndarray, name: str) -> np.ndarray:
        """Slices of the rows, (B, s, s, ...), or blocks, (B, depth, s, s, ...)."""
        parts = []
        for array, start in zip(self._arrays[rows], self._indices[rows], strict=True):
            held = self._open(self.folder / array / name)
            index = start if self.depth is None else block_slices(start, self.depth, len(held))
            parts.append(held[index])
        return np.stack(parts)

    def _check_arrays(self) -> tuple[int, ...]:
        """(s, s, C) of all images, or (depth, s, s, C) of blocks."""
        used_range = pd.Series(self._indices).groupby(self._arrays).agg(["min", "max"])
        first_path, shape = None, None
        for array, used in used_range.iterrows():
            path = self.folder / array / "images.npy"
            images, masks = self._open(path), self._open(path.with_name("masks.npy"))
            first_path, shape = first_path or path, shape or images.shape[1:]
            problem = None
            if images.ndim != 4 or images.shape[:3] != masks.shape:
                shapes = f"{images.shape} and its masks {masks.shape}"
                problem = f"has the shape {shapes}: (D, s, s, C) and (D, s, s) fit."
            elif used["min"] < 0 or used["max"] >= len(images):
                named = f"{used['min']} to {used['max']}"
                problem = f"has {len(images)} slices, but slices.csv names {named} (counted from 0)."
            elif images.shape[1:] != shape:
                problem = f"has slices of {images.shape[1:]} pixels and channels, {first_path} of {shape}."
            if problem:
                raise InputError(path, problem, _EXTRACT_AGAIN)
        return shape if self.depth is None else (self.depth, *shape)


def block_slices(start: int, depth: int, n_slices: int) -> np.ndarray:
    """Which slices make a block, int (depth,): where the volume ends before it, its last slice again.

    Truth is repeated as the picture is, so that the copies teach what their original teaches.
    """
    return np.minimum(np.arange(start, start + depth), n_slices - 1)


class SliceBatches(PictureBatches):
    """Images float32 (B, s, s, C) and target maps float32 (B, s, s, K) (`encode_target`).

    `inputs` adds channels: neighbouring slices of the array, and the true liver, moved as the truth is.
    All else as in `PictureBatches`; raises InputError for an unknown target, too.
    """

    def __init__(
        self,
        slices: pd.DataFrame,
        folder: Path,
        target: str,
        *args,
        inputs: NetworkInput = OWN_PICTURE,
        **settings,
    ) -> None:
        encode_target(np.zeros(1, np.uint8), target)  # refuses an unknown target now, not in the first epoch
        self.target, self.inputs = target, inputs
        super().__init__(slices, folder, *args, **settings)
        self.input_shape = (*self.input_shape[:-1], inputs.channels(self.input_shape[-1]))

    def description(self) -> dict:
        """As of `PictureBatches`, with the target and further channels."""
        further = {"inputs": self.inputs.to_dict()} if self.inputs != OWN_PICTURE else {}
        return {"target": self.target} | further | super().description()

    def _pictures(self, rows: np.ndarray) -> np.ndarray:
        if not self.inputs.neighbours:
            return super()._pictures(rows)
        return np.stack([self._with_neighbours(row) for row in rows])

    def _with_neighbours(self, row: int) -> np.ndarray:
        images, reach = self._open(self.folder / self._arrays[row] / "images.npy"), self.inputs.neighbours
        indices = np.arange(self._indices[row] - reach, self._indices[row] + reach + 1)
        return np.concatenate(list(images[indices.clip(0, len(images) - 1)]), axis=-1)

    def _inputs(self, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return with_liver(images, structure_mask(masks, "liver")) if self.inputs.sees_liver else images

    def _truth(self, rows: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return encode_target(masks, self.target)


def require_counts(**counts: int | None) -> None:
    """Raise InputError unless all are None or 1 at least."""
    for name, number in counts.items():
        if number is not None and number < 1:
            raise InputError(name, f"is {number}.", "Give 1 or more.")


def _open_array(path: Path) -> np.ndarray:
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # np.memmap cuts slowly
    except (OSError, ValueError, EOFError) as error:
        raise InputError(path, f"cannot be opened ({error}).", _EXTRACT_AGAIN) from error
    if array.dtype != np.uint8:
        raise InputError(path, f"holds {array.dtype} where uint8 belongs.", _EXTRACT_AGAIN)
    return array


class RegionBatches(PictureBatches):
    """Images float32 (B, s, s, C) in [0, 1] and regions float32 (B, K), one-hot in the order of `regions`.

    `slices` has a column `region` besides those of `PictureBatches`. Raises InputError for a region that
    is not one of `regions`.
    """

    def __init__(self, slices: pd.DataFrame, folder: Path, regions: Sequence[str], *args, **settings) -> None:
        self.regions = tuple(regions)
        is_region = slices["region"].to_numpy(str)[:, np.newaxis] == np.array(self.regions)
        if not is_region.any(axis=1).all():
            stranger = slices["region"].to_numpy(str)[~is_region.any(axis=1)][0]
            problem = f"{str(stranger)!r} is none of {', '.join(regions)}."
            raise InputError("region", problem, "Leave out slices without a region.")
        self._one_hot = is_region.astype(np.float32)
        super().__init__(slices, folder, *args, **settings)

    def description(self) -> dict:
        """As of `PictureBatches`, with the regions and which slice shows which."""
        return {"regions": list(self.regions), "truth": digest(self._one_hot)} | super().description()

    def _truth(self, rows: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return self._one_hot[rows]


NO_REGION = ""


def attach_regions(slices: pd.DataFrame) -> pd.DataFrame:
    """`slices` (with `class`, `case`, `array_index`) with `region`: a name of REGIONS, or NO_REGION.

    A slice without liver has no region where its case shows no liver at all, or where liver lies on both
    sides of it. Sides follow `array_index`, which runs from feet to head in volumes; a set of pictures
    does not say which end is the feet: there "below" means lower slice numbers.
    """
    shows, index = slices["class"].to_numpy(dtype=int), slices["array_index"].to_numpy(dtype=float)
    with_liver = pd.Series(np.where(shows > 0, index, np.nan)).groupby(slices["case"].astype(str).to_numpy())
    lowest, highest = (with_liver.transform(end).to_numpy() for end in ("min", "max"))
    found = [shows == 2, shows == 1, index < lowest, index > highest]
    names = ["liver_with_tumor", "liver", "below_liver", "above_liver"]
    return slices.assign(region=np.select(found, names, NO_REGION))


def regions_in(slices: pd.DataFrame) -> tuple[str, ...]:
    """The regions that occur, in the order of REGIONS."""
    return tuple(region for region in REGIONS if (slices["region"] == region).any())


def without_region(slices: pd.DataFrame) -> pd.DataFrame:
    """The slices that no region can be named for, counted: columns `patient, case, slices, reason`."""
    nameless = slices[slices["region"] == NO_REGION]
    counts = nameless.groupby(["patient", "case"], sort=False).size().rename("slices").reset_index()
    has_liver = set(slices.loc[slices["class"] > 0, "case"])
    reasons = ["liver on both sides" if case in has_liver else "no liver at all" for case in counts["case"]]
    return counts.assign(reason=reasons)
