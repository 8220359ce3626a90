"""Which label files are compared: those of two folders, paired by name, and what their labels mean.

Files are paired by name, else by name without a word such as seg or pred at its end or start, or else by the
numbers of names that end in one, so that `segmentation-12.nii` meets `volume-12.nii.gz`, `liver_12.nii.gz` or
the folder `volume-12` of `livseg predict`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

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
from livseg_lib.volumes import label_values

LABEL_WORDS = re.compile(
    r"d?seg|label|mask|pred|(?:ground[-_. ]?)?truth|(?<![a-z])gt(?![a-z])", re.IGNORECASE
)
_WORD_AT_END = rf"[-_. ](?:{LABEL_WORDS.pattern})[a-z]*"
LABEL_NAME = re.compile(
    rf"(?:{LABEL_WORDS.pattern})[a-z]*|(?:liver|{TUMOR_NAME})(?:{_WORD_AT_END})?", re.IGNORECASE
)
"""Such a name tells no case: its folder does."""
LABEL_WORD_AT_END = re.compile(f"{_WORD_AT_END}$", re.IGNORECASE)
LABEL_WORD_AT_START = re.compile(rf"^(?:{LABEL_WORDS.pattern})[a-z]*[-_. ]", re.IGNORECASE)
STRUCTURE = re.compile(rf"(?:(.+?)[-_. ])??(?:(liver)|{TUMORS.pattern})", re.IGNORECASE)
STRUCTURE_AT_START = re.compile(rf"(?:{TUMOR_NAME}|(liver))[-_. ](.+)", re.IGNORECASE)
SCAN_FOLDER = re.compile(r"(?:images?|imgs?|scans?|cts?|volumes?)(?:[-_. ]?t[rs])?", re.IGNORECASE)
CHANNEL_AT_END = re.compile(r"(?<=\d)_0000$")  # of a scan in nnU-Net's layout; its label map has none
NUMBER_AT_END = re.compile(rf"(\d+)([-_]?({LABEL_WORDS.pattern})[a-z]*)?$", re.IGNORECASE)


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


def pair_files(reference: Path, prediction: Path) -> tuple[list[Pair], list[Path], tuple[Side, Side]]:
    """Each reference file with its prediction file or None, in natural order; the predictions left over; and
    what both hold.

    A file that was named and the only one of the other side are a pair whatever their names. No prediction is
    taken where a name fits more than one file.
    """
    sides = label_files(reference, prediction), label_files(prediction, reference)
    if reference.resolve() == prediction.resolve():
        sides[0].notes.append(f"{reference} is compared with itself: predictions need a place of their own.")
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
        remedy = "Name a folder of label volumes, or one file. Nothing else is scored."
        raise InputError(where, problem, remedy)
    own, of_owner = {p: _structure(p) for p in paths}, defaultdict(list)
    begun = {p: said for p in paths if (said := _at_start(p))}
    kinds = {*begun.values()}  # liver_1.nii is a mask beside tumor_1.nii alone
    own |= {p: said for p, said in begun.items() if {("liver", said[1]), ("tumor", said[1])} <= kinds}
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
    labelled = {_numbers(p) for p in named} - {()} | homes | {(_bare(p), p.parent) for p in named}
    folders = {p.parent for p in rest if named and p.parent != where and SCAN_FOLDER.fullmatch(p.parent.name)}
    kept = [
        p
        for p in rest
        if p in named or (labelled | folders).isdisjoint((_numbers(p), p.parent, (_bare(p), p.parent)))
    ]
    above = where.resolve().parent if where.resolve().name.startswith("labels") else where  # of labelsTr
    meaning, notes, read = described_labels(where) or described_labels(above), [], {*kept, *laid_over}
    if left_out := [printable(p.relative_to(where)) for p in paths if p not in read]:
        notes.append(f"{where}: {len(left_out)} left out, as scans or other organs: {listed(left_out)}.")
    if meaning:
        values = (", ".join(map(str, each)) or "none" for each in (meaning.liver, meaning.tumor))
        notes.append("{} says what labels mean: liver {}, tumour {}.".format(meaning.source, *values))
    kept.sort(key=lambda path: (_numbers(path), case_name(path), path))
    alone, said = ({}, []) if meaning else _tumors_alone(kept)
    joined = {p for first, *others in alone.values() for p in others}
    return Side([p for p in kept if p not in joined], tumors | alone, meaning, notes + said)


def _tumors_alone(kept: list[Path]) -> tuple[dict[Path, list[Path]], list[str]]:
    """Those of the masks that hold tumours alone, by their names and as they hold one label: of each case the
    first, with all; notes."""
    named, values = [path for path in kept if _structure(path)[0] == "tumor"], set()
    for path in named:
        with suppress(InputError):  # told when it is scored
            values |= {*label_values(path)} - {0}
    if not named or len(values) > 1:
        return {}, []
    cases = defaultdict(list)
    for path in named:
        owner = _structure(path)[1]
        cases[owner if owner[0] else path].append(path)
    alone = [path for path in named if path in cases]
    alike = Counter(path.name for path in alone), Counter(path.parent for path in alone)
    names = listed([printable(path.name) for path in named])
    count = f"{counted(len(named), 'mask')} of {counted(len(cases), 'case')}"
    notes = [f"{count} hold tumours alone by their names ({names}): livers have no scores."]
    if alone and min(max(each.values()) for each in alike) > 1:  # p1/tumor1, p1/tumor2, p2/tumor1
        notes.append("Of several files in a folder each is a case: join them, or put liver.nii.gz beside.")
    return {paths[0]: paths for paths in cases.values()}, notes


def _lies_beside(path: Path, livers: set[tuple[str, Path]]) -> bool:
    """Whether a scan or another organ of those who have masks of `livers`: p1.nii or p1_spleen.nii beside
    p1_liver.nii, ct/p1.nii beside liver/p1.nii."""
    stem = nifti_stem(path) or ""
    bare = _bare(path)
    owners = {stem, *(bare[: match.start()] for match in re.finditer(r"[-_. ](?=[^\W\d])", bare))}
    owners |= {bare[match.end() :] for match in re.finditer("[-_. ]", bare)}  # spleen_p1 beside liver_p1
    owners |= {""} if bare != stem and not re.search(r"\d", bare) else set()  # spleen_mask.nii
    by_folder = (bare, path.parent.parent / "*") in livers and not LABEL_NAME.fullmatch(path.parent.name)
    return by_folder or any((owner, path.parent) in livers for owner in owners)


def case_name(path: Path) -> str:
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
    "liver" and "p1" of p1_liver_mask.nii, liver_p1.nii and liver/p1.nii, "tumor" and "" of tumor_2.nii."""
    bare, folder = _bare(path), LABEL_WORD_AT_END.sub("", path.parent.name)
    begun = _at_start(path)
    if found := STRUCTURE.fullmatch(bare):
        whose = found[1] or "", path.parent
    elif begun and re.search(r"[^\W\d_]", begun[1][0]):
        return begun
    elif (found := STRUCTURE.fullmatch(folder)) and (not found[1] or LABEL_NAME.fullmatch(found[1])):
        whose = "" if _is_label_name(path) else bare, path.parent.parent / "*"
    else:
        return "", ("", path.parent)
    return "liver" if found[2] else "tumor", whose


