"""The phantom as a folder in LiTS's layout, which survives a kill, and what only its seed says about it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from isal import igzip
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from tqdm import tqdm

from livseg_lib.datasets.phantom.body import LIVER_ORGANS, Organ
from livseg_lib.datasets.phantom.patient import PhantomPatient, make_phantom_patient
from livseg_lib.datasets.phantom.scanner import SITES
from livseg_lib.errors import InputError
from livseg_lib.files import GZIP_LEVEL, write_atomically, write_json
from livseg_lib.labels import LIVER, TUMOR
from livseg_lib.outputs import write_table
from livseg_lib.processes import in_processes
from livseg_lib.provenance import changes, code_of, made_with

ORGAN_LABELS = {"liver": [int(organ) for organ in LIVER_ORGANS], "tumor": int(Organ.TUMOR)}
"""What labels.json says of the codes in `PhantomPatient.organs`."""
LESION_COLUMNS = [
    *("case", "lesion", "kind", "diameter_mm", "contrast_hu", "diffuse", "volume_ml"),
    *("center_d_mm", "center_h_mm", "center_w_mm"),
]
"""Of lesions.csv."""


def write_phantom(
    folder: Path | str, n_patients: int, seed: int = 2026, workers: int = 2, site: str | None = None
) -> Path:
    """Make patients 0 .. n_patients - 1 of the phantom `seed` in `folder`, in LiTS's layout.

    Writes `volume-N.nii.gz`, `segmentation-N.nii.gz` (uint8), `case-N.json` (what is known of the case;
    written last, so it marks the case as finished), `patients.csv` and `lesions.csv`. Finished cases are
    kept, so a killed run goes on where it stopped, and a larger `n_patients` adds to a smaller one; where
    the phantom's code or a library that it uses has changed since, all are made again, and a line says so.
    `site` (a key of SITES) scans everybody at one site; where it stores organs, `segmentation-N.nii.gz` holds
    codes of `Organ`, and labels.json says which of them are liver and tumour. Returns `folder`.

    Raises InputError if the folder holds a phantom made with other settings, or more patients.
    """
    folder = Path(folder)
    _agree_on_settings(folder, {"seed": seed, "site": site}, n_patients)
    if site is not None and SITES[site].stores_organs:
        write_json(folder / "labels.json", ORGAN_LABELS)
    paths = [folder / f"case-{index}.json" for index in range(n_patients)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    write = partial(_write_case, folder, seed=seed, site=site)
    for _ in tqdm(in_processes(write, missing, workers), "phantom", len(missing), unit="case"):
        pass
    records = [json.loads(path.read_bytes()) for path in paths]
    lesions = [lesion for record in records for lesion in record["lesions"]]
    write_table(pd.DataFrame([record["patient"] for record in records]), folder / "patients.csv")
    write_table(pd.DataFrame(lesions, columns=LESION_COLUMNS), folder / "lesions.csv")
    return folder


def phantom_made_by() -> dict:
    """What a phantom depends on besides seed, index and site; another one gives other scans."""
    libraries = ("numpy", "scipy", "opencv-python-headless", "opencv-python", "nibabel", "isal")
    return {"code": {"phantom": code_of(_write_case)}, "libraries": made_with(*libraries)}


def _agree_on_settings(folder: Path, settings: dict, n_patients: int) -> None:
    path, made_by = folder / "phantom.json", phantom_made_by()
    if not path.exists():
        write_json(path, settings | made_by)
    found = json.loads(path.read_bytes())
    remedy = "Choose another folder, or delete this one to make it anew."
    if wrong := {key: found.get(key) for key in settings if found.get(key, ...) != settings[key]}:
        problem = f"It holds a phantom with settings {wrong}, not {settings}."
        raise InputError(folder, problem, remedy, "settings")
    if reasons := changes({key: found.get(key, {}) for key in made_by}, made_by):
        print(f"The phantom is made anew, changed since: {', '.join(reasons)}", flush=True)
        for record in folder.glob("case-*.json"):
            record.unlink()
        write_json(path, settings | made_by)
    if extra := [path for path in folder.glob("case-*.json") if int(path.stem[5:]) >= n_patients]:
        problem = f"It holds {len(extra)} patients beyond the {n_patients} asked for."
        raise InputError(folder, problem, remedy, "settings")


def _write_case(folder: Path, index: int, seed: int, site: str | None) -> None:
    """Files of one patient; its record has the rows of patients.csv and lesions.csv. Centres of lesions are
    in mm from the first voxel's centre, in LPS order (D, H, W)."""
    patient = make_phantom_patient(seed, index, site)
    labels = patient.organs if patient.site.stores_organs else patient.labels
    _write_nifti(folder / f"volume-{index}.nii.gz", patient.voxels, patient)
    _write_nifti(folder / f"segmentation-{index}.nii.gz", labels, patient)
    voxel_ml = float(np.prod(patient.spacing_mm)) / 1000
    kinds = [lesion.kind for lesion in patient.lesions]
    row = {
        "case": f"volume-{index}",
        "site": patient.site.name,
        "phase": patient.phase,
        "slices": len(patient.voxels),
        "matrix": patient.voxels.shape[1],
        "slice_spacing_mm": patient.spacing_mm[0],
        "pixel_spacing_mm": patient.spacing_mm[2],
        "n_tumors": kinds.count("tumor"),
        "n_cysts": kinds.count("cyst"),
        "liver_ml": round(float((patient.labels >= LIVER).sum()) * voxel_ml, 2),
        "tumor_ml": round(float((patient.labels == TUMOR).sum()) * voxel_ml, 3),
    }
    lesions = []
    for number, lesion in enumerate(patient.lesions, 1):
        values = {"case": f"volume-{index}", "lesion": number} | asdict(lesion)
        values |= dict(zip(LESION_COLUMNS[-3:], values.pop("center_mm"), strict=True))
        lesions.append({key: round(v, 3) if isinstance(v, float) else v for key, v in values.items()})
    write_json(folder / f"case-{index}.json", {"patient": row, "lesions": lesions})


