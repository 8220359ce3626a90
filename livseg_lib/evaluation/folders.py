"""Label files scored against label files, and the scores as text: what `livseg evaluate` does.

Files are paired by name, else by name without a word such as _seg or _pred at its end, or else by the numbers
of names that end in one, so that `segmentation-12.nii` meets `volume-12.nii.gz`, `liver_12.nii.gz` or the
folder `volume-12` of `livseg predict`.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import cloudpickle
import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.files import (
    DATA_SUFFIXES,
    LABELS_JSON,
    LabelMap,
    listed,
    nifti_stem,
    numbers_in,
    printable,
    regular_files,
)
from livseg_lib.datasets.msd import described_labels
from livseg_lib.datasets.nifti import TUMOR_NAME, TUMORS
from livseg_lib.errors import InputError, counted
from livseg_lib.evaluation.cases import SCORES, doubts, keys_of, score_case, summarize_cases
from livseg_lib.evaluation.lesions import MODES, lesion_rows, summarize_sizes
from livseg_lib.evaluation.masks import SURFACE_TOLERANCE_MM
from livseg_lib.labels import STRUCTURE_LABELS, STRUCTURES, TUMOR, require_labels
from livseg_lib.processes import in_processes
from livseg_lib.volumes import Volume, label_values, load_volume, read_label_array


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


LABEL_WORDS = re.compile(
    r"d?seg|label|mask|pred|(?:ground[-_. ]?)?truth|(?<![a-z])gt(?![a-z])", re.IGNORECASE
)
_WORD_AT_END = rf"[-_. ](?:{LABEL_WORDS.pattern})[a-z]*"
LABEL_NAME = re.compile(
    rf"(?:{LABEL_WORDS.pattern})[a-z]*|(?:liver|{TUMOR_NAME})(?:{_WORD_AT_END})?", re.IGNORECASE
)
"""Such a name tells no case: its folder does."""
LABEL_WORD_AT_END = re.compile(f"{_WORD_AT_END}$", re.IGNORECASE)
STRUCTURE = re.compile(rf"(?:(.+?)[-_. ])??(?:(liver)|{TUMORS.pattern})", re.IGNORECASE)
SCAN_FOLDER = re.compile(r"(?:images?|imgs?|scans?|cts?|volumes?)(?:[-_. ]?t[rs])?", re.IGNORECASE)
CHANNEL_AT_END = re.compile(r"(?<=\d)_0000$")  # of a scan in nnU-Net's layout; its label map has none
NUMBER_AT_END = re.compile(rf"(\d+)([-_]?({LABEL_WORDS.pattern})[a-z]*)?$", re.IGNORECASE)


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


class Side(NamedTuple):
    """What is compared of a folder, or one file."""

    files: list[Path]
    tumors: dict[Path, list[Path]]
    """Of each mask of a liver alone, the masks that lie beside it; of a mask of tumours alone, itself."""
    meaning: LabelMap | None
    notes: list[str]

    def lacks_liver(self, path: Path | None) -> bool:
        return path in self.tumors.get(path, ())


class Pair(NamedTuple):
    """Files to be compared; `problem` says why there is no prediction, where it is not just missing."""

    reference: Path
    prediction: Path | None
    problem: InputError | None = None


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
    case = _stem(pair.reference)
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
    tumors: list[Path] | None, meaning: LabelMap | None, path: Path, like: Volume, accept: bool = False
) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), of a file and of masks of its tumours, as `livseg check` reads them:
    without these every tumour that was found would count as a false alarm."""
    labels = read_label_array(path, like, accept)
    if meaning:
        labels = meaning(labels)
    elif tumors is not None and labels.max() > TUMOR and np.isin(labels, (0, labels.max())).all():
        labels //= labels.max()  # a liver of 255
    require_labels(labels, path)
    for other in tumors or ():
        labels[read_label_array(other, like, accept) > 0] = TUMOR
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


