"""The command line: `livseg COMMAND`; `livseg --help` lists them."""

from __future__ import annotations

import argparse
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

WRITE_A_FILE = ("evaluate", "networks")
"""Commands whose --out is a file; that of the others is a folder."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="livseg", description=f"Liver and liver tumours in CT. {WARNING}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(function, name: str = "", **paths: str) -> argparse.ArgumentParser:
        name = name or function.__name__.replace("_", "-")
        command = subparsers.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        for name, meaning in paths.items():
            command.add_argument(name, type=place, help=meaning)
        return command

    _add_check(add(run.check, data="folder or file with scans"))
    _add_extract(add(run.extract, data="folder or file with scans"))
    _add_train(add(run.train))
    _add_reproduce(add(run.reproduce))
    _add_predict(add(run.predict, input="NIfTI file, DICOM series (folder or zip), PNG or JPEG, or a folder"))
    _add_sort(add(run.sort, input="NIfTI file, DICOM series (folder or zip), or a folder of scans"))
    _add_evaluate(add(run.evaluate))
    scores = "scores.json of livseg evaluate"
    compared = add(run.compare_files, "compare", first=scores, second=scores)
    compared.add_argument("--score", default="dice", help="dice, assd, hd95, ... (default: dice)")
    earlier = "NIfTI file of the earlier labels (0, 1 liver, 2 tumour)"
    _add_follow_up(add(run.follow_up, baseline=earlier, followup="NIfTI file of the later labels"))
    _add_app(add(run.app))
    _add_export(add(run.export))
    _add_models(add(run.models))
    add(run.networks).add_argument("--out", type=Path, help="write the tables as a Markdown page")
    return parser


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dataset", default="auto", help="lits, msd, kaggle, ircadb, nifti, dicom (default: look)"
    )
    _add_workers(command)
    _add_modality(command)
    _add_acceptance(command)


def _add_workers(command: argparse.ArgumentParser, count: int = 2) -> None:
    words = f"processes side by side (default: {count})"
    command.add_argument("--workers", type=int, default=count, help=words)
    words = "in their place those of a Dask scheduler, such as tcp://10.0.0.1:8786"
    command.add_argument("--scheduler", dest="workers", metavar="ADDRESS", help=words)


def _add_modality(command: argparse.ArgumentParser) -> None:
    command.add_argument("--modality", choices=MODALITIES, default="ct", help="of the scans (default: ct)")


def _add_acceptance(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accept-affine-mismatch",
        action="store_true",
        help="take labels voxel by voxel where shapes are equal and affines differ",
    )


def _add_check(command: argparse.ArgumentParser) -> None:
    _add_reading(command)
    default = Path("livseg_check")
    command.add_argument("--out", type=place, default=default, help="folder for tables and a contact sheet")


def _add_extract(command: argparse.ArgumentParser) -> None:
    _add_reading(command)
    command.add_argument("--out", type=place, required=True, help="folder for the slices")
    command.add_argument("--size", type=int, default=256, help="pixels, 128 to 512")
    command.add_argument("--windows", default="auto", help="comma-separated names, one a channel")
    command.add_argument("--noise-filter", default="none", help="none, median, gaussian")
    command.add_argument("--equalization", default="none", help="none, global, clahe")


def _add_train(command: argparse.ArgumentParser) -> None:
    own = [system for system in SYSTEMS.values() if system.notebooks not in ((), NETWORKS)]
    names = [system.name for system in sorted(own, key=lambda system: system.notebooks[-1])]
    words = f"any network of pictures (livseg networks), {', '.join(names)}, or a notebook by its name"
    command.add_argument("--system", default="unet", help=words)
    _add_run(command)


def _add_reproduce(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.set_defaults(target="")  # that of the profile
    command.add_argument("--only", default="", metavar="SYSTEM", help="this system, or this notebook, alone")
    command.add_argument("--scan", default="", help="a scan of yours, to be outlined by every system")
    command.add_argument(
        "--liver",
        dest="liver_model",
        default="",
        metavar="MODEL",
        help="for --scan: whose liver (default: liver-ct; own: each system's)",
    )
    command.add_argument(
        "--jobs", type=int, default=0, help="notebooks at a time (default: 2, or 1 where there is a GPU)"
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dataset", default="phantom", help="phantom, or the layout of your data (auto: look)"
    )
    command.add_argument("--data", default="", help="folder with your scans")
    command.add_argument("--target", choices=["liver", "tumor", "both"], default="both")
    _add_modality(command)
    _add_acceptance(command)
    command.add_argument(
        "--run-name", default="", help="folder below reports/ (default: DATASET[-mr]-PROFILE)"
    )
    command.add_argument(
        "--minutes", default="", help="of each training, on this machine (default: as its epochs take)"
    )
    command.add_argument("--profile", default="quick", help="quick, best, full, tour, or a YAML file")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a notebook parameter"
    )


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dataset", default="auto", help="layout of the input (default: look)")
    command.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="folder with model.json, or a name of `livseg models` (default: liver-ct)",
    )
    command.add_argument(
        "--sorter", type=Path, help="folder of a slice sorter: spare the slices without liver"
    )
    command.add_argument(
        "--liver", help="a model for the liver, such as liver-ct; --model is then asked for tumours alone"
    )
    command.add_argument(
        "--augment", default="", help="average over variants of each picture, such as rotate,zoom (slower)"
    )
    command.add_argument("--series", help="number or UID of the DICOM series, where there are several")
    command.add_argument(
        "--picture-hu", default="0,255", metavar="LOW,HIGH", help="HU of black and white in pictures"
    )
    command.add_argument(
        "--case-names",
        choices=["files", "numbered"],
        default="files",
        help="call results by the names of the files, or case-001, case-002, ... if names tell who it is",
    )
    command.add_argument(
        "--keep-identity", action="store_true", help="write the patient's name and ids into mask.dcm"
    )
    _add_workers(command, 1)
    command.add_argument("--out", type=place, required=True, help="folder for the results, one a case")


def _add_models(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reports", type=Path, default=Path("reports"), help="where trained systems lie")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_sort(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dataset", default="auto", help="layout of the input (default: look)")
    command.add_argument("--model", type=Path, required=True, help="folder of a trained slice sorter")
    command.add_argument("--out", type=Path, required=True, help="folder for tables and contact sheets")


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reference", type=place, required=True, help="file or folder of true labels")
    command.add_argument("--prediction", type=place, required=True, help="file or folder of predicted labels")
    command.add_argument("--mode", choices=["intended", "lits_asis"], default="intended")
    _add_acceptance(command)
    _add_workers(command)
    command.add_argument("--tolerance-mm", type=float, default=3.0, help="of the surface Dice (default: 3)")
    command.add_argument(
        "--out", type=place, default=Path("scores.json"), help="tables a case and a tumour come beside it"
    )


def _add_follow_up(command: argparse.ArgumentParser) -> None:
    command.add_argument("--days", type=float, help="days between the scans, for doubling times")
    command.add_argument("--out", type=Path, required=True, help="folder for table, record and picture")


def _add_app(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reports", type=Path, default=Path("reports"), help="where trained systems lie")
    command.add_argument("--port", type=int, help="of the page (default: the first free one from 7860 on)")
    command.add_argument("--share", action="store_true", help="a public link, for everyone who knows it")
    command.add_argument("--workers", type=int, default=1, help="scans outlined at a time (default: 1)")
    command.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="a further name of it, as of a proxy"
    )


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="folder of a trained network or cascade, or liver-ct")
    command.add_argument("--out", type=Path, required=True, help="folder for the exported networks")
    command.add_argument("--format", choices=["savedmodel", "onnx", "both"], default="both")
    command.add_argument("--scan", type=Path, help="scan to compare on (default: a coarse phantom)")
    command.add_argument("--dataset", default="auto", help="layout of the scan (default: look)")


def main(argv: list[str] | None = None) -> int:
    """Run one command; whatever ends it is one clear line and an exit code of its own (`exit_code_of`)."""
    keep_freed_memory()
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _run(arguments), arguments.command)


def _run(arguments: argparse.Namespace) -> int:
    """The command, alone with its results: where they cannot be written, nothing is begun.

    URLs are folders of this machine for the command.
    """
    is_file = arguments.command in WRITE_A_FILE
    with ExitStack() as stack:
        mirrors = cache(lambda url: stack.enter_context(mirrored(url)))
        for name, value in vars(arguments).items():
            if isinstance(value, Url):
                here = stack.enter_context(sent(value, is_file)) if name == "out" else mirrors(value)
                setattr(arguments, name, here)
        if out := getattr(arguments, "out", None):
            stack.enter_context(sole_writer(out, is_file))
        return arguments.function(arguments)
