"""Runs a notebook headlessly: `python -m livseg_lib.notebooks run NOTEBOOK --run-name ...`.

Papermill executes into `<name>.partial.ipynb`; only a run that ended well is renamed, so a failed
one never looks finished. Unknown parameters are refused (papermill would only warn).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from livseg_lib.atomic import written_aside
from livseg_lib.errors import InputError
from livseg_lib.paths import RunFolders, project_root

EXPECTED_ENDS = ("InputError", "SystemExit")
"""What a notebook raises to tell its user something; all else is printed with its traceback."""


def declared_parameters(notebook: Path) -> dict[str, object]:
    """Parameters of a notebook with their defaults, read from its `parameters` cell."""
    import ast

    import papermill

    found = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}


def choose_parameters(notebooks: list[Path], profile: Path, given: dict[str, object]) -> dict[str, dict]:
    """For each notebook the values that differ from its defaults: `given` over those of the profile.

    A file such as quick-kaggle.yaml beside quick.yaml goes over it for that data set. Raises InputError
    for a key that no notebook declares.
    """
    for_dataset = profile.with_name(f"{profile.stem}-{given.get('dataset', '')}{profile.suffix}")
    wanted = {**_read_yaml(profile), **(_read_yaml(for_dataset) if for_dataset.exists() else {}), **given}
    declared = {notebook.stem: declared_parameters(notebook) for notebook in notebooks}
    known = {name for parameters in declared.values() for name in parameters}
    if unknown := sorted(set(wanted) - known):
        raise InputError(profile, f"sets {', '.join(unknown)}, which no notebook declares.", "Mend the name.")
    return {
        name: {key: value for key, value in wanted.items() if key in parameters}
        for name, parameters in declared.items()
    }


def _read_yaml(path: Path) -> dict[str, object]:
    import yaml

    return yaml.safe_load(path.read_text()) or {}


def configure(notebooks: list[Path], profile: Path, given: dict[str, object], report: Path) -> None:
    """Write `<report>/parameters/<notebook>.json`, touching only files whose content changes.

    Make compares their times: a notebook runs again when its own parameters change.
    """
    for name, parameters in choose_parameters(notebooks, profile, given).items():
        path, text = report / "parameters" / f"{name}.json", json.dumps(parameters, indent=2) + "\n"
        if not path.exists() or path.read_text() != text:
            with written_aside(path) as partial:
                partial.write_text(text)


def execute(notebook: Path, report: Path, parameters: dict[str, object]) -> Path:
    """Run `notebook` with `parameters`; returns the executed copy in `report`, made with its HTML twin.

    The cells' output is shown as it comes. Raises InputError where a cell fails, leaving
    `<name>.partial.ipynb` to look at.
    """
    import papermill

    from livseg_lib.reporting import notebook_to_html, write_report
    from livseg_lib.reporting.viewer import HEADLESS

    os.environ[HEADLESS] = "1"  # the kernel inherits it
    if unknown := sorted(set(parameters) - set(declared_parameters(notebook))):
        raise InputError(notebook, f"has no parameter {', '.join(unknown)}.", "Mend the name.")
    report.mkdir(parents=True, exist_ok=True)
    partial, finished = report / f"{notebook.stem}.partial.ipynb", report / notebook.name
    try:
        papermill.execute_notebook(
            str(notebook),
            str(partial),
            parameters=parameters,
            cwd=str(project_root()),
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],  # no warning about loopback sockets in each log
        )
    except papermill.PapermillExecutionError as error:
        if error.ename not in EXPECTED_ENDS:
            print("".join(f"{line}\n" for line in error.traceback), file=sys.stderr)
        raise InputError(notebook.stem, f"stopped: {error.evalue}", f"See {partial}.") from None
    notebook_to_html(partial, finished.with_suffix(".html"))
    os.replace(partial, finished)
    write_report(report)
    return finished


SUMMARY_COLUMNS = ["system", "target", "n_test_patients", "dice_per_case", "dice_per_case_low"]
SUMMARY_COLUMNS += ["dice_per_case_high", "published_value", "train_seconds"]


def print_summary(report: Path) -> None:
    """A small table of the systems, and the page to open."""
    import pandas as pd

    table = report / "tables" / "systems.csv"
    if table.exists():
        systems = pd.read_csv(table).query("split_by == 'patient' and target in ('liver', 'tumor')")
        print(systems[SUMMARY_COLUMNS].round(3).to_string(index=False, na_rep="-"))
        print("Dice: mean over test patients, 95 % interval; published figures: other data, other protocol.")
    print(f"Research only, not for clinical use. Open {report / 'index.html'}")


def run_all(stems: list[str], run_name: str, profile: str, given: dict, pairs: list[str]) -> Path:
    """Run the notebooks called `stems` in order, whatever has been run before; returns the report page.

    What can go on (phantom, extraction, training) goes on where it stopped.
    """
    folder = project_root() / "notebooks"
    chosen = Path(profile) if profile.endswith((".yaml", ".yml")) else folder / "params" / f"{profile}.yaml"
    run_name = run_name or f"{given['dataset']}-{Path(profile).stem}"
    values = {**given, **_parse_pairs(pairs), "run_name": run_name}
    report = RunFolders(project_root(), run_name).report
    parameters = choose_parameters(sorted(folder.glob("*.ipynb")), chosen, values)
    for stem in stems:
        print(f"== {stem}", flush=True)
        execute(folder / f"{stem}.ipynb", report, parameters[stem])
    return report / "index.html"


def _parse_pairs(pairs: list[str]) -> dict[str, object]:
    """NAME=VALUE texts; a value is YAML, an empty one is left out."""
    import yaml

    given = dict(pair.split("=", 1) for pair in pairs)
    return {name: yaml.safe_load(text) for name, text in given.items() if text != ""}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m livseg_lib.notebooks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run-name", required=True, help="folder of the results below reports/")
    commands = parser.add_subparsers(dest="command", required=True)
    settings = commands.add_parser("configure", help="write the parameters of each notebook")
    settings.add_argument("--profile", type=Path, required=True)
    settings.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    settings.add_argument("notebooks", nargs="+", type=Path)
    commands.add_parser("summary", help="print the table of systems and where the report lies")
    run = commands.add_parser("run", help="execute one notebook")
    run.add_argument("notebook", type=Path)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point of make's rules; what a user can mend is one clear line and exit code 2."""
    try:
        return _run_command(_arguments(argv))
    except InputError as error:
        print(f"livseg: {error}", file=sys.stderr)
        return 2


def _run_command(arguments: argparse.Namespace) -> int:
    report = RunFolders(project_root(), arguments.run_name).report
    if arguments.command == "configure":
        values = {**_parse_pairs(arguments.set), "run_name": arguments.run_name}
        configure(arguments.notebooks, arguments.profile, values, report)
        return 0
    if arguments.command == "summary":
        print_summary(report)
        return 0
    parameters = json.loads((report / "parameters" / f"{arguments.notebook.stem}.json").read_text())
    print(f"== {arguments.notebook.stem}", flush=True)
    execute(arguments.notebook, report, parameters)
    return 0


if __name__ == "__main__":
    sys.exit(main())
