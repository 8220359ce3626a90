"""Slices as pictures with mask pictures, such as train_images/volume-N_slice_K.jpg of LiTS.

A mask says so in its name (volume-N_slice_K_mask.jpg, beside the pictures or in train_masks) or, where no
name does, by its folder (images/x.png and masks/x.png, or liver/x.png). Masks of tumours beside those of
livers (folders tumor, tumor_masks or masks/tumor, or x_tumor_mask.png) are laid over them. `labels.json` in
the folder says which grey levels mean liver and tumour where `decide_levels` cannot know.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from livseg_lib.datasets.case import Case, Dataset, Note
from livseg_lib.datasets.files import (
    find_label_map,
    listed,
    natural_key,
    own_folders,
    printable,
    regular_files,
)
from livseg_lib.datasets.nifti import (
    MOST_SCANS_OF_A_PATIENT,
    ONE_FOLDER_ONE_PATIENT,
    PARTS_OF_A_SET,
    TUMOR_NAME,
    TUMORS,
)
from livseg_lib.datasets.pictures import MaskLevels, decide_levels, read_picture
from livseg_lib.errors import InputError
from livseg_lib.labels import TUMOR
from livseg_lib.volumes import Volume

LOOKS_FOR = "volume-N_slice_K.jpg or .png with volume-N_slice_K_mask.jpg or .png"
LOOKS_FOR += ", or pictures of one name in folders images and masks"
SUFFIXES = (".png", ".jpg", ".jpeg")
_VOLUME = re.compile(r"(?:volume)?-(\d+)(?:_slice)?_(\d+)", re.I)  # without, of segmentation-3_slice_7
_OF_VOLUME = re.compile(r"(?:^|[_.-])volume-(\d+)", re.IGNORECASE)  # of flip_volume-3, too
_NAME_AND_NUMBER = re.compile(r"(?s)[ _.-]*(.*?)[ _.([-]*(\d{1,9})?[)\]]?")  # as Windows numbers: a (1)
MASKS, PICTURES = r"masks?|labels?|seg(?:mentation)?s?|gt|ground_?truths?", r"images?|imgs?|slices?|pictures?"
MASK_WORD = re.compile(rf"(?:^|[ _.-])(?:{MASKS})(?=$|[ _.-])", re.IGNORECASE)
PICTURE_WORD = re.compile(rf"(?:^|[ _.-])(?:{PICTURES})(?=$|[ _.-])", re.IGNORECASE)
_PART = rf"{PARTS_OF_A_SET}|png|jpe?g"
_OF_A_PART = rf"(?:[ _.-]?(?:{_PART}|t[rs]))?"
_OF_MASKS = rf"(?:.*[ _.-])?(?:{MASKS}){_OF_A_PART}(?:[ _.-](?:{TUMOR_NAME}|liver))?"
_OF_PICTURES = rf"(?:.*[ _.-])?(?:{PICTURES}){_OF_A_PART}|cts?|scans?|inputs?"
MASK_FOLDER, _PICTURE_FOLDER = (re.compile(of, re.IGNORECASE) for of in (_OF_MASKS, _OF_PICTURES))
_SAYS_WHAT = re.compile(rf"{_OF_MASKS}|{_OF_PICTURES}", re.IGNORECASE)
NO_PATIENT = re.compile(rf"{_OF_MASKS}|{_OF_PICTURES}|{_PART}", re.IGNORECASE)
"""Folders that say what lies in them, not whose it is."""
_GLUED = re.compile(rf"({TUMOR_NAME}|liver)(?=(?:{MASKS})(?:$|[ _./-]))", re.IGNORECASE)  # livermask
_BARE = re.compile(rf"(?<![^/])({TUMOR_NAME}|liver)(?=/[^/]*$)", re.IGNORECASE)  # images/1.png, liver/1.png
STRUCTURE_WORD = re.compile(rf"(?:^|[ _.-])(?:{TUMOR_NAME}|liver)(?=[ _.-]*\d*$)", re.IGNORECASE)
Files = tuple[Path, ...]
Numbered = dict[int, list[Path]]  # files by slice number; several where they bear one number
Slices = dict[str, Numbered]  # by case
Levels = tuple[MaskLevels, MaskLevels]  # of masks of the liver, or of both, and of tumours laid over them


def recognises(folder: Path) -> bool:
    """Whether a picture below `folder` is named like a slice of a volume, or has a mask of its name."""
    pictures, masks, tumors, _ = _by_case(folder)
    return bool(masks or tumors) or any(_VOLUME.fullmatch(path.stem) for path in _paths(pictures))


def find(folder: Path) -> Dataset:
    """One case a volume number, or a case by folder and name up to the last number, the slice's. Cases that
    lie in one folder are one patient's, where folders hold few.

    A slice without mask is left out of its case and listed in `unmasked`; a volume none of whose slices
    has a mask is an unlabelled case with all of its slices.
    """
    pictures, masks, tumors, unpaired = _by_case(folder)
    label_map, joined = find_label_map(folder), bool(masks and tumors)
    masks = masks or tumors
    levels = decide_levels(sorted(_paths(masks)), label_map)
    tumor_levels = decide_levels(sorted(_paths(tumors)))
    if len(tumor_levels.meaning) < 2:  # specks: as the livers were drawn
        tumor_levels = levels
    places = {part.lower() for path in _paths(tumors) for part in path.relative_to(folder).parts[-3:-1]}
    said = {MASK_WORD.sub("", part).strip(" _.-") for part in places if "liver" in part}
    in_them = any(map(TUMORS.fullmatch, said))  # liver_tumor_masks: perhaps of both
    if not joined and (label_map or in_them or TUMOR in dict(levels.meaning).values()):
        tumors = {}
    described = (label_map.source,) if label_map else ()
    cases = [
        _case(name, slices, masks.get(name, {}), tumors.get(name, {}), (levels, tumor_levels), described)
        for name, slices in pictures.items()
    ]
    notes = [Note(folder, "mask-levels", decision) for decision in levels.decisions]
    if joined:
        message = f"Masks of tumours ({len([*_paths(tumors)])}) are laid over those of livers."
        notes.append(Note(folder, "structure-masks", message))
    cases, of_patients = _by_patient(cases, folder)
    return Dataset("kaggle", folder, tuple(cases), tuple(unpaired), (*notes, *of_patients))


def _by_patient(cases: list[Case], folder: Path) -> tuple[list[Case], list[Note]]:
    """`cases`, those in one folder as one patient's, where folders hold few; and what a split should know."""
    notes = []
    places = [_patient_folders(case.files[0], folder) for case in cases]
    if len(set(places)) > 1 and len(cases) <= MOST_SCANS_OF_A_PATIENT * len(set(places)):  # else batches
        for n, (case, owner) in enumerate(zip(cases, own_folders(places), strict=True)):
            if owner and case.patient == case.case_id:  # no number of a volume
                cases[n] = replace(case, patient=printable(owner))
        if max(Counter(case.patient for case in cases).values()) > 1:
            notes.append(Note(folder, "patients", ONE_FOLDER_ONE_PATIENT))
    alone = [c.files[0].stem for c in cases if c.slice_numbers == (0,) and c.patient == c.case_id]
    if len(alone) > 1:
        message = f"{len(alone)} pictures count as a case each, such as {listed(alone)}: a split separates"
        message += " them, be they of one patient. Name them PATIENT_SLICE, or put each patient in a folder."
        notes.append(Note(folder, "patients", message))
    return cases, notes


