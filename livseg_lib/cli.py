"""The command line: `livseg COMMAND`; `livseg --help` lists them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from livseg_lib import WARNING
from livseg_lib import commands as run
from livseg_lib.errors import exit_code_of
from livseg_lib.files import sole_writer
from livseg_lib.labels import MODALITIES
from livseg_lib.processes import keep_freed_memory
from livseg_lib.storage import Url, mirrored, place, sent
from livseg_lib.systems import DEFAULT_MODEL, NETWORKS, SYSTEMS

Option = Callable[..., argparse.Action]  # adds an option to a command, as `add_argument` does
WRITE_A_FILE = ("evaluate", "networks")  # commands whose --out is a file; that of the others is a folder


def _parser() -> argparse.ArgumentParser:
    """Every command with its options, in the order of `livseg --help`."""
    parser = argparse.ArgumentParser(prog="livseg", description=f"Liver and liver tumours in CT. {WARNING}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(function, name: str = "", **paths: str) -> Option:
        """A command that is given `paths`; returns what adds an option to it."""
        name = name or function.__name__.replace("_", "-")
        command = subparsers.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        for name, meaning in paths.items():
            command.add_argument(name, type=_place, help=meaning)
        return command.add_argument

    option = add(run.check, data="folder or file with scans")
    _add_reading(option)
    text = "folder for tables and a contact sheet (default: livseg_check)"
    option("--out", type=_place, default=Path("livseg_check"), help=text)

    option = add(run.extract, data="folder or file with scans")
    _add_reading(option)
    option("--out", type=_place, required=True, help="folder for the slices")
    option("--size", type=int, default=256, help="pixels a side, 32 to 512 (default: 256)")
    text = "names, or low..high in HU, one a channel: liver,-100..200 (default: three for livers)"
    option("--windows", default="auto", help=text)
    option("--noise-filter", default="none", help="none, median, gaussian (default: none)")
    option("--equalization", default="none", help="none, global, clahe (default: none)")

    option = add(run.train)
    with_notebook = [system for system in SYSTEMS.values() if system.notebooks not in ((), NETWORKS)]
    names = [system.name for system in sorted(with_notebook, key=lambda system: system.notebooks[-1])]
    text = f"any network of pictures (livseg networks), {', '.join(names)}, or a notebook by its name "
    text += "(default: unet)"
    option("--system", default="unet", help=text)
    _add_run(option)

    option = add(run.reproduce)
    _add_run(option)
    option("--only", default="", metavar="SYSTEM", help="this system, or this notebook, alone")
    option("--scan", default="", help="a scan of yours, to be outlined by every system")
    text = "for --scan: whose liver (default: liver-ct; own: each system's)"
    option("--liver", dest="liver_model", default="", metavar="MODEL", help=text)
    text = "notebooks at a time (default: 2, or one a GPU)"
    option("--jobs", type=int, default=0, help=text)

    _add_predict(add(run.predict, input="NIfTI file, DICOM series (folder or zip), PNG or JPEG, or a folder"))

    option = add(run.sort, input="NIfTI file, DICOM series (folder or zip), or a folder of scans")
    option("--dataset", default="auto", help="layout of the input (default: recognised by its files)")
    option("--model", type=_path, required=True, help="folder of a trained slice sorter")
    option("--out", type=_path, required=True, help="folder for tables and contact sheets")

    option = add(run.evaluate)
    option("--reference", type=_place, required=True, help="file or folder of true labels")
    option("--prediction", type=_place, required=True, help="file or folder of predicted labels")
    text = "lits_asis: with the slips of the program that LiTS shipped in 2017 (default: intended)"
    option("--mode", choices=["intended", "lits_asis"], default="intended", help=text)
    _add_acceptance(option)
    _add_workers(option)
    option("--tolerance-mm", type=float, default=3.0, help="of the surface Dice (default: 3)")
    text = "tables a case and a tumour come beside it (default: scores.json)"
    option("--out", type=_place, default=Path("scores.json"), help=text)

    scores = "scores.json of livseg evaluate"
    option = add(run.compare_files, "compare", first=scores, second=scores)
    option("--score", default="dice", help="dice, assd, hd95, ... (default: dice)")

    earlier = "NIfTI file of the earlier labels (0, 1 liver, 2 tumour)"
    option = add(run.follow_up, baseline=earlier, followup="NIfTI file of the later labels")
    option("--days", type=float, help="days between the scans, for doubling times")
    option("--out", type=_path, required=True, help="folder for table, record and picture")

    option = add(run.app)
    option("--reports", type=_path, default=Path("reports"), help="of trained systems (default: reports)")
    option("--port", type=int, help="of the page (default: the first free one from 7860 on)")
    option("--share", action="store_true", help="a public link, for everyone who knows it")
    option("--workers", type=int, default=1, help="scans outlined at a time (default: 1)")
    text = "a further name of it, as of a proxy"
    option("--host", action="append", default=[], metavar="NAME", help=text)

    option = add(run.export)
    option("model", help="folder of a trained network or cascade, or liver-ct")
    option("--out", type=_path, required=True, help="folder for the exported networks")
    option("--format", choices=["savedmodel", "onnx", "both"], default="both", help="(default: both)")
    option("--scan", type=_path, help="scan to compare on (default: a coarse phantom)")
    option("--dataset", default="auto", help="layout of the scan (default: recognised by its files)")

    option = add(run.models)
    option("--reports", type=_path, default=Path("reports"), help="of trained systems (default: reports)")
    option("--json", action="store_true", help="print JSON")

    add(run.networks)("--out", type=_path, help="write the tables as a Markdown page")
    return parser


def _path(text: str) -> Path:
    """A path that is named: an empty variable of a shell is not the folder where one stands."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty. Name a file or a folder.")
    return Path(text)


