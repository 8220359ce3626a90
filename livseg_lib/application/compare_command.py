"""`livseg compare`: two files of scores of the same cases, and what their difference is worth."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from livseg_lib.errors import InputError

if TYPE_CHECKING:  # only named in signatures: help must come at once
    from pathlib import Path

    import pandas as pd


def compare(arguments: argparse.Namespace) -> int:
    """Paired differences between two outputs of `livseg evaluate` on the same cases, one case a patient."""
    import pandas as pd

    from livseg_lib.evaluation.statistics import compare_pairs
    from livseg_lib.labels import STRUCTURES

    names = _names(arguments.first, arguments.second)
    scores = [_read_scores(path) for path in (arguments.first, arguments.second)]
    shared = scores[0].index.intersection(scores[1].index)
    if shared.empty:
        problem = f"has no case in common with {arguments.second}."
        raise InputError(arguments.first, problem, "Compare scores of the same references.")
    for structure in STRUCTURES:
        column = f"{structure}_{arguments.score}"
        if column not in scores[0] or column not in scores[1]:
            continue
        both = pd.DataFrame({name: each[column] for name, each in zip(names, scores, strict=True)}).loc[
            shared
        ]
        row = compare_pairs(both.astype(float), [names]).iloc[0]
        print(
            f"{structure:6} {arguments.score}: {names[0]} minus {names[1]} {row.difference:+.4f} "
            f"({row.difference_low:+.4f} to {row.difference_high:+.4f}), p {row.p:.3g}, "
            f"{row.n_patients} cases, {row.n_undefined} undefined"
        )
    left_out = sorted(set(scores[0].index) ^ set(scores[1].index))
    print(f"in one file only, left out: {', '.join(map(str, left_out)) or 'none'}")
    return 0


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What `livseg compare` takes."""
    from pathlib import Path

    for name in ("first", "second"):
        command.add_argument(name, type=Path, help="scores.json of livseg evaluate")
    command.add_argument("--score", default="dice", help="dice, assd, hd95, ... (default: dice)")


def _names(*paths: Path) -> tuple[str, str]:
    """The files' names, with their folders where these are alike."""
    stems = [path.stem for path in paths]
    return tuple(stems) if len(set(stems)) == 2 else tuple(map(str, paths))


def _read_scores(path: Path) -> pd.DataFrame:
    """A row a case, by its name."""
    import pandas as pd

    try:
        return pd.DataFrame(json.loads(path.read_text())["cases"]).set_index("case")
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"holds no scores ({type(error).__name__})."
        raise InputError(path, problem, "Give the file that livseg evaluate wrote.") from error
