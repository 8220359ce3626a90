"""`livseg follow-up`: two outlined scans of a patient, and what became of each tumour between them."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from livseg_lib.errors import InputError

if TYPE_CHECKING:  # only named in signatures: help must come at once
    from pathlib import Path

    from livseg_lib.evaluation.follow_up import FollowUp, TimePoint


def follow_up(arguments: argparse.Namespace) -> int:
    """Two outlined scans of a patient: tumours matched, growth, and the size arithmetic of RECIST 1.1."""
    from livseg_lib.evaluation.follow_up import compare_scans
    from livseg_lib.figures import save_figure
    from livseg_lib.files import write_atomically
    from livseg_lib.reporting.follow_up import (
        NOT_AN_ASSESSMENT,
        conclude_follow_up,
        follow_up_changes,
    )
    from livseg_lib.tables import write_table

    if arguments.days is not None and not arguments.days > 0:
        raise InputError(
            "--days", f"is {arguments.days:g}.", "Give the days from the earlier to the later scan."
        )
    scans = [_read(path) for path in (arguments.baseline, arguments.followup)]
    found = compare_scans(*scans, days=math.nan if arguments.days is None else arguments.days)
    write_table(found.changes, arguments.out / "follow_up.csv")
    text = json.dumps(_record(found, arguments), indent=2, allow_nan=False) + "\n"
    write_atomically(arguments.out / "follow_up.json", text.encode())
    figure = follow_up_changes({"this patient": found})
    save_figure(figure, arguments.out, "follow_up", f"Longest axial diameters. {NOT_AN_ASSESSMENT}")
    print(found.changes.drop(columns=["position", "is_target"]).round(2).to_string(index=False))
    for sentence in (*conclude_follow_up("this patient", found), NOT_AN_ASSESSMENT):
        print(sentence)
    print(f"table, record and picture in {arguments.out}. Research only. Not for clinical use.")
    return 0


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What `livseg follow-up` takes."""
    from pathlib import Path

    command.add_argument(
        "baseline", type=Path, help="NIfTI file of the earlier labels (0, 1 liver, 2 tumour)"
    )
    command.add_argument("followup", type=Path, help="NIfTI file of the later labels")
    command.add_argument("--days", type=float, help="days between the scans, for doubling times")
    command.add_argument("--out", type=Path, required=True, help="folder for table, record and picture")


def _read(path: Path) -> TimePoint:
    """Labels of a NIfTI file, with the file's own spacing."""
    from livseg_lib.evaluation.follow_up import TimePoint
    from livseg_lib.volumes import load_segmentation, load_volume

    grid = load_volume(path)
    return TimePoint(load_segmentation(path, like=grid), grid.spacing_mm)


def _record(found: FollowUp, arguments: argparse.Namespace) -> dict:
    """follow_up.json: files, alignment, livers, response; what is undefined is null."""
    from livseg_lib.reporting.follow_up import NOT_AN_ASSESSMENT

    return {
        "baseline": str(arguments.baseline),
        "followup": str(arguments.followup),
        "days": arguments.days,
        "liver_dice_after_alignment": found.matching.liver_dice,
        "shift_mm": list(found.matching.shift_mm),
        "scans": [
            {name: _or_none(value) for name, value in row.items()} for row in found.livers.to_dict("records")
        ],
        "response": {name: _or_none(value) for name, value in found.response._asdict().items()},
        "note": NOT_AN_ASSESSMENT,
    }


def _or_none(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
