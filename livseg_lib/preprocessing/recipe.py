"""How a volume becomes pictures: the one record that extraction and prediction both follow."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.windows import LIVER_WINDOWS, MR_WINDOWS, ChannelWindow, as_channel

NOISE_FILTERS = ("none", "median", "gaussian")
EQUALIZATIONS = ("none", "global", "clahe")


@dataclass(frozen=True)
class Recipe:
    """Steps in the order they are applied. Written to `model.json`, so that prediction repeats them."""

    windows: tuple[ChannelWindow, ...] = LIVER_WINDOWS
    """One channel each (system B). Given as `windows.as_channel` takes them, such as "liver" or (-100, 200),
    and kept by their bounds: what a trained model is shown does not change with the table of names."""
    noise_filter: str = "none"
    """Applied in HU before windowing: none, median (3 x 3) or gaussian (system E)."""
    equalization: str = "none"
    """Applied to each windowed slice: none, global histogram or CLAHE (system B)."""
    voxel_size_mm: tuple[float, float, float] | None = None
    """Resample to this (D, H, W) voxel size first (system D); None keeps the scan's own."""
    size: int = 128
    """Pictures are size x size pixels, 32 to 512; systems B and C use 256."""

    def __post_init__(self) -> None:
        windows = [self.windows] if isinstance(self.windows, str) else self.windows
        object.__setattr__(self, "windows", tuple(map(as_channel, windows)))
        for name, allowed in (("noise_filter", NOISE_FILTERS), ("equalization", EQUALIZATIONS)):
            if getattr(self, name) not in allowed:
                raise InputError(name, f"is {getattr(self, name)!r}.", f"Choose one of {allowed}.")
        if not 32 <= self.size <= 512:
            raise InputError("size", f"is {self.size} pixels.", "Choose 32 to 512.")

    @classmethod
    def of_case(cls, folder: Path) -> Recipe:
        """The recipe that the extracted case in `folder` was made by."""
        return cls.from_dict(json.loads((folder / "case.json").read_text())["request"]["recipe"])

    @property
    def modality(self) -> str:
        """ "mr" where a channel is a range of an MR scan's percentiles, else "ct"."""
        return "mr" if any(window.name in MR_WINDOWS for window in self.windows) else "ct"

    def to_dict(self) -> dict:
        """JSON-ready mapping; `Recipe.from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Recipe:
        """Inverse of `to_dict` (lists become tuples)."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
