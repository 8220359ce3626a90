"""The command line: `livseg check | extract | train | predict | evaluate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from livseg_lib.errors import InputError

TRAINING_NOTEBOOKS = {"unet": "03_train_unet", "resnet50_unet": "04_train_resnet50"}
MOST_PICTURES = 48
"""On one contact sheet."""

WARNING = "Research only. Not for clinical use."


def check(arguments: argparse.Namespace) -> int:
    """List every case with its findings; exit code 1 if any is an error."""
    from livseg_lib.datasets import check_dataset, find_cases
    from livseg_lib.preprocessing import case_picture
    from livseg_lib.reporting import contact_sheet, save_figure, write_table

    dataset = find_cases(arguments.data, arguments.dataset)
    print(f"{arguments.data}: {len(dataset.cases)} cases, read as {dataset.name}")
    report = check_dataset(dataset, arguments.workers)
    print(report.cases.to_string(index=False))
    for finding in report.findings.itertuples():
        print(f"{finding.severity:8}{finding.case:16}{finding.code:20}{finding.message}")
    write_table(report.findings, arguments.out / "findings.csv")
    write_table(report.cases, arguments.out / "cases.csv")
    pictures = [case_picture(case) for case in report.usable(dataset).cases[:MOST_PICTURES]]
    if pictures:
        save_figure(contact_sheet(pictures), arguments.out, "contact_sheet", "Usable cases.")
    print(f"tables and contact sheet in {arguments.out}")
    return report.exit_code


def extract(arguments: argparse.Namespace) -> int:
    """Volumes to pictures, arrays and slices.csv; cases with errors are listed and left out."""
    from livseg_lib.datasets import check_dataset, find_cases
    from livseg_lib.preprocessing import Recipe, choose_windows, extract_dataset

    dataset = find_cases(arguments.data, arguments.dataset)
    report = check_dataset(dataset, arguments.workers)
    errors = report.findings[report.findings.severity == "error"]
    for finding in errors.itertuples():
        print(f"left out: {finding.case}: {finding.code}: {finding.message}", file=sys.stderr)
    windows = "auto" if arguments.windows == "auto" else arguments.windows.split(",")
    recipe = Recipe(
        windows=choose_windows(windows, of_pictures=dataset.name == "kaggle"),
        noise_filter=arguments.noise_filter,
        equalization=arguments.equalization,
        size=arguments.size,
    )
    slices = extract_dataset(report.usable(dataset).cases, recipe, arguments.out, arguments.workers)
    liver, tumor = slices.liver_pixels.sum(), slices.tumor_pixels.sum()
    print(f"{slices.case.nunique()} cases, {len(slices)} slices, {liver} liver and {tumor} tumour voxels")
    print(f"written to {arguments.out / 'slices.csv'}")
    return report.exit_code


def train(arguments: argparse.Namespace) -> int:
    """Prepare the data, train one system and evaluate it: the notebooks, without make."""
    from livseg_lib.notebooks import run_all

    given = {"dataset": arguments.dataset, "data": arguments.data, "target": arguments.target}
    stems = ["00_prepare_data", "01_extract_slices", "02_classify_masks"]
    stems += [TRAINING_NOTEBOOKS[arguments.system], "05_evaluate"]
    index = run_all(stems, arguments.run_name, arguments.profile, given, arguments.set)
    print(f"{WARNING} Open {index}")
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """Outline liver and tumours in scans; masks keep the scan's own grid. Exit code 1 if any case failed."""
    from livseg_lib.datasets import find_cases
    from livseg_lib.inference import predict_volume
    from livseg_lib.labels import STRUCTURES, structure_mask
    from livseg_lib.predictions import keep_prediction
    from livseg_lib.training.model_folder import load_model

    trained = load_model(arguments.model)
    failed = 0
    for case in find_cases(arguments.input, arguments.dataset).cases:
        try:
            volume = case.read_volume()
            labels = predict_volume(trained, volume)
            path = keep_prediction(labels, volume, arguments.out, case.case_id)
            liver_ml, tumor_ml = (
                structure_mask(labels, structure).sum() * volume.voxel_volume_ml for structure in STRUCTURES
            )
            print(f"{case.case_id}: liver {liver_ml:.0f} ml, tumour {tumor_ml:.1f} ml -> {path}")
        except InputError as error:
            failed += 1
            print(f"{case.case_id}: {error}", file=sys.stderr)
    print(WARNING)
    return int(failed > 0)


