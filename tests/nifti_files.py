"""NIfTI files for tests, written with nibabel so that ours is checked against another's hand."""

import gzip
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np

SIDES_MM = (0.75, 0.5, 2.5)  # of the stored axes i, j, k; exact in float32
ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def axis_affine(axes=(0, 1, 2), signs=(-1, -1, 1), sides_mm=SIDES_MM) -> np.ndarray:
    """Stored axis n runs along world axis `axes[n]` (RAS) in direction `signs[n]`; LPS by default."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for n in range(3):
        affine[axes[n], n] = signs[n] * sides_mm[n]
    affine[:3, 3] = (-31.5, 12.25, 400.0)
    return affine


def write_nifti(path: Path, stored: np.ndarray, affine=None, kind=nibabel.Nifti1Image, **fields) -> Path:
    """Save `stored` (i, j, k), sform and qform both `affine`; `fields` then overwrite header fields."""
    affine = axis_affine() if affine is None else affine
    header = kind.header_class(endianness=">" if stored.dtype.byteorder == ">" else "<")
    image = kind(stored, affine, header)
    image.set_data_dtype(stored.dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=1)
    plain = image.to_bytes()
    if fields:
        size = 348 if kind is nibabel.Nifti1Image else 540
        header = kind.header_class(plain[:size], endianness=header.endianness, check=False)
        for name, value in fields.items():
            header[name] = value
        plain = header.binaryblock + plain[size:]
    path.write_bytes(gzip.compress(plain, 4, mtime=0) if path.suffix == ".gz" else plain)
    return path


def ct_like(shape: tuple = (7, 6, 5), seed: int = 0) -> np.ndarray:
    """Noisy int16 HU."""
    return np.random.default_rng(seed).normal(50, 300, shape).astype(np.int16)
