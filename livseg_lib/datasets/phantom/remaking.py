"""What only the phantom knows of its scans: which organ every voxel is, and each lesion that was painted.

The files hold labels 0/1/2 as real data does; the rest comes back from the seed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.datasets.phantom.patient import make_phantom_organs
from livseg_lib.datasets.phantom.writing import phantom_made_by
from livseg_lib.errors import InputError
from livseg_lib.provenance import changes


def is_phantom(folder: Path | str) -> bool:
    """Whether `write_phantom` made the scans of `folder`."""
    return (Path(folder) / "phantom.json").is_file()


def remake_organs(folder: Path | str, case_id: str) -> np.ndarray:
    """Codes of `Organ`, uint8 (D, H, W), of the case "volume-N" that `write_phantom` wrote to `folder`.

    Raises InputError as `phantom_numbers` does.
    """
    return make_phantom_organs(*phantom_numbers(folder, case_id))


def phantom_numbers(folder: Path | str, case_id: str) -> tuple[int, int, str | None]:
    """Seed, index and site that `make_phantom_patient` made the case "volume-N" of `folder` from.

    Raises InputError for a folder that is no phantom or that another version of the generator made, and for
    a case that is not one of its.
    """
    folder = Path(folder)
    if not is_phantom(folder):
        raise InputError(folder, "holds no phantom (phantom.json).", "Only a phantom can be made again.")
    settings = json.loads((folder / "phantom.json").read_text())
    made_by = phantom_made_by()
    if reasons := changes({key: settings.get(key, {}) for key in made_by}, made_by):
        problem = f"was made by another phantom, changed since: {', '.join(reasons)}."
        raise InputError(folder, problem, "Delete the folder and run 00_prepare_data again.")
    number = re.fullmatch(r"volume-(\d+)", case_id)
    if number is None or not (folder / f"case-{number[1]}.json").exists():
        raise InputError(folder, f"has no case {case_id!r}.", "Name a case of this phantom.")
    return settings["seed"], int(number[1]), settings["site"]


def painted_lesions(folder: Path | str, case_id: str) -> pd.DataFrame:
    """Rows of lesions.csv of one case: tumours and cysts as they were painted, each by itself.

    Touching tumours are several rows here and one object in the labels.
    """
    table = pd.read_csv(Path(folder) / "lesions.csv")
    return table[table.case == case_id].reset_index(drop=True)