def evaluate(arguments: argparse.Namespace) -> int:
    """Score label volumes against reference ones by the rules of the LiTS benchmark."""
    from livseg_lib.evaluation.folders import evaluate_folders, write_scores
    from livseg_lib.labels import STRUCTURES

    accept = arguments.accept_affine_mismatch
    scores = evaluate_folders(arguments.reference, arguments.prediction, arguments.mode, accept)
    path = write_scores(scores, arguments.out)
    for structure in STRUCTURES:
        found = scores["summary"][structure]
        counts = ", ".join(f"{name} {found[name]}" for name in ("n_cases", "n_empty_reference", "n_missed"))
        print(f"{structure:6} dice_per_case {found['dice_per_case']:.4f}  ({counts})")
    print(f"missed: {', '.join(scores['missed']) or 'none'}; all scores in {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="livseg", description=f"Liver and liver tumours in CT. {WARNING}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(function, **paths: str) -> argparse.ArgumentParser:
        command = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        for name, meaning in paths.items():
            command.add_argument(name, type=Path, help=meaning)
        return command

    _add_check(add(check, data="folder or file with scans"))
    _add_extract(add(extract, data="folder or file with scans"))
    _add_train(add(train))
    _add_predict(add(predict, input="NIfTI file, DICOM series (folder or zip), or a folder of scans"))
    _add_evaluate(add(evaluate))
    return parser


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dataset", default="auto", help="lits, msd, kaggle, ircadb, nifti, dicom (default: look)"
    )
    command.add_argument("--workers", type=int, default=2, help="processes side by side")


def _add_check(command: argparse.ArgumentParser) -> None:
    _add_reading(command)
    default = Path("livseg_check")
    command.add_argument("--out", type=Path, default=default, help="folder for tables and a contact sheet")


def _add_extract(command: argparse.ArgumentParser) -> None:
    _add_reading(command)
    command.add_argument("--out", type=Path, required=True, help="folder for the slices")
    command.add_argument("--size", type=int, default=256, help="pixels, 128 to 512")
    command.add_argument("--windows", default="auto", help="comma-separated names, one a channel")
    command.add_argument("--noise-filter", default="none", help="none, median, gaussian")
    command.add_argument("--equalization", default="none", help="none, global, clahe")


def _add_train(command: argparse.ArgumentParser) -> None:
    command.add_argument("--system", choices=sorted(TRAINING_NOTEBOOKS), default="unet")
    command.add_argument(
        "--dataset", default="phantom", help="phantom, or the layout of your data (auto: look)"
    )
    command.add_argument("--data", default="", help="folder with your scans")
    command.add_argument("--target", choices=["liver", "tumor", "both"], default="both")
    command.add_argument("--run-name", default="", help="folder below reports/ (default: DATASET-PROFILE)")
    command.add_argument("--profile", default="quick", help="quick, full, or a YAML file")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a notebook parameter"
    )


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dataset", default="auto", help="layout of the input (default: look)")
    command.add_argument("--model", type=Path, required=True, help="folder with model.json")
    command.add_argument("--out", type=Path, required=True, help="folder for the masks")


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reference", type=Path, required=True, help="file or folder of true labels")
    command.add_argument("--prediction", type=Path, required=True, help="file or folder of predicted labels")
    command.add_argument("--mode", choices=["intended", "lits_asis"], default="intended")
    command.add_argument(
        "--accept-affine-mismatch", action="store_true", help="compare voxel by voxel where affines differ"
    )
    command.add_argument("--out", type=Path, default=Path("scores.json"))


def main(argv: list[str] | None = None) -> int:
    """Run one command; input that cannot be used is one clear line and exit code 2."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.function(arguments)
    except InputError as error:
        print(f"livseg: {error}", file=sys.stderr)
        return 2
