"""`livseg export`: networks for programs without livseg, compared with Keras on slices of a scan."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # only named in signatures: help must not wait for TensorFlow
    from pathlib import Path

    from livseg_lib.volumes import Volume

PHANTOM_SEED = 2026


def export(arguments: argparse.Namespace) -> int:
    """Networks as SavedModel and ONNX, compared with Keras on a scan; exit code 1 where they disagree."""
    from livseg_lib.inference.export import FORMATS, MOST_APART, export_system
    from livseg_lib.training.model_folder import WARNING

    formats = FORMATS if arguments.format == "both" else (arguments.format,)
    volume, name = _volume(arguments)
    exported = export_system(arguments.model, arguments.out, volume, formats)
    print(f"largest difference of two probabilities between a file and Keras, on {name}:")
    for each in exported:
        verdict = "" if each.agrees else f"  more than {MOST_APART:g}: do not use it"
        print(f"{each.most_apart:10.1e}  {each.n_inputs:3} inputs  {each.path}{verdict}")
    if not all(each.agrees for each in exported):
        return 1
    print(f"{_not_exported(arguments.out)}how to use them: {arguments.out / 'export.json'}. {WARNING}")
    if "onnx" in formats:
        print(f"livseg predict SCAN --model {arguments.out} computes with ONNX Runtime")
    return 0


def _volume(arguments: argparse.Namespace) -> tuple[Volume, str]:
    """The scan to compare on, and what to call it: one of the phantom's where none is given."""
    from livseg_lib.datasets.catalogue import find_cases
    from livseg_lib.datasets.phantom import make_phantom_patient
    from livseg_lib.volumes import Volume

    if arguments.scan:
        case = find_cases(arguments.scan, arguments.dataset).cases[0]
        return case.read_volume(), case.case_id
    patient = make_phantom_patient(PHANTOM_SEED, 0, site="tiny")
    return Volume(patient.voxels, patient.spacing_mm), "a coarse phantom (give --scan for one of yours)"


def _not_exported(out: Path) -> str:
    steps = json.loads((out / "export.json").read_text())["not_exported"]
    names = ", ".join(f"{step['name']} ({step['part']})" for step in steps)
    return f"not exported, as no networks: {names}\n" if names else ""
