"""The result of a case as a folder, the record last of all; and case after case."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from livseg_lib import WARNING, files
from livseg_lib.application.inputs import PatientInput
from livseg_lib.application.predictor import (
    PatientResult,
    Predictor,
    finished,
    identify_request,
    predict_case,
)
from livseg_lib.errors import InputError, format_duration, reason_of
from livseg_lib.outputs import write_table
from livseg_lib.preprocessing.extraction import MASK_GREY
from livseg_lib.preprocessing.recipe import display_window
from livseg_lib.preprocessing.windows import apply_window, as_hu
from livseg_lib.processes import in_processes
from livseg_lib.reporting.patient_page import PatientView, write_patient_page
from livseg_lib.reporting.screen import outlined_slice, slice_to_show
from livseg_lib.volumes import LABELS, save_segmentation

RECORD = "record.json"


def write_result(result: PatientResult, folder: Path | str) -> Path:
    """Write the folder of one case, aside and then renamed; whatever result it held before is gone.

    mask.nii.gz (DICOM: mask.dcm too; pictures: mask.png, or mask_<slice>.png each), measures.json,
    tumors.csv, overlay.png, index.html and record.json. Raises InputError where `folder` is something
    else than a result, and OSError where it cannot be written.
    """
    folder = Path(folder)
    files.require_replaceable(folder, RECORD)
    with files.folder_written_aside(folder) as partial:
        with result.clock.step("write"):
            write_masks(result, partial)
            _write_measures(result, partial)
            _write_overlay(result, partial)
            _write_page(result, partial)
        record = finished(result.record, result.clock) | {"files": files.folder_checksums(partial)}
        files.write_json(partial / RECORD, record)
    return folder


def write_masks(result: PatientResult, folder: Path) -> None:
    """The labels in the input's own grid and format."""
    scan, labels = result.scan, result.labels
    if scan.is_picture:
        names = [f"mask_{number}.png" for number in scan.slice_numbers or ()] or ["mask.png"]
        for mask, name in zip(labels, names, strict=True):
            Image.fromarray(MASK_GREY[mask]).save(folder / name, optimize=True)
        return
    save_segmentation(labels, scan.volume, folder / "mask.nii.gz")
    if scan.headers:
        from livseg_lib.application.dicom_seg import write_dicom_seg  # highdicom takes its time

        version = f"{result.record['livseg']} {result.record['git_revision'][:12]}".strip()
        made_by, structures = (result.record["system"]["system"], version), result.predictor.structures
        write_dicom_seg(labels, scan.volume, scan.headers, structures, made_by, folder / "mask.dcm")


def _write_measures(result: PatientResult, folder: Path) -> None:
    record = result.record
    measures = {
        "case": record["case"],
        "structures": record["system"]["structures"],
        **_presence(record),
        "tumor_probability_is": record["tumor_presence"]["how"],
        **record["measures"],
        "tumors": result.tumors.to_dict("records"),
    }
    files.write_json(folder / "measures.json", measures)
    write_table(result.tumors, folder / "tumors.csv")


def _presence(record: dict) -> dict:
    presence = record["tumor_presence"]
    return {"tumor_suspected": presence["suspected"], "tumor_probability": presence["probability"]}


def _write_overlay(result: PatientResult, folder: Path) -> None:
    _, index = slice_to_show([result.labels], len(result.labels))
    scan, case_id = result.scan, result.record["case"]
    window = scan.window or display_window(scan.volume, result.predictor.modality)
    grey = apply_window(scan.volume.voxels[index], window)
    number = index if scan.slice_numbers is None else scan.slice_numbers[index]
    title = f"{case_id}, slice {number}" if len(result.labels) > 1 else case_id
    sheet = outlined_slice(grey, result.labels[index], title, WARNING, scan.volume.spacing_mm[1:])
    described = PngInfo()
    described.add_text("Description", f"{title}. {WARNING}")
    few = sheet.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)  # a quarter of the bytes
    few.save(folder / "overlay.png", pnginfo=described)


def _write_page(result: PatientResult, folder: Path) -> None:
    """index.html leads to the patient page, which lies deeper with all that it loads."""
    record = result.record
    measures, case_id = _presence(record) | record["measures"], record["case"]
    tables = [("Measures", pd.DataFrame([measures]).dropna(axis=1)), ("Tumours", result.tumors)]
    liver_alone = [record["tumor_presence"]["how"]] * (measures["tumor_suspected"] is None)
    view = PatientView(
        case_id,
        as_hu(result.scan.volume, result.predictor.modality).voxels,
        result.scan.volume.spacing_mm,
        {record["system"]["system"]: result.labels},
        [(caption, table) for caption, table in tables if table.size],
        " ".join([*liver_alone, *record["cautions"], *record["notes"]]),
    )
    page = quote(write_patient_page(view, folder).relative_to(folder).as_posix())
    content = (
        f'<!doctype html><meta charset="utf-8"><title>{escape(case_id)}</title>'
        f'<meta http-equiv="refresh" content="0; url={page}"><a href="{page}">{escape(case_id)}</a>\n'
    )
    (folder / "index.html").write_text(content, encoding="utf-8")


