"""Case after case: one that fails is listed and ends nothing, one that is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from livseg_lib.application.inputs import LABELS
from livseg_lib.application.patient import predict_case
from livseg_lib.application.predictor import Predictor
from livseg_lib.application.record import identify_request
from livseg_lib.application.results import RECORD, require_result_or_nothing, write_result
from livseg_lib.application.scan import PatientInput
from livseg_lib.checksums import holds_files
from livseg_lib.durations import format_duration
from livseg_lib.errors import InputError, reason_of
from livseg_lib.reporting.tables import write_table

MEASURES = ("liver_ml", "tumor_ml", "n_tumors")
COLUMNS = (
    *("case", "state", "reason", "kind", "tumor_suspected", "tumor_probability"),
    *(*MEASURES, "cautions", "seconds", "peak_memory_mb"),
)
"""Of cases.csv. `state` is "done", "failed" or "passed over" (labels, no scan); `cautions` counts them."""


def predict_batch(
    patients: Sequence[PatientInput],
    predictor: Predictor,
    out: Path | str,
    on_case: Callable[[dict], None] = lambda row: None,
) -> pd.DataFrame:
    """Treat every case, each into the folder `out`/<case>; gives and writes `out`/cases.csv (COLUMNS).

    A case whose folder holds the record of the same files, options and models stays as it is. `on_case`
    hears each row as it comes, with `resumed` (bool). Raises InputError before any work where a folder
    would be overwritten that is no result, and in the middle where nothing can be written any more: what
    is done then stays done.
    """
    out, rows = Path(out), []
    for patient in patients:
        require_result_or_nothing(out / patient.case_id)
    bar = tqdm(patients, "predicting", unit="case", disable=None)  # None: no bar where no one watches
    for patient in bar:
        row = _treat(patient, predictor, out, lambda step: bar.set_postfix_str(step))
        rows.append({"case": patient.case_id, "kind": patient.kind, **row})
        table = pd.DataFrame(rows).reindex(columns=COLUMNS)
        try:
            write_table(table, out / "cases.csv")
        except OSError as error:
            raise _unwritable(out, error) from error
        on_case(rows[-1])
    return table


def describe_case(row: dict) -> str:
    """One line on a row of `predict_batch`."""
    if row["state"] != "done":
        return f"{row['case']}: {row['state']}: {row['reason']}"
    if row["resumed"]:
        return f"{row['case']}: done before"
    found = {True: "suspected", False: "not suspected", None: "not looked for"}[row["tumor_suspected"]]
    probability = row["tumor_probability"]
    sure = "" if probability is None else f" (probability {probability:.2f})"
    amounts = {"liver": row["liver_ml"], "tumour": row["tumor_ml"]}
    measured = "".join(f"{name} {ml:.1f} ml, " for name, ml in amounts.items() if ml is not None)
    took = f"{format_duration(row['seconds'])}, {row['peak_memory_mb']} MB"
    return f"{row['case']}: {measured}tumour {found}{sure}; {took}"


def _treat(patient: PatientInput, predictor: Predictor, out: Path, on_step: Callable[[str], None]) -> dict:
    """The row of one case. Raises InputError only where results cannot be written."""
    folder = out / patient.case_id
    try:
        if row := _finished_row(folder, patient, predictor):
            return row
        result = predict_case(patient, predictor, on_step)
    except Exception as error:  # whatever it is, the next case may be good
        state = "passed over" if getattr(error, "code", "") == LABELS else "failed"
        return {"state": state, "reason": reason_of(error)}
    try:
        write_result(result, folder)
        return _row(json.loads((folder / RECORD).read_text()), resumed=False)
    except OSError as error:
        raise _unwritable(out, error) from error
    except Exception as error:
        return {"state": "failed", "reason": reason_of(error)}


def _finished_row(folder: Path, patient: PatientInput, predictor: Predictor) -> dict | None:
    """That of the result in `folder`, if it is of this very request and whole."""
    try:
        record = json.loads((folder / RECORD).read_text())
        if record["request_sha256"] != identify_request(patient, predictor).request_sha256:
            return None
        return _row(record, resumed=True) if holds_files(folder, record["files"]) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _row(record: dict, resumed: bool) -> dict:
    presence = record["tumor_presence"]
    return {
        "state": "done",
        "tumor_suspected": presence["suspected"],
        "tumor_probability": presence["probability"],
        **{name: record["measures"][name] for name in MEASURES},
        "cautions": len(record["cautions"]),
        "seconds": record["seconds"]["in_all"],
        "peak_memory_mb": record["peak_memory_mb"],
        "resumed": resumed,
    }


def _unwritable(out: Path, error: OSError) -> InputError:
    problem = f"Results cannot be written ({error.strerror or type(error).__name__})."
    return InputError(
        out, problem, "Make room or choose another --out and run it again: finished cases stay."
    )