def _patient_folders(path: Path, folder: Path) -> tuple[str, ...]:
    """Those below `folder` that `path` lies in, but for what says what lies in it."""
    parents = path.relative_to(folder).parts[:-1] if path != folder else ()
    return tuple(part for part in parents if not NO_PATIENT.fullmatch(part))


def _by_case(folder: Path) -> tuple[Slices, Slices, Slices, list[Path]]:
    """Pictures below `folder`, their masks, and those that are of tumours alone by their names, in natural
    order; and masks of no picture."""
    paths = [path for path in regular_files(folder).named if path.suffix.lower() in SUFFIXES]
    homes = {path.parent.parent for path in paths if _PICTURE_FOLDER.fullmatch(path.parent.name)}
    names = (_GLUED.sub(r"\1_", path.relative_to(folder).as_posix()) for path in paths)
    spelt = [
        folder / (_BARE.sub(r"\1_masks", name) if path.parent.parent in homes else name)
        for path, name in zip(paths, names, strict=True)
    ]
    in_names = any(MASK_WORD.search(place.stem) for place in spelt)
    found = pictures, masks, tumors = [defaultdict(lambda: defaultdict(list)) for _ in range(3)]
    of_masks, unpaired = [], []
    for path, place in zip(paths, spelt, strict=True):
        places = place.relative_to(folder).parts[:-1]
        telling = (part for part in reversed(places) if _SAYS_WHAT.fullmatch(part))  # the nearest counts
        if MASK_WORD.search(place.stem) if in_names else MASK_FOLDER.fullmatch(next(telling, "")):
            said = [MASK_WORD.sub("", part).strip(" _.-").lower() for part in places[-2:]]
            of_masks.append((path, place, said))
            continue
        name, number = _case_and_slice(MASK_WORD.sub("", place.stem), _patient_folders(place, folder))
        pictures[name][number].append(path)
    for path, place, said in of_masks:
        stem, owners = MASK_WORD.sub("", place.stem), _patient_folders(place, folder)
        plain = [part for part in owners if not STRUCTURE_WORD.fullmatch(part)]
        bare = STRUCTURE_WORD.sub("", stem)
        for each, within in ((stem, owners), (stem, plain), (bare, plain)):  # what is masked is said there
            name, number = _case_and_slice(each, within)
            if number in pictures.get(name, ()):
                said += STRUCTURE_WORD.findall(stem.lower()) if each == bare else []
                of_tumors = any(TUMORS.fullmatch(part.strip(" _.-")) for part in said)
                (tumors if of_tumors else masks)[name][number].append(path)
                break
        else:
            unpaired.append(path)
    ordered = (
        {name: dict(sorted(each[name].items())) for name in sorted(each, key=natural_key)} for each in found
    )
    return *ordered, unpaired