_MEASURES = ("liver_ml", "tumor_ml", "n_tumors")
_COLUMNS = (
    *("case", "state", "reason", "kind", "tumor_suspected", "tumor_probability"),
    *(*_MEASURES, "cautions", "seconds", "peak_memory_mb"),
)
"""Of cases.csv. `state` is "done", "failed" or "passed over" (labels, no scan); `cautions` counts them."""

LISTING_SHARE = 0.05
"""Of the time may go into writing cases.csv at each case; where it takes more, it is written less often."""


def predict_batch(
    patients: Sequence[PatientInput],
    predictor: Predictor,
    out: Path | str,
    on_case: Callable[[dict], None] = lambda row: None,
    workers: int | str = 1,
) -> pd.DataFrame:
    """Treat every case, each into the folder `out`/<case>; gives and writes `out`/cases.csv (_COLUMNS).

    A case whose folder holds the record of the same files, options and models stays as it is. Each of the
    `workers` (of `in_processes`) holds one; but for 1, they load the predictor themselves. `on_case` hears
    each row as it comes, with the bools `resumed` and `replaces` (another scan's result). Raises InputError
    before any work where a folder would be overwritten that is no result, and in the middle where nothing
    can be written any more: what is done then stays done.
    """
    out, rows, began, listing = Path(out), [], time.monotonic(), 0.0
    files.require_own_file(out / "cases.csv", *_COLUMNS[:2])
    for patient in patients:
        files.require_replaceable(out / patient.case_id, RECORD)
    with tqdm(total=len(patients), desc="predicting", unit="case", disable=None) as bar:  # None: if watched
        options = {"on_step": bar.set_postfix_str} if workers == 1 else {}
        found = in_processes(partial(_treat, predictor=predictor, out=out, **options), patients, workers)
        for patient, row in zip(patients, found, strict=True):
            bar.update()
            rows.append({"case": patient.case_id, "kind": patient.kind, **row})
            on_case(rows[-1])
            now = time.monotonic()
            if listing > LISTING_SHARE * (now - began) and len(rows) < len(patients):
                continue  # thousands of cases: a table written at each would take longer than they do
            table = pd.DataFrame(rows).reindex(columns=_COLUMNS)
            try:
                write_table(table, out / "cases.csv")
            except OSError as error:
                raise _unwritable(out, error) from error
            listing += time.monotonic() - now
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
    cautions = f"; cautions on its page: {row['cautions']}" if row["cautions"] else ""
    cautions += "; in place of the result of another scan of that name" if row["replaces"] else ""
    return f"{row['case']}: {measured}tumour {found}{sure}; {took}{cautions}"


def _treat(patient: PatientInput, predictor: Predictor, out: Path, **options: Callable[[str], None]) -> dict:
    """The row of one case. Raises InputError only where results cannot be written."""
    folder = out / patient.case_id
    try:
        if row := _finished_row(folder, patient, predictor):
            return row
        before, result = _record_in(folder), predict_case(patient, predictor, **options)
    except Exception as error:  # whatever it is, the next case may be good
        state = "passed over" if getattr(error, "code", "") == LABELS else "failed"
        return {"state": state, "reason": reason_of(error)}
    try:
        write_result(result, folder)
        row = _row(record := _record_in(folder), resumed=False)
        return row | {"replaces": bool(before) and before.get("input") != record["input"]}
    except OSError as error:
        raise _unwritable(out, error) from error
    except Exception as error:
        return {"state": "failed", "reason": reason_of(error)}


def _finished_row(folder: Path, patient: PatientInput, predictor: Predictor) -> dict | None:
    """That of the result in `folder`, if it is of this very request and whole."""
    record = _record_in(folder)
    try:
        if record["request_sha256"] != identify_request(patient, predictor)[1]:
            return None
        return _row(record, resumed=True) if files.holds_files(folder, record["files"]) else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _record_in(folder: Path) -> dict:
    """Empty where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _row(record: dict, resumed: bool) -> dict:
    return {
        "state": "done",
        **_presence(record),
        **{name: record["measures"][name] for name in _MEASURES},
        "cautions": len(record["cautions"]),
        "seconds": record["seconds"]["in_all"],
        "peak_memory_mb": record["peak_memory_mb"],
        "resumed": resumed,
    }


def _unwritable(out: Path, error: OSError) -> InputError:
    problem = f"Results cannot be written ({error.strerror or type(error).__name__})."
    remedy = "Make room or choose another --out and run it again: finished cases stay."
    return InputError(out, problem, remedy)
