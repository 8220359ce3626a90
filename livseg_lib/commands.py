"""What each command of `livseg` does; each imports what it needs inside, so that help comes at once."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from livseg_lib import WARNING
from livseg_lib.errors import InputError, counted, require_extra
from livseg_lib.files import read_file, require_own_file, require_there, write_atomically, write_json
from livseg_lib.labels import LIVER, MOSTLY_TUMOR, STRUCTURES, TUMOR
from livseg_lib.storage import send
from livseg_lib.systems import NETWORKS, SYSTEMS, training_notebooks

if TYPE_CHECKING:  # only named in signatures: help must not wait for TensorFlow
    import pandas as pd

    from livseg_lib.volumes import Volume

MOST_PICTURES = 48  # on one contact sheet
READ_FIRST = 24  # slices of a series on the contact sheet of `sort`
READING_ORDER = ", in reading order."  # ends its caption
PAGE_OF_NETWORKS = b"Written by `livseg networks"
PHANTOM_SEED = 2026  # of the scan that exported networks are compared on where none is given


def check(arguments: argparse.Namespace) -> int:
    """List every case with its findings; exit code 1 if any is an error."""
    from livseg_lib.datasets.catalogue import CASE_COLUMNS, FINDING_COLUMNS, check_dataset, find_cases
    from livseg_lib.outputs import save_figure, write_table
    from livseg_lib.preprocessing.recipe import case_picture
    from livseg_lib.reporting.pictures import contact_sheet

    for name, columns in (("findings.csv", FINDING_COLUMNS), ("cases.csv", CASE_COLUMNS)):
        require_own_file(arguments.out / name, *columns[:2])
    dataset = find_cases(arguments.data, arguments.dataset, arguments.accept_affine_mismatch)
    print(f"{arguments.data}: {counted(len(dataset.cases), 'case')}, read as {dataset.name}")
    report = check_dataset(dataset, arguments.workers, modality=arguments.modality)
    write_table(report.findings, arguments.out / "findings.csv")
    write_table(report.cases, arguments.out / "cases.csv")
    usable = report.usable(dataset).cases[:MOST_PICTURES]
    if usable:
        sheet = contact_sheet([case_picture(case, arguments.modality) for case in usable])
        save_figure(sheet, arguments.out, "contact_sheet", "Usable cases.")
    print(report.cases.to_string(index=False))
    for finding in report.findings.itertuples():
        print(f"{finding.severity:7} {finding.case:15} {finding.code:19} {_told(finding)}")
    print(f"tables and contact sheet in {arguments.out}")
    return report.exit_code


def _told(finding: tuple) -> str:
    """The message of a finding, after the name of the file where it is an error: a case may have hundreds."""
    name = Path(finding.file).name if finding.severity == "error" else ""
    told = name in ("", finding.case) or name in finding.message
    return finding.message if told else f"{name}: {finding.message}"


def extract(arguments: argparse.Namespace) -> int:
    """Volumes to pictures, arrays and slices.csv; cases with errors are listed and left out."""
    from livseg_lib.datasets.catalogue import check_dataset, find_cases
    from livseg_lib.preprocessing.extraction import extract_dataset
    from livseg_lib.preprocessing.recipe import Recipe
    from livseg_lib.preprocessing.windows import choose_windows

    dataset = find_cases(arguments.data, arguments.dataset, arguments.accept_affine_mismatch)
    windows = "auto" if arguments.windows == "auto" else arguments.windows.split(",")
    recipe = Recipe(
        windows=choose_windows(windows, dataset.name == "kaggle", arguments.modality),
        noise_filter=arguments.noise_filter,
        equalization=arguments.equalization,
        size=arguments.size,
    )
    report = check_dataset(dataset, arguments.workers, modality=arguments.modality)
    errors = report.findings[report.findings.severity == "error"]
    for finding in errors.itertuples():
        print(f"left out: {finding.case}: {finding.code}: {_told(finding)}", file=sys.stderr)
    slices = extract_dataset(report.usable(dataset).cases, recipe, arguments.out, arguments.workers)
    liver, tumor = slices.liver_pixels.sum(), slices.tumor_pixels.sum()
    cases, count = counted(slices.case.nunique(), "case"), counted(len(slices), "slice")
    print(f"{cases}, {count}, {liver} liver and {tumor} tumour voxels")
    print(f"written to {arguments.out / 'slices.csv'}")
    return report.exit_code


PREPARATION = ["00_prepare_data", "01_extract_slices", "02_classify_masks"]


def train(arguments: argparse.Namespace) -> int:
    """Prepare the data, train one system and evaluate it, even if it has been run before."""
    return _run_notebooks(arguments, arguments.system, jobs=1, again=True)


def reproduce(arguments: argparse.Namespace) -> int:
    """Run the notebooks that are out of date and build the report, as `make reproduce` does."""
    from livseg_lib.runs import install_missing_packages

    install_missing_packages()
    return _run_notebooks(arguments, arguments.only, arguments.jobs, again=False)


def _run_notebooks(arguments: argparse.Namespace, system: str, jobs: int, again: bool) -> int:
    """Run the notebooks of `system`, or all where it is "", with the data that the arguments name."""
    from livseg_lib.datasets.catalogue import ADAPTERS
    from livseg_lib.notebooks import read_value
    from livseg_lib.runner import print_summary, run_notebooks
    from livseg_lib.runs import project_root
    from livseg_lib.shelf import find_model

    minutes = read_value("--minutes", arguments.minutes or "none", 1.0)
    if minutes is not None and minutes <= 0:  # before the notebooks that come first take theirs
        raise InputError("--minutes", f"is {minutes:g}.", "Give more than 0.")
    for name in ("data", "scan"):
        given = getattr(arguments, name, "")
        if given and not (project_root() / Path(given).expanduser()).exists():
            raise InputError(f"--{name}", f"is {given}, which is not there.", "Check the path.")
    liver = find_model(getattr(arguments, "liver_model", ""))
    if len(liver.parts) == 1 and str(liver) != "own" and not (project_root() / liver).exists():
        raise InputError("--liver", f"is {liver}, which is no model.", "Choose from `livseg models`, or own.")
    if arguments.dataset not in ("phantom", "auto", *ADAPTERS):
        known = f"Choose from phantom, auto, {', '.join(ADAPTERS)}."
        raise InputError("--dataset", f"is {arguments.dataset}, which is none.", known)
    is_given = arguments.data or any(pair.startswith("data=") for pair in arguments.set)
    if arguments.dataset != "phantom" and not is_given:
        problem = f"is not given with --dataset {arguments.dataset}."
        raise InputError("--data", problem, "Name the folder of your scans (make: DATA=folder).")
    if arguments.data and arguments.dataset == "phantom":
        remedy = "Say how they lie: --dataset auto, lits, ... (make: DATASET=auto)."
        raise InputError("--data", "names scans, which the data set phantom has no use for.", remedy)
    folder = project_root() / "notebooks"
    is_notebook = (folder / f"{system}.ipynb").exists()
    notebooks = [system] if is_notebook else training_notebooks(system) if system else []
    story = folder.glob("[!4]*.ipynb")  # those numbered 40 or more run by name
    stems = PREPARATION + notebooks if notebooks else [path.stem for path in story]
    given = {"systems": [system]} if notebooks == list(NETWORKS) else {}
    names = ("dataset", "data", "target", "modality", "minutes", "scan", "liver_model")
    pairs = [f"{name}={getattr(arguments, name, '')}" for name in names]
    pairs += ["accept_affine_mismatch=true"] * arguments.accept_affine_mismatch
    of_mr = "-mr" if arguments.modality == "mr" else ""
    run_name = arguments.run_name or f"{arguments.dataset}{of_mr}-{Path(arguments.profile).stem}"
    report = run_notebooks(stems, run_name, arguments.profile, given, pairs + arguments.set, jobs, again)
    print_summary(report)
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """Outline liver and tumours in scans and measure them, a folder a case. Exit code 1 if any failed."""
    from livseg_lib.application.inputs import briefly, find_inputs, passed_over, require_used
    from livseg_lib.application.predictor import describe_expectations, load_predictor
    from livseg_lib.application.results import describe_case, predict_batch
    from livseg_lib.application.scan import Reading, parse_hu_range

    reading = Reading(arguments.series, parse_hu_range(arguments.picture_hu), arguments.keep_identity)
    numbered = arguments.case_names == "numbered"
    patients = find_inputs(arguments.input, arguments.dataset, reading, numbered)
    require_used(reading, patients)
    augment = arguments.augment.split(",") if arguments.augment else []
    predictor = load_predictor(arguments.model, arguments.liver, arguments.sorter, augment)
    for sentence in describe_expectations(predictor.system):
        print(sentence)
    skipped = passed_over(arguments.input, patients)
    for name in [f"{len(skipped)} files or folders"][: len(skipped)] if numbered else briefly(skipped):
        print(f"passed over, not a scan: {name}", file=sys.stderr)

    def show(row: dict) -> None:
        send(arguments.out / row["case"])
        print(describe_case(row), file=sys.stdout if row["state"] == "done" else sys.stderr)

    cases = predict_batch(patients, predictor, arguments.out, show, arguments.workers)
    count = cases.state.value_counts().reindex(["done", "failed", "passed over"], fill_value=0)
    no_scans = f", {count['passed over']} no scans" if count["passed over"] else ""
    print(f"{count.done} of {len(cases)} cases done{no_scans}; see {arguments.out / 'cases.csv'}")
    print(WARNING)
    return int(count.failed > 0 or count.done == 0)


def sort(arguments: argparse.Namespace) -> int:
    """Put the slices of scans into reading order, likely tumours first. Exit code 1 if any case failed."""
    from livseg_lib.datasets.catalogue import find_cases
    from livseg_lib.inference.sorting import reading_table, sort_volume
    from livseg_lib.outputs import save_figure, write_table
    from livseg_lib.reporting.pictures import reading_tiles, tiles
    from livseg_lib.training.model_folder import load_sorter
    from livseg_lib.volumes import require_scan

    sorter, failed = load_sorter(arguments.model), False
    cases = find_cases(arguments.input, arguments.dataset).cases
    for path in (arguments.out / case.case_id for case in cases):
        require_own_file(path.with_name(f"{path.name}.csv"), "place", "slice")
        require_own_file(path.with_name(f"{path.name}.png"), words=READING_ORDER.encode())
    for case in cases:
        try:
            volume = case.read_volume()
            if case.slice_numbers is None:
                require_scan(volume.voxels, case.files[0])
            order = reading_table(sort_volume(sorter, volume), sorter.regions, case.slice_numbers)
        except InputError as error:  # ends nothing: the next case may be good
            failed = True
            print(f"{case.case_id}: {error}", file=sys.stderr)
            continue
        path = write_table(order, arguments.out / f"{case.case_id}.csv")
        sheet = tiles(reading_tiles(volume, order, READ_FIRST))
        save_figure(sheet, arguments.out, case.case_id, f"{case.case_id}{READING_ORDER}")
        print(f"{case.case_id}: {order.region.value_counts().to_dict()} -> {path}")
    print(WARNING)
    return int(failed)


def evaluate(arguments: argparse.Namespace) -> int:
    """Score label volumes by the rules of LiTS, and by tumour size. Exit code 1 if any could not be used."""
    import pandas as pd

    from livseg_lib.application.inputs import briefly
    from livseg_lib.evaluation.folders import evaluate_folders, summary_lines
    from livseg_lib.outputs import write_table

    if arguments.out.exists():
        _read_scores(arguments.out)  # or it would be lost
    rules = (arguments.mode, arguments.accept_affine_mismatch, arguments.tolerance_mm)
    scores = evaluate_folders(arguments.reference, arguments.prediction, *rules, arguments.workers)
    path = write_json(arguments.out, scores)
    for name in ("cases", "lesions", "lesions_by_size"):
        write_table(pd.DataFrame(scores[name]), path.with_name(f"{path.stem}_{name}.csv"))
    print(*summary_lines(scores), sep="\n")
    print(f"\nwithout a prediction: {', '.join(scores['missed']) or 'none'}; scores in {path} and beside it")
    for note in scores["notes"]:
        print(note, file=sys.stderr)
    for problem in scores["problems"]:
        print(f"{problem['case']}: {problem['file']}: {problem['problem']}", file=sys.stderr)
    for name in briefly(scores["without_reference"]):
        print(f"compared with nothing, as no reference fits: {name}", file=sys.stderr)
    return int(bool(scores["problems"] or scores["missed"]))


def compare_files(arguments: argparse.Namespace) -> int:
    """Paired differences between two outputs of `livseg evaluate` on the same cases, one case a patient."""
    import pandas as pd

    from livseg_lib.evaluation.statistics import compare_pairs

    files = (arguments.first, arguments.second)
    names = tuple(str(path) if files[0].stem == files[1].stem else path.stem for path in files)
    scores = [_read_scores(path) for path in files]
    for path, each in zip(files, scores, strict=True):
        if not each.index.is_unique:
            problem = f"holds several cases called {each.index[each.index.duplicated()][0]}."
            raise InputError(path, problem, "Score them again with a name of its own for each reference.")
    for rule in ("mode", *["surface_tolerance_mm"] * (arguments.score == "surface_dice")):
        values = [each.attrs[rule] for each in scores]
        if values[0] != values[1]:
            problem = f"was scored with {rule} {values[1]}, {arguments.first} with {values[0]}."
            raise InputError(arguments.second, problem, "Score both by the same rules.")
    shared = scores[0].index.intersection(scores[1].index)
    if shared.empty:
        problem = f"has no case in common with {arguments.second}."
        raise InputError(arguments.first, problem, "Compare scores of the same references.")
    columns = {f"{structure}_{arguments.score}": structure for structure in STRUCTURES}
    known = scores[0].columns.intersection(scores[1].columns)
    for sizes in known.intersection([f"{structure}_reference_voxels" for structure in STRUCTURES]):
        first, second = (each.loc[shared, sizes] for each in scores)
        if others := [str(case) for case in shared[(first - second).abs() > 0]]:  # NaN: not looked for
            problem = f"was scored against other references than {arguments.first}: {', '.join(others)}."
            raise InputError(arguments.second, problem, "Score both against the same files.")
    if not any(column in known for column in columns):
        names = dict.fromkeys(name.split("_", 1)[1] for name in known if name.split("_")[0] in STRUCTURES)
        problem = f"is {arguments.score!r}, which the two files do not both hold."
        raise InputError("--score", problem, f"Choose from {', '.join(names)}.")
    for column, structure in columns.items():
        if column not in known:
            continue
        joined = pd.DataFrame({name: each[column] for name, each in zip(names, scores, strict=True)})
        joined = joined.loc[shared]
        row = compare_pairs(joined, [names]).iloc[0]
        if not row.n_patients:
            print(f"{structure:6} {arguments.score}: undefined in {counted(row.n_undefined, 'case')}")
            continue
        interval = f"({row.difference_low:+.4f} to {row.difference_high:+.4f}), p {row.p:.3g}"
        print(
            f"{structure:6} {arguments.score}: {names[0]} minus {names[1]} {row.difference:+.4f} "
            f"{interval if row.n_patients > 1 else '(no interval)'}, "
            f"{counted(row.n_patients, 'case')}, {row.n_undefined} undefined"
        )
    left_out = sorted(map(str, set(scores[0].index) ^ set(scores[1].index)))
    print(f"in one file only, left out: {', '.join(left_out) or 'none'}")
    return 0


def _read_scores(path: Path) -> pd.DataFrame:
    """A row a case, by its name."""
    import pandas as pd

    try:
        content = json.loads(read_file(path))
        names = [each["case"] for each in content["cases"]]
        scores = pd.DataFrame(content["cases"], index=pd.Index(names, name="case")).drop(columns="case")
        scores.attrs = {rule: content.get(rule) for rule in ("mode", "surface_tolerance_mm")}
        return scores.astype({name: float for name in scores if name.split("_")[0] in STRUCTURES})
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"holds no scores ({type(error).__name__})."
        remedy = "Name a .json that livseg evaluate wrote (for --out: or a new file)."
        raise InputError(path, problem, remedy) from error


def follow_up(arguments: argparse.Namespace) -> int:
    """Two outlined scans of a patient: tumours matched, growth, and the size arithmetic of RECIST 1.1."""
    from livseg_lib.evaluation.folders import not_looked_for
    from livseg_lib.evaluation.follow_up import CHANGE_COLUMNS, TimePoint, compare_scans
    from livseg_lib.outputs import save_figure, write_table
    from livseg_lib.reporting.charts import follow_up_changes
    from livseg_lib.reporting.patient_page import NOT_AN_ASSESSMENT, conclude_follow_up
    from livseg_lib.volumes import load_segmentation, load_volume

    if arguments.days is not None and not 0 < arguments.days < math.inf:
        remedy = "Give the days from the earlier to the later scan."
        raise InputError("--days", f"is {arguments.days:g}.", remedy)
    require_own_file(arguments.out / "follow_up.csv", *CHANGE_COLUMNS[:2])
    grids = [load_volume(path) for path in (arguments.baseline, arguments.followup)]
    files = zip((arguments.baseline, arguments.followup), grids, strict=True)
    scans = [TimePoint(load_segmentation(path, like=grid), grid.spacing_mm) for path, grid in files]
    for path, scan in zip((arguments.baseline, arguments.followup), scans, strict=True):
        if missing := not_looked_for(path, scan.labels):  # no tumours outlined: not the same as none there
            names = {"liver": "the liver", "tumor": "tumours"}
            problem = f"was outlined by a model that does not look for {names[missing[0]]}."
            raise InputError(path, problem, "Outline both scans by one that does: see livseg models.")
        if TUMOR not in scan.labels:
            print(f"{path}: no voxel is tumour (2): none is there, or nobody looked.", file=sys.stderr)
        elif (scan.labels == TUMOR).sum() > (scan.labels == LIVER).sum():
            print(f"{path}: {MOSTLY_TUMOR}", file=sys.stderr)
    if scans[0].labels.tobytes() == scans[1].labels.tobytes():
        print("Both files hold the same labels: is one a copy of the other?", file=sys.stderr)
    found = compare_scans(*scans, days=math.nan if arguments.days is None else arguments.days)
    record = {
        "baseline": str(arguments.baseline),
        "followup": str(arguments.followup),
        "days": arguments.days,
        "liver_dice_after_alignment": found.matching.liver_dice,
        "shift_mm": list(found.matching.shift_mm),
        "scans": found.livers.to_dict("records"),
        "response": found.response._asdict(),
        "note": NOT_AN_ASSESSMENT,
    }
    write_table(found.changes, arguments.out / "follow_up.csv")
    write_json(arguments.out / "follow_up.json", record)
    figure = follow_up_changes({"this patient": found})
    save_figure(figure, arguments.out, "follow_up", f"Longest axial diameters. {NOT_AN_ASSESSMENT}")
    if len(found.changes):
        print(found.changes.drop(columns=["position", "is_target"]).round(2).to_string(index=False))
    print(*conclude_follow_up("this patient", found), NOT_AN_ASSESSMENT, sep="\n")
    print(f"table, record and picture in {arguments.out}. {WARNING}")
    return 0


def app(arguments: argparse.Namespace) -> int:
    """A page in the browser: drop a scan or a slice, see what is found in it, take it away."""
    from livseg_lib.application.visits import kept_until_stopped

    require_extra("app", "gradio")
    with kept_until_stopped() as visits:  # first: Gradio makes temporary folders while it is imported
        from livseg_lib.application.web_app import launch

        options = (arguments.port, arguments.share, arguments.host, arguments.workers)
        launch(arguments.reports, visits, *options)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Networks as SavedModel and ONNX, compared with Keras on a scan; exit code 1 where they disagree."""
    from livseg_lib.inference.export import FORMATS, MOST_APART, export_system
    from livseg_lib.shelf import find_model

    formats = FORMATS if arguments.format == "both" else (arguments.format,)
    if "onnx" in formats:
        require_extra("onnx", "tf2onnx")
    volume, name = _compared_on(arguments)
    exported = export_system(find_model(arguments.model), arguments.out, volume, formats)
    print(f"largest difference of two probabilities between a file and Keras, on {name}:")
    for each in exported:
        verdict = "" if each.agrees else f"  more than {MOST_APART:g}: do not use it"
        print(f"{each.most_apart:10.1e}  {each.n_inputs:3} inputs  {each.path}{verdict}")
    if not all(each.agrees for each in exported):
        return 1
    left_out = json.loads((arguments.out / "export.json").read_bytes())["not_exported"]
    if left_out:
        names = (f"{entry['name']} ({entry['part']})" for entry in left_out)
        print("not exported, as no networks:", ", ".join(names))
    print(f"how to use them: {arguments.out / 'export.json'}. {WARNING}")
    if "onnx" in formats:
        print(f"livseg predict SCAN --model {arguments.out} computes with ONNX Runtime")
    return 0