def pair_files(reference: Path, prediction: Path) -> tuple[list[Pair], list[Path], tuple[Side, Side]]:
    """Each reference file with its prediction file or None, in natural order; the predictions left over; and
    what both hold.

    A file that was named and the only one of the other side are a pair whatever their names. No prediction is
    taken where a name fits more than one file.
    """
    sides = label_files(reference, prediction), label_files(prediction, reference)
    references, predictions = (side.files for side in sides)
    is_one_of_each = len(references) == len(predictions) == 1
    is_named = not (reference.is_dir() and prediction.is_dir())
    if is_one_of_each and (is_named or references[0].name == predictions[0].name):
        return [Pair(references[0], predictions[0])], [], sides
    fitting: dict[str | tuple[int, ...], list[Path]] = defaultdict(list)
    known = {key for path in references for key in _keys(path)}
    for path in predictions:  # by its surest key alone: it fits no case that shares but a number with its own
        for key in [key for key in _keys(path) if key in known][:1]:
            fitting[key].append(path)
    pairs = [_paired(path, fitting) for path in references]
    used = Counter(pair.prediction for pair in pairs)
    for n, (path, found, _) in enumerate(pairs):
        if found is not None and used[found] > 1:
            problem = "is the prediction of several references."
            problem = InputError(found, problem, "Give every case its own number.")
            pairs[n] = Pair(path, None, problem)
    return pairs, [path for path in predictions if path not in used], sides


def label_files(where: Path, other: Path) -> Side:
    """The NIfTI label files of a folder and its subfolders, by case number and name, or the one file.

    Links to nothing are among them. A file is left out as a scan where another of its numbers, or one beside
    it called "segmentation" or the like, says seg, label, mask or pred in its path below the folder, and it
    does not, or lies in a folder of images; so are scans and other organs beside a liver, and tumours beside
    the liver of their own name are `tumors`. `other` is left out where it lies in the folder: predictions
    kept beside their references. Raises InputError for no file.
    """
    is_file = not where.is_dir() and (where.exists() or where.is_symlink())
    if is_file and nifti_stem(where) is None and where.suffix.lower() in DATA_SUFFIXES:
        raise InputError(where, "is no NIfTI file.", "Unpack it, or convert it to .nii.gz.")
    if is_file:
        beside = where.with_name(LABELS_JSON)
        unused = f"{printable(beside)} is not read for a file that is named alone: give the folder."
        alone, notes = _tumors_alone([where])
        return Side([where], alone, None, [unused] * beside.is_file() + notes)
    found, inner = regular_files(where, with_results=True).named, other.resolve()
    paths = [path for path in found if nifti_stem(path)]
    if where.resolve() in inner.parents:
        reals = (path.parent.resolve() / path.name for path in paths)  # of a link: its own place
        paths = [p for p, real in zip(paths, reals, strict=True) if inner not in (real, *real.parents)]
    if not paths:
        problem = "holds no .nii or .nii.gz file." if where.exists() else "is not there."
        raise InputError(where, problem, "Name a folder of label volumes, or one file.")
    own, of_owner = {p: _structure(p) for p in paths}, defaultdict(list)
    livers = {whose for name, whose in own.values() if name == "liver"}
    for p, (name, whose) in own.items():
        of_owner[whose] += [p] * (name == "tumor" and whose in livers)
    tumors = {p: of_owner[whose] for p, (name, whose) in own.items() if name == "liver"}
    laid_over = {p for each in of_owner.values() for p in each}
    rest = [p for p in paths if own[p][0] == "liver" or not (p in laid_over or _lies_beside(p, livers))]
    homes = {home for p in rest if _is_label_name(p) for home in (p.parent, _patient_folder(p))}
    organs = {p.parent for p in rest if own[p] == ("liver", ("", p.parent))}
    inside = {p: p.name if p.parent in organs else str(p.relative_to(where)) for p in rest}
    named = {p for p in rest if LABEL_WORDS.search(inside[p]) or _is_label_name(p)}
    labelled = {_numbers(p) for p in named} - {()} | homes
    folders = {p.parent for p in rest if named and p.parent != where and SCAN_FOLDER.fullmatch(p.parent.name)}
    kept = [p for p in rest if p in named or (labelled | folders).isdisjoint((_numbers(p), p.parent))]
    above = where.resolve().parent if where.resolve().name.startswith("labels") else where  # of labelsTr
    meaning, notes, read = described_labels(where) or described_labels(above), [], {*kept, *laid_over}
    if left_out := [printable(p.relative_to(where)) for p in paths if p not in read]:
        notes.append(f"{where}: {len(left_out)} left out, as scans or other organs: {listed(left_out)}.")
    if meaning:
        values = (", ".join(map(str, each)) or "none" for each in (meaning.liver, meaning.tumor))
        notes.append("{} says what labels mean: liver {}, tumour {}.".format(meaning.source, *values))
    kept.sort(key=lambda path: (_numbers(path), _stem(path), path))
    alone, said = ({}, []) if meaning else _tumors_alone(kept)
    return Side(kept, tumors | alone, meaning, notes + said)