def _place(text: str) -> Path | Url:
    return _path(text) and place(text)


def _joined(args: list[str]) -> list[str]:
    """`args` with each value that begins with a minus, as -100..200, joined to its option, or it is none."""
    joined: list[str] = []
    for word in args:
        if re.match(r"-[\d.]", word) and joined and re.fullmatch(r"--[\w-]+", joined[-1]):
            word = f"{joined.pop()}={word}"
        joined.append(word)
    return joined


def _add_reading(option: Option) -> None:
    text = "lits, msd, kaggle, ircadb, nifti, dicom (default: recognised by its files)"
    option("--dataset", default="auto", help=text)
    _add_workers(option)
    _add_modality(option)
    _add_acceptance(option)


def _add_workers(option: Option, count: int = 2) -> None:
    option("--workers", type=int, default=count, help=f"processes side by side (default: {count})")
    text = "the workers of this Dask scheduler instead, such as tcp://10.0.0.1:8786"
    option("--scheduler", dest="workers", metavar="ADDRESS", help=text)


def _add_modality(option: Option) -> None:
    option("--modality", choices=MODALITIES, default="ct", help="of the scans (default: ct)")


def _add_acceptance(option: Option) -> None:
    text = "take labels voxel by voxel where shapes are equal and affines differ"
    option("--accept-affine-mismatch", action="store_true", help=text)


def _add_run(option: Option) -> None:
    text = "phantom, or the layout of your data (auto: recognised; default: phantom)"
    option("--dataset", default="phantom", help=text)
    option("--data", default="", help="folder with your scans")
    text = "what is learnt (default: as the profile says, else both)"
    option("--target", choices=["liver", "tumor", "both"], default="", help=text)
    _add_modality(option)
    _add_acceptance(option)
    option("--run-name", default="", help="folder below reports/ (default: DATASET[-mr]-PROFILE)")
    text = "of each training, on this machine (default: as its epochs take)"
    option("--minutes", default="", help=text)
    option("--profile", default="quick", help="quick (default), best, session, full, tour, or a YAML file")
    option("--set", action="append", default=[], metavar="NAME=VALUE", help="value of a notebook parameter")


def _add_predict(option: Option) -> None:
    option("--dataset", default="auto", help="layout of the input (default: recognised by its files)")
    text = "folder with model.json, or a name of `livseg models` (default: liver-ct)"
    option("--model", default=DEFAULT_MODEL, help=text)
    option("--sorter", type=_path, help="folder of a slice sorter: leave out slices without liver")
    text = "a model for the liver, such as liver-ct; --model is then asked for tumours alone"
    option("--liver", help=text)
    text = "average over variants of each picture, such as rotate,zoom (slower)"
    option("--augment", default="", help=text)
    option("--series", help="number or UID of the DICOM series, where there are several")
    text = "HU of black and white in pictures (default: 0,255)"
    option("--picture-hu", default="0,255", metavar="LOW,HIGH", help=text)
    text = "call results by the names of the files (default), or case-001, ... if names tell who it is"
    option("--case-names", choices=["files", "numbered"], default="files", help=text)
    text = "write the patient's name and ids into mask.dcm"
    option("--keep-identity", action="store_true", help=text)
    _add_workers(option, 1)
    option("--out", type=_place, required=True, help="folder for the results, one a case")


def main(argv: list[str] | None = None) -> int:
    """Run one command; whatever ends it is one clear line and an exit code of its own (`exit_code_of`)."""
    keep_freed_memory()
    arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    return exit_code_of(lambda: _run(arguments), arguments.command)


def _run(arguments: argparse.Namespace) -> int:
    """The command, alone with its results: where they cannot be written, nothing is begun. URLs are folders
    of this machine for the command."""
    is_file = arguments.command in WRITE_A_FILE
    with ExitStack() as stack:
        mirrors = cache(lambda url: stack.enter_context(mirrored(url)))
        for name, value in vars(arguments).items():
            if isinstance(value, Url):
                local_path = stack.enter_context(sent(value, is_file)) if name == "out" else mirrors(value)
                setattr(arguments, name, local_path)
        if out := getattr(arguments, "out", None):
            stack.enter_context(sole_writer(out, is_file))
        return arguments.function(arguments)