def _case_and_slice(stem: str, patient_folders: Iterable[str]) -> tuple[str, int]:
    if named := _VOLUME.fullmatch(stem):
        return f"volume-{int(named[1])}", int(named[2])
    name, number = _NAME_AND_NUMBER.fullmatch(PICTURE_WORD.sub("", stem)).groups()
    case_id = "-".join([*patient_folders, name] if name else patient_folders)
    return re.sub(r"[^\w.-]+", "_", printable(case_id)) or "pictures", int(number or 0)


def _paths(slices: Slices) -> Iterator[Path]:
    return chain.from_iterable(copies for numbers in slices.values() for copies in numbers.values())


def _case(
    name: str, pictures: Numbered, masks: Numbered, tumors: Numbered, levels: Levels, described: Files
) -> Case:
    """`described`: the file that says what levels mean."""
    numbers = tuple(k for k in pictures if k in masks) or tuple(pictures)
    picture_files = tuple(pictures[k][0] for k in numbers)
    mask_files = tuple(masks[k][0] for k in numbers if k in masks)
    alone = [own[0] for k, own in tumors.items() if masks.get(k, own)[0] in own]
    over = tuple((n, path) for n, k in enumerate(numbers) for path in tumors.get(k, ()) if not alone)
    notes = []
    for first, *copies in (*pictures.values(), *masks.values()):
        message = f"It has the same number as {printable(first)}. Keep one."
        notes += [Note(copy, "several-copies", message, "error") for copy in copies]
    if alone:
        message = f"Masks of tumours alone, as their names say ({len(alone)}). Put masks of the liver beside"
        message += " them, draw it into them in a level of its own, or say in labels.json that it is in them."
        notes.append(Note(alone[0], "no-liver-mask", message, "error"))
    return Case(
        case_id=name,
        patient=of_volume[1] if (of_volume := _OF_VOLUME.search(name)) else name,
        files=(*picture_files, *(described if mask_files else ()), *mask_files, *(path for _, path in over)),
        read_volume=partial(_read_volume, picture_files),
        read_labels=partial(_read_labels, mask_files, over, levels) if mask_files else None,
        slice_numbers=numbers,
        unmasked=tuple(path for k, (path, *_) in pictures.items() if k not in numbers),
        notes=tuple(notes),
        decided=str((*levels[0].meaning, levels[0].stretched, *(levels[1].meaning if over else ())))
        if mask_files
        else "",
        inspect=partial(_inspect, picture_files, mask_files),
    )


def _inspect(picture_files: Files, mask_files: Files, volume: Volume) -> Iterator[Note]:
    pictures = [read_picture(path)._replace(grey=None) for path in picture_files]
    if in_color := [p for p, image in zip(picture_files, pictures, strict=True) if image.colors is not None]:
        message = f"Pictures in colour were read as grey ({len(in_color)}). Is an outline drawn on them?"
        yield Note(in_color[0], "in-colour", message)
    for path, image, mask in zip(picture_files, pictures, mask_files, strict=bool(mask_files)):
        turned = read_picture(mask, sixteen_bit=True).orientation
        if turned != image.orientation:
            message = f"{path.name} is turned by its EXIF orientation {image.orientation}, its mask by"
            message += f" {turned}: both are read as a viewer shows them. Look whether they fit."
            yield Note(mask, "orientation", message)
            return


def _read_volume(files: Files) -> Volume:
    """Grey levels 0-255, not HU, as int16 (D, H, W); nothing is known of the spacing."""
    slices = [read_picture(path).grey for path in files]
    for path, picture in zip(files, slices, strict=True):
        _require_shape(path, picture, slices[0].shape, "the first slice of its volume")
    return Volume(np.stack(slices).astype(np.int16), spacing_mm=(np.nan, np.nan, np.nan))


def _read_labels(
    files: Files, over: tuple[tuple[int, Path], ...], levels: Levels, volume: Volume
) -> np.ndarray:
    labels = np.stack([_read_mask(path, levels[0], volume) for path in files])
    for index, path in over:
        labels[index][_read_mask(path, levels[1], volume) > 0] = TUMOR
    return labels


def _read_mask(path: Path, levels: MaskLevels, volume: Volume) -> np.ndarray:
    picture = read_picture(path, sixteen_bit=True)
    _require_shape(path, picture.grey, volume.voxels.shape[1:], "its slice")
    return levels.decode(path, picture)


def _require_shape(path: Path, picture: np.ndarray, shape: tuple[int, ...], other: str) -> None:
    if picture.shape != shape:
        height, width = picture.shape
        problem = f"The picture is {height} x {width} where {other} is {shape[0]} x {shape[1]}."
        raise InputError(path, problem, "Export the slices of a volume in one size.", code="shape-mismatch")