def _tumors_alone(kept: list[Path]) -> tuple[dict[Path, list[Path]], list[str]]:
    """Those of the masks that hold tumours alone, by their names and as they hold one label; a note."""
    named, values = [path for path in kept if _structure(path)[0] == "tumor"], set()
    for path in named:
        with suppress(InputError):  # told when it is scored
            values |= {*label_values(path)} - {0}
    alone = {path: [path] for path in named if len(values) < 2}
    names = listed([printable(path.name) for path in alone])
    note = f"{counted(len(alone), 'mask')} of tumours alone by name ({names}): livers have no scores."
    return alone, [note] * bool(alone)


def _lies_beside(path: Path, livers: set[tuple[str, Path]]) -> bool:
    """Whether a scan or another organ of those who have masks of `livers`: p1.nii or p1_spleen.nii beside
    p1_liver.nii, ct/p1.nii beside liver/p1.nii."""
    stem = nifti_stem(path) or ""
    bare = LABEL_WORD_AT_END.sub("", stem)
    owners = {stem, *(bare[: match.start()] for match in re.finditer(r"[-_. ](?=[^\W\d])", bare))}
    owners |= {""} if bare != stem and not re.search(r"\d", bare) else set()  # spleen_mask.nii
    by_folder = (bare, path.parent.parent / "*") in livers and not LABEL_NAME.fullmatch(path.parent.name)
    return by_folder or any((owner, path.parent) in livers for owner in owners)


def _stem(path: Path) -> str:
    """File name without .nii or .nii.gz; for "mask.nii.gz", "liver.nii" and alike their folder's."""
    name = nifti_stem(path) or printable(path.name)
    return printable(_patient_folder(path).name) if _is_label_name(path) else name


def _patient_folder(path: Path) -> Path:
    """The folder of `path`, or above it that of a patient: s0001 of "s0001/segmentations/liver.nii.gz"."""
    return path.parent.parent if LABEL_NAME.fullmatch(path.parent.name) else path.parent


def _is_label_name(path: Path) -> bool:
    return LABEL_NAME.fullmatch(nifti_stem(path) or "") is not None


def _structure(path: Path) -> tuple[str, tuple[str, Path]]:
    """What alone a mask holds by its name or its folder's, whose it is, and where that owner's others lie:
    "liver" and "p1" of p1_liver_mask.nii and of pred_liver/p1.nii, "tumor" and "" of tumor_2.nii."""
    bare, folder = (LABEL_WORD_AT_END.sub("", name) for name in (nifti_stem(path) or "", path.parent.name))
    if found := STRUCTURE.fullmatch(bare):
        whose = found[1] or "", path.parent
    elif (found := STRUCTURE.fullmatch(folder)) and (not found[1] or LABEL_NAME.fullmatch(found[1])):
        whose = "" if _is_label_name(path) else bare, path.parent.parent / "*"
    else:
        return "", ("", path.parent)
    return "liver" if found[2] else "tumor", whose


def _name(path: Path) -> str:
    """`_stem`; of a mask of one structure without that word."""
    return _structure(path)[1][0] or _stem(path)


def _numbers(path: Path) -> tuple[int, ...]:
    """Those of a name that ends in one: (12,) of "segmentation-12.nii.gz" and of "volume-12_pred.nii"."""
    name = CHANNEL_AT_END.sub("", _name(path))
    return numbers_in(name) if NUMBER_AT_END.search(name) else ()


def _keys(path: Path) -> list[str | tuple[int, ...]]:
    """By which a file finds its partner, the surest first. The later ones do not tell capitals apart: a Mac
    changes these. No number of `predict --case-names numbered` is a key: case-001 is what was read first,
    whatever that was called."""
    names = _stem(path), LABEL_WORD_AT_END.sub("", CHANNEL_AT_END.sub("", _stem(path))), _name(path)
    alike = (name.casefold() for name in names)
    by_order = path.name == "mask.nii.gz" and re.fullmatch(r"case-\d{3,}", path.parent.name)
    numbers = () if by_order and path.with_name("record.json").exists() else _numbers(path)
    return [key for key in (_stem(path), *alike, numbers) if key]


def _paired(reference: Path, predictions: Mapping[str | tuple[int, ...], list[Path]]) -> Pair:
    """With the prediction that fits best; `predictions` by their keys."""
    fitting = next((predictions[key] for key in _keys(reference) if key in predictions), [])
    if len(fitting) > 1:
        names = ", ".join(printable(path) for path in fitting)
        problem = InputError(reference, f"fits several predictions: {names}.", "Keep one file a case.")
        return Pair(reference, None, problem)
    return Pair(reference, fitting[0] if fitting else None)
