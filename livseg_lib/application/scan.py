"""A scan as the application treats it, whatever it was read from: NIfTI, DICOM or pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from livseg_lib.preprocessing.windows import Window
from livseg_lib.volumes import Volume


@dataclass(frozen=True, eq=False)
class Scan:
    """What was read of one case. Nothing in it names a patient, but `headers` where that was asked for."""

    volume: Volume
    window: Window | None = None
    """Of pictures: the HU of black and of white."""
    slice_numbers: tuple[int, ...] | None = None
    """Original numbers of the slices of a stack of pictures."""
    headers: tuple[Dataset, ...] = ()
    """Of DICOM, a header a slice in the order of space: where it lies and by which UID it is known."""
    notes: tuple[str, ...] = ()
    """What was decided in reading, for the reader: sentences."""

    @property
    def is_picture(self) -> bool:
        """Whether it is made of pictures: no spacing, no place in space, HU only by someone's word."""
        return self.window is not None


@dataclass(frozen=True)
class PatientInput:
    """One case to be treated, not yet read."""

    case_id: str
    """Unique among those treated together and fit for a file name. From the file's name, or a number."""
    kind: str
    """ "NIfTI", "DICOM" or "picture"."""
    files: tuple[Path, ...]
    """Every file that it is read from."""
    read: Callable[[], Scan]
    """Raises InputError where it cannot be used."""
    options: dict = field(default_factory=dict)
    """JSON-ready: how it is read, where there is a choice."""
