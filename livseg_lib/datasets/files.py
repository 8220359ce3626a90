"""Finding files by their names."""

from __future__ import annotations

import re
from pathlib import Path

from livseg_lib.errors import InputError

NIFTI_SUFFIX = r"\.nii(?:\.gz)?"


def numbered_files(folder: Path, pattern: str) -> dict[tuple[int, ...], Path]:
    """Files anywhere below `folder` whose whole name matches `pattern`, by the numbers in its groups.

    In the order of the numbers. Raises InputError where two files carry the same numbers.
    """
    name, found = re.compile(pattern, re.IGNORECASE), {}
    for path in sorted(folder.rglob("*")):
        match = name.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        numbers = tuple(map(int, match.groups()))
        if numbers in found:
            raise InputError(
                path, f"The file has the same number as {found[numbers]}.", "Keep one of the two."
            )
        found[numbers] = path
    return dict(sorted(found.items()))


def nifti_files(folder: Path) -> dict[str, Path]:
    """NIfTI files directly in `folder` by their name without suffix, in natural order."""
    found = {}
    for path in sorted(folder.glob("*"), key=lambda path: natural_key(path.name)):
        stem = nifti_stem(path)
        if stem is None or not path.is_file():
            continue
        if stem in found:
            raise InputError(path, f"The file has the same name as {found[stem]}.", "Keep one of the two.")
        found[stem] = path
    return found


def files_of(source: Path) -> tuple[Path, ...]:
    """`source` itself if it is a file (a zip), else every file below it, in order of name."""
    if source.is_file():
        return (source,)
    return tuple(sorted(path for path in source.rglob("*") if path.is_file()))


def nifti_stem(path: Path) -> str | None:
    """Name without `.nii` or `.nii.gz`, or None where it has neither.

    None for hidden files too: archives made on a Mac carry a `._` twin of every file.
    """
    match = re.fullmatch(r"([^.].*)" + NIFTI_SUFFIX, path.name)
    return match[1] if match else None


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts "liver_2" before "liver_10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
