"""Score label files against label files: what `livseg evaluate` does.

Files are paired by name, or else by the number that ends the name, so that `segmentation-12.nii` meets
`volume-12.nii.gz`, `liver_12.nii.gz` or the folder `volume-12` of `livseg predict`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.atomic import write_json
from livseg_lib.errors import InputError
from livseg_lib.evaluation.case_scores import score_case
from livseg_lib.evaluation.detection import MODES
from livseg_lib.evaluation.lesion_sizes import lesion_rows, summarize_sizes
from livseg_lib.evaluation.summary import summarize_cases
from livseg_lib.evaluation.surface import SURFACE_TOLERANCE_MM
from livseg_lib.volumes import load_segmentation, load_volume

SUFFIXES = (".nii.gz", ".nii")
PREDICTED_MASK = "mask.nii.gz"
"""`livseg predict` writes one into the folder of each case."""
LABEL_WORDS = re.compile("seg|label|mask|pred", re.IGNORECASE)
NUMBER_AT_END = re.compile(rf"(\d+)([-_]?({LABEL_WORDS.pattern})[a-z]*)?$", re.IGNORECASE)


def evaluate_folders(
    reference: Path | str,
    prediction: Path | str,
    mode: str = "intended",
    accept_affine_mismatch: bool = False,
    tolerance_mm: float = SURFACE_TOLERANCE_MM,
) -> dict:
    """Score every NIfTI label file under `reference` (a folder, or one file) against its prediction.

    Returns `mode`, `surface_tolerance_mm`, `summary` (see `summarize_cases`), `missed` (cases without a
    prediction: scored as an empty one), `without_reference` (prediction files that nothing was compared
    with), `cases`, a mapping of `score_case` each with the `case` it belongs to and the two files, `lesions`,
    the rows of `lesion_rows` with their `case`, and `lesions_by_size`, those of `summarize_sizes`. Spacing is
    the reference's. Single tumours are matched by their true IoU in either mode.

    Raises InputError for unreadable files, labels other than 0, 1 and 2, ambiguous names, and grids
    that differ in shape or, unless `accept_affine_mismatch`, in affine.
    """
    if mode not in MODES:
        raise InputError("mode", f"is {mode!r}.", f"Choose one of {MODES}.")
    pairs, without_reference = pair_files(Path(reference), Path(prediction))
    scored = [_score_files(*pair, mode, accept_affine_mismatch, tolerance_mm) for pair in pairs]
    cases = [case for case, _ in scored]
    lesions = pd.concat([rows for _, rows in scored], ignore_index=True)
    return {
        "mode": mode,
        "surface_tolerance_mm": tolerance_mm,
        "summary": summarize_cases(cases, mode),
        "missed": [case["case"] for case in cases if case["prediction_file"] is None],
        "without_reference": [str(path) for path in without_reference],
        "cases": cases,
        "lesions": lesions.to_dict("records"),
        "lesions_by_size": summarize_sizes(lesions, patient="case").to_dict("records"),
    }


def _score_files(
    reference: Path, prediction: Path | None, mode: str, accept_affine_mismatch: bool, tolerance_mm: float
) -> tuple[dict, pd.DataFrame]:
    """Scores of one pair of files, and of each tumour; without a prediction, those of an empty one."""
    volume = load_volume(reference)
    truth = load_segmentation(reference, like=volume)
    found = np.zeros_like(truth)
    if prediction is not None:
        found = load_segmentation(prediction, like=volume, accept_affine_mismatch=accept_affine_mismatch)
    names = {"case": _stem(reference), "reference_file": str(reference)}
    names["prediction_file"] = None if prediction is None else str(prediction)
    lesions = lesion_rows(found, truth, volume.spacing_mm)
    lesions.insert(0, "case", names["case"])
    # In the order of the file: "lits_asis" confuses ids, and these are given in that order.
    truth, found = (np.ascontiguousarray(volume.native.orientation.to_stored(a)) for a in (truth, found))
    scores = score_case(found, truth, volume.native.stored_spacing_mm, mode, tolerance_mm)
    return names | scores, lesions


def pair_files(reference: Path, prediction: Path) -> tuple[list[tuple[Path, Path | None]], list[Path]]:
    """Each reference file with its prediction file or None, in natural order; and the predictions left over.

    Two files are a pair whatever their names. Raises InputError where a name fits more than one file.
    """
    references, predictions = label_files(reference), label_files(prediction)
    if reference.is_file() and prediction.is_file():
        return [(references[0], predictions[0])], []
    pairs = [(path, _partner(path, predictions)) for path in references]
    used = [found for _, found in pairs if found is not None]
    for found in used:
        if used.count(found) > 1:
            raise InputError(
                found, "is the prediction of several references.", "Give every case its own number."
            )
    return pairs, [path for path in predictions if path not in used]


def label_files(where: Path) -> list[Path]:
    """The NIfTI label files of a folder and its subfolders, by case number and name, or the one file.

    A file is left out as a scan where another of its number says seg, label, mask or pred in its path
    below the folder, and it does not. Raises InputError where there is no file.
    """
    if where.is_file():
        return [where]
    paths = [p for p in where.rglob("*") if p.name.lower().endswith(SUFFIXES) and p.is_file()]
    if not paths:
        raise InputError(
            where, "holds no .nii or .nii.gz file.", "Name a folder of label volumes, or one file."
        )
    named = {p for p in paths if LABEL_WORDS.search(str(p.relative_to(where)))}
    labelled = {_case_number(p) for p in named} - {None}
    paths = [p for p in paths if p in named or _case_number(p) not in labelled]
    return sorted(paths, key=lambda path: (_case_number(path) or 0, _stem(path), path))


def _stem(path: Path) -> str:
    """File name without .nii or .nii.gz; that of its folder for a mask of `livseg predict`."""
    if path.name == PREDICTED_MASK:
        return path.parent.name
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _case_number(path: Path) -> int | None:
    """The number at the end of the name: 12 of "segmentation-12.nii.gz" and of "volume-12_pred.nii"."""
    found = NUMBER_AT_END.search(_stem(path))
    return int(found.group(1)) if found else None


def _partner(reference: Path, predictions: list[Path]) -> Path | None:
    """The prediction of the same name, else of the same case number; None where there is none."""
    same_name = [p for p in predictions if _stem(p) == _stem(reference)]
    number = _case_number(reference)
    fitting = same_name or [p for p in predictions if number is not None and _case_number(p) == number]
    if len(fitting) > 1:
        names = ", ".join(str(path) for path in fitting)
        raise InputError(reference, f"fits several predictions: {names}.", "Keep one file a case.")
    return fitting[0] if fitting else None


def write_scores(scores: dict, path: Path | str) -> Path:
    """Write the mapping of `evaluate_folders` as JSON, whole or not at all; NaN becomes null."""
    return write_json(path, scores)
