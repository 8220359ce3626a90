"""Superpixels of patients whose truth is known -> patches on disk to learn from (system J)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import edt
import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.atomic import written_aside
from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.labels import LIVER, TUMOR, structure_mask
from livseg_lib.postprocessing.superpixel_candidates import (
    CandidateRecipe,
    candidate_patches,
    find_candidates,
    tumor_shares,
)
from livseg_lib.preprocessing.patches import PatchRecipe
from livseg_lib.processes import in_processes
from livseg_lib.runs import derived_seed

TUMOR_SHARE = 0.5
"""A superpixel is a tumour where at least this share of its voxels is."""


@dataclass(frozen=True)
class PatchExtraction:
    """Which patches are cut from a patient."""

    candidates: CandidateRecipe
    patch: PatchRecipe
    most_of_a_kind: int = 100
    """Of tumour, and of liver, drawn by `seed`: one patient full of tumours must not outweigh the others."""
    most_growth_mm: float = 3.0
    """Each liver is grown by a random amount up to this: what networks find is never the true outline, and
    the fat beside a liver is dark."""
    seed: int = 0


def extract_patches(
    cases: Sequence[Case], extraction: PatchExtraction, folder: Path, workers: int = 2
) -> pd.DataFrame:
    """Patches of the candidates inside the (grown) true liver of each case; returns a row a patch.

    Writes `folder`/<case_id>/images.npy, uint8 (n * d, h, w, C), the n patches one behind another, and
    masks.npy (`candidate_patches`); d, h, w as `extraction.patch.voxels`. Columns: patient, case, array,
    array_index (of the patch's first slice), region ("tumor" or "liver"), class (2 or 1, as a slice's),
    tumor_share and the columns of `describe_superpixels`. Each of the `workers` processes holds one volume. A
    case without candidates has no row. Raises InputError for an unknown spacing.
    """
    job = partial(extract_case_patches, extraction=extraction, folder=Path(folder))
    tables = list(tqdm(in_processes(job, cases, workers), "superpixels", len(cases), unit="case"))
    if not any(len(table) for table in tables):
        raise InputError("superpixels", "of all cases are no candidates.", "Choose a lower least contrast.")
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def extract_case_patches(case: Case, extraction: PatchExtraction, folder: Path) -> pd.DataFrame:
    """The rows of one case, its arrays written."""
    volume = case.read_volume()
    truth = case.read_labels(volume)
    seed = derived_seed(extraction.seed, case.case_id)
    growth_mm = np.random.default_rng(seed).uniform(0.0, extraction.most_growth_mm)
    liver = grown(structure_mask(truth, "liver"), volume.spacing_mm, growth_mm)
    candidates = find_candidates(volume, liver, extraction.candidates)
    shares = tumor_shares(candidates, structure_mask(truth, "tumor"))
    rows = draw_kinds(shares >= TUMOR_SHARE, extraction.most_of_a_kind, seed)
    patches = list(candidate_patches(volume, liver, candidates, rows, extraction.patch))
    if patches:
        for name, arrays in zip(("images", "masks"), zip(*patches, strict=True), strict=True):
            with written_aside(folder / case.case_id / f"{name}.npy") as partial_path:
                np.save(partial_path, np.concatenate(arrays))
    is_tumor = shares[rows] >= TUMOR_SHARE
    return candidates.table.iloc[rows].assign(
        patient=case.patient,
        case=case.case_id,
        array=case.case_id,
        array_index=np.arange(len(rows)) * extraction.patch.voxels[0],
        region=np.where(is_tumor, "tumor", "liver"),
        tumor_share=shares[rows],
        **{"class": np.where(is_tumor, TUMOR, LIVER)},
    )


def grown(mask: np.ndarray, spacing_mm: Sequence[float], by_mm: float) -> np.ndarray:
    """`mask` (D, H, W) and all within so many mm of it."""
    return edt.edt(~mask, anisotropy=tuple(spacing_mm)) <= by_mm


def draw_kinds(is_tumor: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Indices, ascending: at most so many of those that are True, and of those that are not."""
    generator = np.random.default_rng(seed)
    kinds = (np.flatnonzero(is_tumor), np.flatnonzero(~is_tumor))
    drawn = [generator.choice(kind, min(most, len(kind)), replace=False) for kind in kinds]
    return np.sort(np.concatenate(drawn))
