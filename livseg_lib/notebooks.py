"""Runs a notebook headlessly: `python -m livseg_lib.notebooks run NOTEBOOK --run-name ...`.

Papermill executes into `<name>.partial.ipynb`; only a run that ended well is renamed, so a failed
one never looks finished. Unknown parameters are refused (papermill would only warn).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from livseg_lib.errors import InputError, exit_code_of
from livseg_lib.files import locked, written_aside
from livseg_lib.runs import RunFolders, project_root

EXPECTED_ENDS = ("InputError", "SystemExit")
"""What a notebook raises to tell its user something; all else is told with its type."""


def declared_parameters(notebook: Path) -> dict[str, object]:
    """Parameters of a notebook with their defaults, read from its `parameters` cell."""
    import ast

    import papermill

    found = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}


def choose_parameters(
    notebooks: list[Path], profile: Path, given: dict[str, object], pairs: Sequence[str] = ()
) -> dict[str, dict]:
    """For each notebook the values that differ from its defaults: `given` and `pairs` over the profile's.

    `pairs` are NAME=VALUE texts, read as the default in the notebook is (`read_value`); an empty value is
    left out. A file such as quick-kaggle.yaml beside quick.yaml goes over it for that data set. Raises
    InputError for a key that no notebook declares.
    """
    typed = _split_pairs(pairs)
    dataset = typed.get("dataset", given.get("dataset", ""))
    for_dataset = profile.with_name(f"{profile.stem}-{dataset}{profile.suffix}")
    in_files = {**_read_yaml(profile), **(_read_yaml(for_dataset) if for_dataset.exists() else {})}
    declared = {notebook.stem: declared_parameters(notebook) for notebook in notebooks}
    known = {name for parameters in declared.values() for name in parameters}
    for where, names in ((profile, in_files), ("parameters", given), ("--set", typed)):
        if unknown := sorted(set(names) - known):
            problem = f"sets {', '.join(unknown)}, which no notebook declares."
            raise InputError(where, problem, "Mend the name.")
    chosen = {}
    for notebook, defaults in declared.items():
        values = {name: value for name, value in (in_files | given).items() if name in defaults}
        for name, value in in_files.items():
            if name in defaults and isinstance(defaults[name], str) and not isinstance(value, str | list):
                raise InputError(profile, f"{name} is {value!r}, no text.", "Put quotes around it.")
        texts = {name: text for name, text in typed.items() if name in defaults}
        chosen[notebook] = values | {n: read_value(n, text, defaults[n]) for n, text in texts.items()}
    return chosen


def _split_pairs(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if not re.fullmatch(r"[A-Za-z_]\w*=.*", pair, re.DOTALL):
            raise InputError(f"--set {pair}", "is not NAME=VALUE.", "Write such as --set unet_epochs=3.")
        if pair.startswith("run_name="):
            raise InputError(f"--set {pair}", "would part results from their folder.", "Use --run-name.")
    return {name: text for name, text in (pair.split("=", 1) for pair in pairs) if text != ""}


def read_value(name: str, text: str, default: object) -> object:
    """`text` as a value of the parameter `name`: of the type of its `default`.

    A parameter that is text gets the text as it stands, be it a path with a # or a name such as 007; only
    one whose default is a word may be a list instead, in brackets. "None" is none for all others. Where the
    default is None, what looks like a number is one. Raises InputError where the type does not fit.
    """
    is_list = text.startswith("[") and text.endswith("]")
    if isinstance(default, str) and not (default and is_list):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(name, "is a name that is no UTF-8.", "Rename the folder.") from error
        return text
    if text.lower() in ("none", "null", "~"):
        return None
    if is_list or isinstance(default, list):
        return _read_list(name, text, default)
    if isinstance(default, bool):
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() in words:
            return words[text.lower()]
        raise InputError(name, f"is {text!r}.", "Write true or false.")
    try:
        number = float(text)
    except ValueError as error:
        if default is None:
            return text
        raise InputError(name, f"is {text!r}, no number.", f"Write such as {default}.") from error
    if not math.isfinite(number) or (isinstance(default, int) and number != int(number)):
        raise InputError(name, f"is {text!r}.", f"Write such as {default}.")
    return int(number) if isinstance(default, int) or re.fullmatch(r"[-+]?\d+", text) else number


def _read_list(name: str, text: str, default: object) -> list:
    import yaml

    try:
        found = yaml.load(text, Loader=yaml.BaseLoader)  # every item as text: read_value knows what it is
    except yaml.YAMLError:
        found = None
    if not isinstance(found, list):
        raise InputError(name, f"is {text!r}, no list.", "Write such as [a, b].")
    of = default[0] if isinstance(default, list) and default else ("" if isinstance(default, str) else None)
    items = [item if isinstance(item, str) else json.dumps(item) for item in found]
    return [read_value(name, item, of) for item in items]


def _read_yaml(path: Path) -> dict[str, object]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}).", "Name a profile.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(path, f"is no YAML{line}.", "Write a NAME: VALUE on each line.") from error
    if not isinstance(found or {}, dict) or not all(isinstance(name, str) for name in found or {}):
        raise InputError(path, "does not list parameters.", "Write a NAME: VALUE on each line.")
    return found or {}


def configure(
    notebooks: list[Path], profile: Path, given: dict[str, object], report: Path, pairs: Sequence[str] = ()
) -> None:
    """Write `<report>/parameters/<notebook>.json`, touching only files whose content changes.

    Make compares their times: a notebook runs again when its own parameters change.
    """
    for name, parameters in choose_parameters(notebooks, profile, given, pairs).items():
        path, text = report / "parameters" / f"{name}.json", json.dumps(parameters, indent=2) + "\n"
        if not path.exists() or path.read_text() != text:
            with written_aside(path) as partial:
                partial.write_text(text)


def execute(notebook: Path, report: Path, parameters: dict[str, object]) -> Path:
    """Run `notebook` with `parameters`; returns the executed copy in `report`, made with its HTML twin.

    The cells' output is shown as it comes; another process that runs the same notebook into `report` is
    waited for. Raises InputError where a cell fails, leaving `<name>.partial.ipynb` to look at.
    """
    from livseg_lib.reporting.pages.notebooks import notebook_to_html
    from livseg_lib.reporting.pages.page import write_report

    if unknown := sorted(set(parameters) - set(declared_parameters(notebook))):
        raise InputError(notebook, f"has no parameter {', '.join(unknown)}.", "Mend the name.")
    partial, finished = report / f"{notebook.stem}.partial.ipynb", report / notebook.name
    with locked(finished):
        _run_cells(notebook, partial, parameters)
        notebook_to_html(partial, finished.with_suffix(".html"))
        os.replace(partial, finished)
    write_report(report)
    return finished


def _run_cells(notebook: Path, partial: Path, parameters: dict[str, object]) -> None:
    import papermill

    from livseg_lib.reporting.viewer import HEADLESS

    os.environ[HEADLESS] = "1"  # the kernel inherits it
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
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from None
        kind = "" if error.ename in EXPECTED_ENDS else f"{error.ename}: "
        problem = f"stopped in cell {error.exec_count}: {kind}{error.evalue}"
        raise InputError(notebook.stem, problem, f"See {partial}.") from None


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
    missing = [stem for stem in stems if not (folder / f"{stem}.ipynb").exists()]
    if missing or not stems:
        problem = f"holds no {missing[0] if missing else 'notebook'}: this is not the repository of livseg."
        raise InputError(folder, problem, "Go there, or set LIVSEG_ROOT to it.")
    chosen = Path(profile) if profile.endswith((".yaml", ".yml")) else folder / "params" / f"{profile}.yaml"
    run_name = run_name or f"{given['dataset']}-{Path(profile).stem}"
    report = RunFolders(project_root(), run_name).report
    values = {**given, "run_name": run_name}
    parameters = choose_parameters(sorted(folder.glob("*.ipynb")), chosen, values, pairs)
    for stem in stems:
        print(f"== {stem}", flush=True)
        execute(folder / f"{stem}.ipynb", report, parameters[stem])
    return report / "index.html"


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
    """Entry point of make's rules; whatever ends it is one clear line (`exit_code_of`)."""
    arguments = _arguments(argv)
    return exit_code_of(lambda: _run_command(arguments), arguments.command)


def _run_command(arguments: argparse.Namespace) -> int:
    report = RunFolders(project_root(), arguments.run_name).report
    if arguments.command == "configure":
        configure(
            arguments.notebooks, arguments.profile, {"run_name": arguments.run_name}, report, arguments.set
        )
        return 0
    if arguments.command == "summary":
        print_summary(report)
        return 0
    path = report / "parameters" / f"{arguments.notebook.stem}.json"
    try:
        parameters = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            path, "cannot be read as parameters.", "Run make reproduce, which writes it."
        ) from error
    print(f"== {arguments.notebook.stem}", flush=True)
    execute(arguments.notebook, report, parameters)
    return 0


if __name__ == "__main__":
    sys.exit(main())
