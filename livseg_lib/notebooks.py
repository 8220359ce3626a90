"""One notebook: its parameters and their values, a digest of its code, and a run of it without a browser."""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from livseg_lib.errors import InputError, exit_code_of
from livseg_lib.files import read_file, text_checksum, write_json
from livseg_lib.runs import RunFolders, project_root

EXPECTED_ENDS = ("InputError", "SystemExit")
"""What a notebook raises to tell its user something; other errors are printed with their type."""


def declared_parameters(notebook: Path) -> dict[str, object]:
    """Parameters of a notebook with their defaults, read from the cell tagged `parameters`. Raises InputError
    where that cell holds more than names and plain values."""
    cells = read_notebook(notebook)["cells"]
    tagged = [cell["source"] for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    try:
        lines = ast.parse("".join(tagged[0]) if tagged else "").body
        return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
    except (SyntaxError, ValueError, AttributeError) as error:
        problem = "holds more than NAME = VALUE in its cell of parameters."
        raise InputError(notebook, problem, "Work such values out in another cell.") from error


def choose_parameters(
    notebooks: list[Path], profile: Path, given: dict[str, object], pairs: Sequence[str] = ()
) -> dict[str, dict]:
    """For each notebook the values that differ from its defaults: `given` and `pairs` over the profile's.

    `pairs` are NAME=VALUE texts, read as the default in the notebook is (`read_value`); an empty value is
    left out. A file such as quick-kaggle.yaml beside quick.yaml goes over it for that data set, and
    quick-kaggle-liver.yaml over both for that target. Raises InputError for a key that no notebook declares.
    """
    typed = _split_pairs(pairs)
    dataset, target = (typed.get(name, given.get(name, "")) for name in ("dataset", "target"))
    stems = [profile.stem, f"{profile.stem}-{dataset}", f"{profile.stem}-{dataset}-{target}"]
    files = [profile.with_name(f"{stem}{profile.suffix}") for stem in stems]
    in_files: dict[str, object] = {}
    for file in files:
        in_files |= _read_yaml(file) if file == profile or file.exists() else {}
    declared = {notebook.stem: declared_parameters(notebook) for notebook in notebooks}
    known = {name for parameters in declared.values() for name in parameters}
    for where, names in ((profile, in_files), ("parameters", given), ("--set", typed)):
        if unknown := sorted(set(names) - known):
            problem = f"sets {', '.join(unknown)}, which no notebook declares."
            raise InputError(where, problem, "Mend the name.")
    chosen = {}
    for notebook, defaults in declared.items():
        for name in in_files.keys() & defaults.keys():
            if not _fits(in_files[name], default := defaults[name]):
                what = f"{name} is {in_files[name]!r:.80}"
                if isinstance(default, str):
                    raise InputError(profile, f"{what}, no text.", "Put quotes around it.")
                raise InputError(profile, f"{what}.", f"Write such as {json.dumps(default)}.")
        read = {
            name: read_value(name, text, defaults[name]) for name, text in typed.items() if name in defaults
        }
        values = in_files | given | read
        chosen[notebook] = {name: value for name, value in values.items() if name in defaults}
    return chosen


def _fits(value: object, default: object) -> bool:
    """Whether a parameter with this `default` may be `value`: of its type, and no number below 0."""
    if value is None or default is None:
        return not isinstance(default, str)
    if isinstance(default, str):
        return isinstance(value, str | list)
    if isinstance(default, list):
        return isinstance(value, list) and all(_fits(item, each) for item in value for each in default[:1])
    if bool in (type(value), type(default)) or isinstance(default, dict):
        return type(value) is type(default)
    return isinstance(value, int if isinstance(default, int) else int | float) and 0 <= value < 1e300


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
    if isinstance(default, list | str) or (is_list and default is None):
        return _read_list(name, text, default)
    if isinstance(default, bool):
        booleans = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() in booleans:
            return booleans[text.lower()]
        raise InputError(name, f"is {text!r}.", "Write true or false.")
    try:
        number = float(text)
    except ValueError as error:
        if default is None:
            return text
        raise InputError(name, f"is {text!r}, no number.", f"Write such as {default}.") from error
    below = default is not None and number < 0
    if below or not math.isfinite(number) or (isinstance(default, int) and number != int(number)):
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
        found = yaml.safe_load(read_file(path).decode("utf-8-sig"))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}).", "Name a profile.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(path, f"is no YAML{line}.", "Write a NAME: VALUE on each line.") from error
    if not isinstance(found or {}, dict) or not all(isinstance(name, str) for name in found or {}):
        raise InputError(path, "does not list parameters.", "Write a NAME: VALUE on each line.")
    return found or {}