def _at_start(path: Path) -> tuple[str, tuple[str, Path]] | None:
    """The same of a name that begins with the structure: of MSD's liver_1.nii, too, which may hold both."""
    found = STRUCTURE_AT_START.fullmatch(_bare(path))
    return ("liver" if found[1] else "tumor", (found[2], path.parent)) if found else None


def _bare(path: Path) -> str:
    """Its name without a word for labels at the end."""
    return LABEL_WORD_AT_END.sub("", nifti_stem(path) or "")


def _name(path: Path) -> str:
    """`case_name`; of a mask of one structure without that word."""
    return _structure(path)[1][0] or case_name(path)


def _numbers(path: Path) -> tuple[int, ...]:
    """Those of a name that ends in one: (12,) of "segmentation-12.nii.gz" and of "volume-12_pred.nii"."""
    name = CHANNEL_AT_END.sub("", _name(path))
    return numbers_in(name) if NUMBER_AT_END.search(name) else ()


def _keys(path: Path) -> list[str | tuple[int, ...]]:
    """By which a file finds its partner, the surest first. The later ones do not tell capitals apart: a Mac
    changes these. No number of `predict --case-names numbered` is a key: case-001 is what was read first,
    whatever that was called."""
    bare = LABEL_WORD_AT_END.sub("", CHANNEL_AT_END.sub("", case_name(path)))
    alike = [name.casefold() for name in (case_name(path), bare, _name(path))]
    alike += [LABEL_WORD_AT_START.sub("", name) for name in alike[1:]]
    by_order = path.name == "mask.nii.gz" and re.fullmatch(r"case-\d{3,}", path.parent.name)
    numbers = () if by_order and path.with_name("record.json").exists() else _numbers(path)
    return [key for key in (case_name(path), *alike, numbers) if key]


def _paired(reference: Path, predictions: Mapping[str | tuple[int, ...], list[Path]]) -> Pair:
    """With the prediction that fits best; `predictions` by their keys."""
    fitting = next((predictions[key] for key in _keys(reference) if key in predictions), [])
    if len(fitting) > 1:
        names = ", ".join(printable(path) for path in fitting)
        problem = InputError(reference, f"fits several predictions: {names}.", "Keep one file a case.")
        return Pair(reference, None, problem)
    return Pair(reference, fitting[0] if fitting else None)
