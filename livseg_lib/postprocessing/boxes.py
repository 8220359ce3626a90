"""What measuring an object asks of arrays and spacing, and the box around it: work there costs what the
object costs, not what the scan does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livseg_lib.errors import InputError

Box = tuple[slice, slice, slice]


def known_spacing(spacing_mm: Sequence[float]) -> np.ndarray:
    """`spacing_mm` (D, H, W) as float64. Raises InputError where it is unknown (NaN) or not positive."""
    spacing = np.asarray(spacing_mm, float)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(
            "spacing_mm",
            f"is {tuple(spacing_mm)}: without a size in mm on each axis nothing here can be measured.",
            "Use a volume of known spacing; a stack of pictures has none.",
        )
    return spacing


def widened(box: Box, shape: Sequence[int], spacing_mm: np.ndarray, margin_mm: float) -> Box:
    """`box` with at least `margin_mm` more on every side, as far as a volume of `shape` goes."""
    margins = np.ceil(margin_mm / spacing_mm).astype(int)
    return tuple(
        slice(max(0, side.start - margin), min(size, side.stop + margin))
        for side, margin, size in zip(box, margins.tolist(), shape, strict=True)
    )


def require_volumes(**arrays: np.ndarray) -> None:
    """Raise InputError unless all named `arrays` are volumes (D, H, W) of one shape."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 3 for shape in shapes.values()):
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(", ".join(arrays), f"are not volumes of one shape: {told}.", "Use one scan's grid.")