def _write_nifti(path: Path, array: np.ndarray, patient: PhantomPatient) -> None:
    """`array` (D, H, W) LPS as gzipped NIfTI, its axes turned as the patient's site stores them."""
    depth_mm, row_mm, column_mm = patient.spacing_mm
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([-column_mm, -row_mm, depth_mm, 1.0]))
    target = axcodes2ornt(patient.site.orientation)
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), target))
    image.header.set_xyzt_units("mm")
    write_atomically(path, igzip.compress(image.to_bytes(), compresslevel=GZIP_LEVEL, mtime=0))


def is_phantom(folder: Path | str) -> bool:
    """Whether `write_phantom` made the scans of `folder`."""
    return (Path(folder) / "phantom.json").is_file()


def remake_organs(folder: Path | str, case_id: str) -> np.ndarray:
    """Codes of `Organ`, uint8 (D, H, W), of the case "volume-N" that `write_phantom` wrote to `folder`.
    Raises InputError as `phantom_numbers` does."""
    return make_phantom_patient(*phantom_numbers(folder, case_id)).organs


def phantom_numbers(folder: Path | str, case_id: str) -> tuple[int, int, str | None]:
    """Seed, index and site that `make_phantom_patient` made the case "volume-N" of `folder` from.

    Raises InputError for a folder that is no phantom or that another version of the generator made, and for
    a case that is not one of its.
    """
    folder = Path(folder)
    if not is_phantom(folder):
        raise InputError(folder, "holds no phantom (phantom.json).", "Only a phantom can be made again.")
    settings = json.loads((folder / "phantom.json").read_bytes())
    made_by = phantom_made_by()
    if reasons := changes({key: settings.get(key, {}) for key in made_by}, made_by):
        problem = f"was made by another phantom, changed since: {', '.join(reasons)}."
        raise InputError(folder, problem, "Delete the folder and run 00_prepare_data again.")
    number = re.fullmatch(r"volume-(\d+)", case_id)
    if number is None or not (folder / f"case-{number[1]}.json").exists():
        raise InputError(folder, f"has no case {case_id!r}.", "Name a case of this phantom.")
    return settings["seed"], int(number[1]), settings["site"]


def painted_lesions(folder: Path | str, case_id: str) -> pd.DataFrame:
    """Rows of lesions.csv of one case: tumours and cysts as they were painted, each by itself. Touching
    tumours are several rows here and one object in the labels."""
    table = pd.read_csv(Path(folder) / "lesions.csv")
    return table[table.case == case_id].reset_index(drop=True)
