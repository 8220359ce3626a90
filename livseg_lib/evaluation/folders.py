"""Label files scored against label files, and the scores as text: what `livseg evaluate` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from secrets import token_hex

import cloudpickle
import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.files import LabelMap, nifti_stem, regular_files
from livseg_lib.errors import InputError, counted
from livseg_lib.evaluation.cases import SCORES, doubts, keys_of, score_case, summarize_cases
from livseg_lib.evaluation.lesions import MODES, lesion_rows, summarize_sizes
from livseg_lib.evaluation.masks import SURFACE_TOLERANCE_MM
from livseg_lib.evaluation.pairing import Pair, case_name, pair_files
from livseg_lib.labels import STRUCTURE_LABELS, STRUCTURES, TUMOR, require_labels
from livseg_lib.processes import in_processes
from livseg_lib.volumes import Volume, load_volume, read_label_array


def summary_lines(scores: dict) -> list[str]:
    """The mapping of `evaluate_folders` as lines: structures, detection, tumour burden, tumours by size.

    Every mean comes with the number of cases (of tumour distances: detected tumours) behind it.
    """
    summary, sizes = scores["summary"], scores["lesions_by_size"]
    title = f"{counted(summary['n_cases'], 'case')}, mode {scores['mode']}, surface Dice at "
    by_size = {"longest diameter": [row["size_class"] for row in sizes]}
    for share, side in (("recall", "reference"), ("precision", "prediction")):
        counts = [f"({row[f'n_{side}_detected']} of {row[f'n_{side}']})" for row in sizes]
        by_size[share] = [f"{_number(row[share])} {n}" for row, n in zip(sizes, counts, strict=True)]
    return [
        f"{title}{scores['surface_tolerance_mm']:g} mm; in brackets: over how many",
        "",
        *_lines_of_structures([summary[structure] for structure in STRUCTURES]),
        *(
            f"{name} not looked for in {n} of {summary['n_cases']} predictions: undefined there, no misses"
            for structure, name in (("liver", "liver was"), ("tumor", "tumours were"))
            if (n := summary["n_cases"] - summary[structure]["n_defined"]["dice_per_case"])
        ),
        "",
        *_lines_of_tumors(summary["detection"], summary["lesions"], summary["tumor_burden"]),
        "",
        *pd.DataFrame(by_size).to_string(index=False, justify="right").splitlines(),
    ]


def _lines_of_structures(found: list[dict]) -> list[str]:
    titles = {"dice_per_case": "Dice per case", "dice_global": "Dice global"}
    titles |= {name: score.title for name, score in SCORES.items() if score.title}
    rows = {}
    for name, title in titles.items():
        counts = [f" ({each['n_defined'][name]})" if name in each["n_defined"] else "" for each in found]
        rows[title] = [_number(each[name]) + n for each, n in zip(found, counts, strict=True)]
    rows["nothing to find"] = [str(each["n_empty_reference"]) for each in found]
    rows["missed altogether"] = [str(each["n_missed"]) for each in found]
    head = f"{'':22}{'liver':>18}{'tumour':>18}"
    return [head, *(f"{name:22}{liver:>18}{tumor:>18}" for name, (liver, tumor) in rows.items())]


def _lines_of_tumors(found: dict, lesions: dict, burden: dict) -> list[str]:
    lines = [f"{'tumours found':22}{'precision':>11}{'recall':>11}{'found':>8}{'surplus':>9}{'missed':>8}"]
    for suffix, name in (("", "IoU > 0.5"), ("_greater_zero", "IoU > 0")):
        shares = [_number(found[f"{share}{suffix}"]) for share in ("precision", "recall")]
        counts = [found[f"{each}s{suffix}"] for each in ("true_positive", "false_positive", "false_negative")]
        lines.append("{:22}{:>11}{:>11}{:>8}{:>9}{:>8}".format(f"  at {name}", *shares, *counts))
    parts = (_number(lesions[f"{part}_quality"]) for part in ("panoptic", "segmentation", "recognition"))
    quality = "{} = segmentation {} x recognition {}".format(*parts)
    error = f"RMSE {_number(burden['rmse'])}, largest {_number(burden['max_error'])} ({burden['n_defined']})"
    dice = f"{_number(lesions['lesion_dice'])} ({lesions['n_defined_lesion_dice']})"
    return [
        *lines,
        "",
        f"{'lesion-wise Dice':24}{dice}",
        f"{'panoptic quality':24}{quality} ({lesions['n_tumors_matched']})",
        f"{'tumour burden error':24}{error}",
    ]


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def evaluate_folders(
    reference: Path | str,
    prediction: Path | str,
    mode: str = "intended",
    accept_affine_mismatch: bool = False,
    tolerance_mm: float = SURFACE_TOLERANCE_MM,
    workers: int | str = 1,
) -> dict:
    """Score every NIfTI label file under `reference` (a folder, or one file) against its prediction.

    Every reference that can be read is scored: where no prediction can be used for it (there is none, several
    fit, it cannot be read, it lies on another grid), as if an empty one had been given, so that no miss
    leaves a mean. In folders, masks of tumours beside that of their liver are laid over it, and labels mean
    what a labels.json or dataset.json says. What a mask of `livseg predict` was not asked for, as its record
    says, and the liver where one side has a mask of tumours alone, has no scores (NaN) and is no miss. Two
    single files are a pair whatever their names, and must both be good. Each of the `workers` (of
    `in_processes`) holds one pair.

    Returns `mode`, `surface_tolerance_mm`, `summary` (of `summarize_cases`), `missed` (cases without a usable
    prediction), `problems` (`case`, `file`, `code` and `problem` of what was not used), `without_reference`
    (prediction files that nothing was compared with), `notes` (sentences on what was decided), `cases` (of
    `score_case`, with `case` and both files), `lesions` (of `lesion_rows`, with `case`), and
    `lesions_by_size` (of `summarize_sizes`). Spacing is the reference's. Single tumours are matched by their
    true IoU in either mode. Raises InputError where nothing can be scored, and for a `mode` that does not
    exist.
    """
    if mode not in MODES:
        raise InputError("mode", f"is {mode!r}.", f"Choose one of {MODES}.")
    reference, prediction = Path(reference), Path(prediction)
    pairs, without_reference, sides = pair_files(reference, prediction)
    problems, scored = [*_pipes(reference), *_pipes(prediction)], []
    are_files = not reference.is_dir() and not prediction.is_dir()
    rules = {"mode": mode, "accept_affine_mismatch": accept_affine_mismatch, "tolerance_mm": tolerance_mm}
    readable = []
    for pair in pairs:
        ways = list(zip(sides, pair[:2], strict=True))
        readers = [partial(_read_whole, each.tumors.get(path), each.meaning) for each, path in ways]
        readable.append((pair, readers, any(each.lacks_liver(path) for each, path in ways)))
    scores_here = _THIS_PROCESS, cloudpickle.dumps(SCORES)
    found = in_processes(partial(_score_pair, scores_here=scores_here, **rules), readable, workers)
    for scores, unusable in tqdm(found, "scoring", len(pairs), unit="case", disable=None):  # None: if watched
        problems += unusable
        scored += [scores] if scores else []
    if not scored or (problems and are_files):
        raise problems[0][1]
    cases = [case for case, _ in scored]
    lesions = pd.concat([rows for _, rows in scored], ignore_index=True)
    return {
        "mode": mode,
        "surface_tolerance_mm": tolerance_mm,
        "summary": summarize_cases(cases, mode),
        "missed": [case["case"] for case in cases if case["prediction_file"] is None],
        "problems": [
            {"case": case, "file": e.where, "code": e.code, "problem": f"{e.problem} {e.remedy}"}
            for case, e in problems
        ],
        "without_reference": [str(path) for path in without_reference],
        "notes": [*(note for side in sides for note in side.notes), *doubts(cases)],
        "cases": cases,
        "lesions": lesions.to_dict("records"),
        "lesions_by_size": summarize_sizes(lesions, patient="case").to_dict("records"),
    }


def _pipes(where: Path) -> Iterator[tuple[str, InputError]]:
    """What is named like a label file and is none."""
    for note in regular_files(where, with_results=True).notes:
        if note.code == "passed-over" and (name := nifti_stem(Path(note.where))):
            yield name, InputError(note.where, note.message, code=note.code)


_THIS_PROCESS = token_hex(8)


def _score_pair(
    readable: tuple[Pair, list[Callable[..., np.ndarray]], bool],
    mode: str,
    accept_affine_mismatch: bool,
    tolerance_mm: float,
    scores_here: tuple[str, bytes],
) -> tuple[tuple[dict, pd.DataFrame] | None, list[tuple[str, InputError]]]:
    """Scores of one pair of files, and of each tumour; None where the reference cannot be read.

    And what cannot be used, with the name of the case.
    """
    _take_over(*scores_here)
    pair, (read_truth, read_found), tumors_alone = readable
    case = case_name(pair.reference)
    problems = [(case, pair.problem)] if pair.problem else []
    try:
        volume = load_volume(pair.reference)
        truth = read_truth(pair.reference, volume)
    except InputError as error:
        return None, [*problems, (case, error)]
    used, found = None, np.zeros_like(truth)
    if pair.prediction is not None:
        try:
            found = read_found(pair.prediction, volume, accept_affine_mismatch)
            used = str(pair.prediction)
        except InputError as error:
            problems.append((case, error))
    names = {"case": case, "reference_file": str(pair.reference), "prediction_file": used}
    missing = ["liver"] * tumors_alone + (not_looked_for(Path(used), found) if used else [])
    lesions = lesion_rows(found, truth, volume.spacing_mm)
    lesions.insert(0, "case", case)
    # In the order of the file: "lits_asis" confuses ids, and these are given in that order.
    truth, found = (np.ascontiguousarray(volume.native.to_stored(a)) for a in (truth, found))
    scores = score_case(found, truth, volume.native.stored_spacing_mm, mode, tolerance_mm)
    for structure in missing:
        scores |= dict.fromkeys(keys_of(structure, scores), np.nan)
    return (names | scores, lesions[:0] if "tumor" in missing else lesions), problems


def _read_whole(
    tumors: list[Path] | None,
    meaning: LabelMap | None,
    path: Path,
    like: Volume,
    accept_mismatch: bool = False,
) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), of a file and of masks of its tumours, as `livseg check` reads them:
    without these every tumour that was found would count as a false alarm."""
    labels = read_label_array(path, like, accept_mismatch)
    if meaning:
        labels = meaning(labels)
    elif tumors is not None and labels.max() > TUMOR and np.isin(labels, (0, labels.max())).all():
        labels //= labels.max()  # a liver of 255
    require_labels(labels, path)
    for other in tumors or ():
        labels[read_label_array(other, like, accept_mismatch) > 0] = TUMOR
    return labels.astype(np.uint8)


@lru_cache(1)
def _take_over(process: str, scores: bytes) -> None:
    """Once a process: a worker does not know the scores that a cell of a notebook has set."""
    if process != _THIS_PROCESS:
        SCORES.update(cloudpickle.loads(scores))


def not_looked_for(prediction: Path, labels: np.ndarray) -> list[str]:
    """Structures that a mask of `livseg predict` lacks because, by its record, none was asked for."""
    try:
        record = json.loads(prediction.with_name("record.json").read_bytes())
        asked = record["system"]["structures"] if prediction.name == "mask.nii.gz" else STRUCTURES
        return [name for name, n in STRUCTURE_LABELS.items() if name not in asked and not (labels == n).any()]
    except (OSError, ValueError, LookupError, TypeError):
        return []