def _compared_on(arguments: argparse.Namespace) -> tuple[Volume, str]:
    """The scan to compare on, and what to call it: one of the phantom's where none is given."""
    from livseg_lib.datasets.catalogue import find_cases
    from livseg_lib.datasets.phantom.patient import make_phantom_patient
    from livseg_lib.volumes import Volume

    if arguments.scan:
        case = find_cases(arguments.scan, arguments.dataset).cases[0]
        return case.read_volume(), case.case_id
    patient = make_phantom_patient(PHANTOM_SEED, 0, site="tiny")
    return Volume(patient.voxels, patient.spacing_mm), "a coarse phantom (give --scan for one of yours)"


def models(arguments: argparse.Namespace) -> int:
    """List the trained models, that on board and those in reports: data, licence, Dice, size."""
    from livseg_lib.shelf import models_table

    if arguments.reports != Path("reports"):  # which the first run makes
        require_there(arguments.reports)
    table = models_table(arguments.reports)
    as_text = table.round(3).to_string(index=False)
    print(table.to_json(orient="records", indent=2) if arguments.json else as_text)
    return 0


def networks(arguments: argparse.Namespace) -> int:
    """What every network of the catalogue costs: parameters, GFLOPs, milliseconds an input. Takes minutes."""
    from livseg_lib.models.cost import cost_table
    from livseg_lib.reporting.cards import network_page
    from livseg_lib.runs import describe_device

    if arguments.out:
        require_own_file(arguments.out, words=PAGE_OF_NETWORKS)
    small = {name: system.small for name, system in SYSTEMS.items()}
    tables = {
        "As published, two structures": cost_table((256, 256, 3), (64, 64, 64, 3), 2),
        "Small, for laptops, two structures": cost_table((128, 128, 3), (64, 64, 64, 3), 2, small),
    }
    for title, table in tables.items():
        print(f"{title}\n{table.round(2).to_string(index=False)}\n")
    if arguments.out:
        write_atomically(arguments.out, network_page(tables, describe_device()).encode())
    return 0