def code_digest(notebook: Path) -> str:
    """Digest of the cells' code: a change in texts, comments, layout or docstrings leaves it as it is. Raises
    InputError where the file is no notebook."""
    cells = read_notebook(notebook)["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return text_checksum("\n".join(map(bare_code, sources)))


def bare_code(source: str) -> str:
    """What Python runs of `source`, without comments, layout and docstrings; itself where it is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a cell with an IPython magic
        return source
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def read_notebook(path: Path) -> dict:
    """The notebook as it stands in its file. Raises InputError where it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["cells"] and content["metadata"] is not None:
            return content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(path, "cannot be read as a notebook.", "Take it from the repository.") from error
    raise InputError(path, "holds no cells.", "Take it from the repository.")


def execute(notebook: Path, report: Path, parameters: dict[str, object]) -> Path:
    """Run `notebook` with `parameters`; returns the executed copy in `report`, made with its HTML twin.

    The cells' output is shown as it comes. Raises InputError where a cell fails, leaving
    `<name>.partial.ipynb` to look at.
    """
    from livseg_lib.reporting.folder import notebook_to_html
    from livseg_lib.reporting.report import write_report

    partial, finished = report / f"{notebook.stem}.partial.ipynb", report / notebook.name
    report.mkdir(parents=True, exist_ok=True)
    _run_cells(notebook, partial, parameters)
    notebook_to_html(partial, finished.with_suffix(".html"))
    os.replace(partial, finished)
    write_report(report)
    return finished


def _run_cells(notebook: Path, partial: Path, parameters: dict[str, object]) -> None:
    from livseg_lib.provenance import import_jsonschema
    from livseg_lib.reporting.pictures import HEADLESS

    import_jsonschema()
    import papermill

    os.environ[HEADLESS] = "1"  # the kernel inherits it
    streams = {"stdout_file": sys.stdout, "stderr_file": sys.stderr, "progress_bar": False}
    quietly = ["--IPKernelApp.log_level=50"]  # nothing of loopback sockets, nor of the interrupt that ends it
    kernel = {"kernel_name": "python3", "cwd": str(project_root()), "extra_arguments": quietly}
    try:
        papermill.execute_notebook(str(notebook), str(partial), parameters, **streams, **kernel)
    except papermill.PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from None
        kind = "" if error.ename in EXPECTED_ENDS else f"{error.ename}: "
        problem = f"stopped in cell {error.exec_count}: {kind}{error.evalue}"
        raise InputError(notebook.stem, problem, f"See {partial}.") from None


def main(argv: list[str] | None = None) -> int:
    """Write the parameters of notebooks, for who runs them with papermill alone: papermill NB OUT -f FILE."""
    parser = argparse.ArgumentParser(prog="python -m livseg_lib.notebooks", description=main.__doc__)
    parser.add_argument("--run-name", required=True, help="below reports/; they go into its parameters/")
    configure = parser.add_subparsers(required=True).add_parser("configure")
    configure.add_argument("--profile", type=Path, required=True, help="a YAML file of notebooks/params")
    configure.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    configure.add_argument("notebooks", nargs="+", type=Path)
    args = parser.parse_args(argv)
    every = sorted({*args.notebooks, *args.notebooks[0].parent.glob("*.ipynb")})  # whose the profile is
    chosen = choose_parameters(every, args.profile, {"run_name": args.run_name}, args.set)
    folder = RunFolders(project_root(), args.run_name).report / "parameters"
    for notebook in args.notebooks:
        write_json(folder / f"{notebook.stem}.json", chosen[notebook.stem])
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main, "notebooks"))
