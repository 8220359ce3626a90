"""The result of a case as a folder: masks, measures, pictures, a page, and the record last of all."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from PIL import Image

from livseg_lib.application.patient import PatientResult
from livseg_lib.application.record import WARNING, finished
from livseg_lib.atomic import folder_written_aside, write_json
from livseg_lib.checksums import folder_checksums
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.intensities import as_hu
from livseg_lib.preprocessing.overview import display_window
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.figure_files import save_figure
from livseg_lib.reporting.outlined_slice import outlined_slice, slice_to_show
from livseg_lib.reporting.pages.patient_page import PatientView, write_patient_page
from livseg_lib.reporting.tables import write_table
from livseg_lib.volumes import save_segmentation

RECORD = "record.json"
MASK_GREYS = np.array([0, 127, 255], np.uint8)
"""Of background, liver and tumour in a mask picture: those of the public LiTS slices."""


def write_result(result: PatientResult, folder: Path | str) -> Path:
    """Write the folder of one case, aside and then renamed; whatever result it held before is gone.

    mask.nii.gz (DICOM: mask.dcm too; pictures: mask.png, or mask_<slice>.png each), measures.json,
    tumors.csv, overlay.png, index.html and record.json. Raises InputError where `folder` is something
    else than a result, and OSError where it cannot be written.
    """
    folder = Path(folder)
    require_result_or_nothing(folder)
    with folder_written_aside(folder) as partial:
        with result.clock.step("write"):
            write_masks(result, partial)
            _write_measures(result, partial)
            _write_overlay(result, partial)
            _write_page(result, partial)
        record = finished(result.record, result.clock) | {"files": folder_checksums(partial)}
        write_json(partial / RECORD, record)
    return folder


def require_result_or_nothing(folder: Path) -> None:
    """Raises InputError where `folder` is there and is neither empty nor a result: it would be replaced."""
    if folder.exists() and not (folder / RECORD).is_file() and not _is_empty(folder):
        problem = "is there already and is no result of livseg predict."
        raise InputError(folder, problem, "Choose another --out: nothing of yours is overwritten.")


def write_masks(result: PatientResult, folder: Path) -> list[Path]:
    """The labels in the input's own grid and format."""
    scan, labels = result.scan, result.labels
    if scan.is_picture:
        numbers = scan.slice_numbers or ("",)
        names = [f"mask_{number}.png" if number != "" else "mask.png" for number in numbers]
        return [_write_mask_picture(mask, folder / name) for mask, name in zip(labels, names, strict=True)]
    paths = [save_segmentation(labels, scan.volume, folder / "mask.nii.gz")]
    if scan.headers:
        from livseg_lib.application.dicom_seg import write_dicom_seg  # takes its time to import

        algorithm = (result.record["system"]["system"], _version(result.record))
        paths.append(
            write_dicom_seg(
                labels, scan.volume, scan.headers, result.structures, algorithm, folder / "mask.dcm"
            )
        )
    return paths


def _write_mask_picture(labels: np.ndarray, path: Path) -> Path:
    Image.fromarray(MASK_GREYS[labels]).save(path, optimize=True)
    return path


def _version(record: dict) -> str:
    return f"{record['livseg']} {record['git_revision'][:12]}".strip()


def _write_measures(result: PatientResult, folder: Path) -> None:
    presence = result.presence
    measures = {
        "case": result.case_id,
        "structures": list(result.structures),
        "tumor_suspected": presence.suspected,
        "tumor_probability": presence.probability,
        "tumor_probability_is": presence.how,
        **result.liver,
        "tumors": result.tumors.to_dict("records"),
    }
    write_json(folder / "measures.json", measures)
    write_table(result.tumors, folder / "tumors.csv")


def _write_overlay(result: PatientResult, folder: Path) -> None:
    index = slice_to_show(result.labels)
    scan = result.scan
    window = scan.window or display_window(scan.volume, result.modality)
    grey = apply_window(scan.volume.voxels[index], window)
    number = index if scan.slice_numbers is None else scan.slice_numbers[index]
    title = f"{result.case_id}, slice {number}" if len(result.labels) > 1 else result.case_id
    figure = outlined_slice(grey, result.labels[index], title, WARNING, tuple(scan.volume.spacing_mm[1:]))
    save_figure(figure, folder, "overlay", f"{title}. {WARNING}")


def _write_page(result: PatientResult, folder: Path) -> None:
    """index.html leads to the patient page, which lies deeper with all that it loads."""
    measures = {
        "tumor_suspected": result.presence.suspected,
        "tumor_probability": result.presence.probability,
        **result.liver,
    }
    view = PatientView(
        result.case_id,
        as_hu(result.scan.volume, result.modality).voxels,
        result.scan.volume.spacing_mm,
        {result.record["system"]["system"]: result.labels},
        [("Measures", pd.DataFrame([measures])), ("Tumours", result.tumors)],
        " ".join([*result.record["cautions"], *result.record["notes"]]),
    )
    page = quote(write_patient_page(view, folder).relative_to(folder).as_posix())
    content = (
        f'<!doctype html><meta charset="utf-8"><title>{escape(result.case_id)}</title>'
        f'<meta http-equiv="refresh" content="0; url={page}"><a href="{page}">{escape(result.case_id)}</a>\n'
    )
    (folder / "index.html").write_text(content, encoding="utf-8")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
