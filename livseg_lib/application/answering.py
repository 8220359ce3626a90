"""One upload from the browser or over HTTP to one answer; whatever goes wrong becomes a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from livseg_lib.application.inputs import Reading, find_inputs
from livseg_lib.application.patient import PatientResult, predict_case
from livseg_lib.application.predictor import Predictor, load_predictor
from livseg_lib.application.results import RECORD, write_result
from livseg_lib.errors import InputError, reason_of

LOADED_AT_ONCE = 2
"""Systems kept in memory."""


class Refused(Exception):
    """What the sender is told: a sentence without a path of this machine."""


@dataclass(frozen=True, eq=False)
class Answer:
    """One case, treated and written."""

    result: PatientResult
    record: dict
    """As in record.json."""
    archive: Path
    """Zip of all that `livseg predict` writes of a case."""
    note: str
    """A sentence where the upload held more than one case; else empty."""


def answer(
    uploads: Sequence[Path | str],
    model: Path,
    folder: Path,
    series: str = "",
    on_step: Callable[[str], None] = lambda step: None,
) -> Answer:
    """Treat the first case of the uploaded files with the system in `model`; everything is kept in `folder`.

    Several files are one folder: the slices of a DICOM series, or pictures. The case is called case-001
    whatever the files are called, as a name may be a patient's. Raises Refused where there is no answer.
    """
    try:
        patients = find_inputs(_one_source(uploads, folder), reading=Reading(series or None), numbered=True)
        result = predict_case(patients[0], loaded(model), on_step)
        written = write_result(result, folder / "result")
        archive = Path(shutil.make_archive(str(folder / "livseg-result"), "zip", written))
    except Exception as error:  # the next visitor is to be served whatever this upload did
        raise Refused(reason_of(error)) from error
    more = f"The upload holds {len(patients)} cases; this is the first." if len(patients) > 1 else ""
    return Answer(result, json.loads((written / RECORD).read_text()), archive, more)


@lru_cache(maxsize=LOADED_AT_ONCE)
def loaded(model: Path) -> Predictor:
    """The system in a model folder; the last ones asked for stay in memory."""
    return load_predictor(model)


def _one_source(uploads: Sequence[Path | str], folder: Path) -> Path:
    """The uploaded file, or a folder that holds links to all of them."""
    paths = [Path(path) for path in uploads]
    if not paths:
        raise InputError("upload", "There is no file.", "Drop a scan or a slice first.")
    if len(paths) == 1:
        return paths[0]
    together = folder / "upload"
    together.mkdir()
    for number, path in enumerate(paths):
        (together / f"{number:04d}{path.suffix.lower()}").symlink_to(path)
    return together
