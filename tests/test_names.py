"""Every module, name and path of ours that a docstring, a comment or a page mentions is there."""

import ast
import json
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "livseg_lib"
CODE = sorted([*LIBRARY.rglob("*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("notebooks/*.ipynb")])
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
OURS = {path.stem for path in LIBRARY.rglob("*") if path.is_dir() or path.suffix == ".py"} | {"livseg_lib"}
ROOMS = OURS | {"notebooks", "tests", "docs"}

QUOTED = re.compile(r"`(\w*_\w*)`")
DOTTED = re.compile(r"`((?:\w+\.)+\w+)[`(]|\b(livseg_lib(?:\.\w+)+)")
FILE_ENDING = re.compile(r"\.(py|ipynb|csv|json|md|npy|yaml)$")
PLACE = re.compile(r"\b([a-z_]+/[\w/.+-]*\.(?:py|ipynb|md|yaml))\b")
EXAMPLES = {"livseg_lib/datasets/patient_folders.py", "livseg_lib/models/linknet.py"}
"""Files that a reader of docs/ writes."""


@cache
def parts(path: Path) -> tuple[str, str, frozenset[str]]:
    """(docstrings, comments and the text of pages; the code, its tokens apart; the words of the code)."""
    prose, code = [], []
    if path.suffix == ".md":
        prose = [path.read_text()]
    elif path.suffix == ".ipynb":
        for cell in json.loads(path.read_text())["cells"]:
            (code if cell["cell_type"] == "code" else prose).append("".join(cell["source"]))
    else:
        nodes = ast.walk(ast.parse(path.read_text()))
        standing = [node.value for node in nodes if isinstance(node, ast.Expr)]
        starts = {(node.lineno, node.col_offset) for node in standing if isinstance(node, ast.Constant)}
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                is_prose = token.type == tokenize.COMMENT or token.start in starts
                (prose if is_prose else code).append(token.string)
    return "\n".join(prose), " ".join(code), frozenset(re.findall(r"\w+", " ".join(code)))


def leads_somewhere(dotted: str) -> bool:
    """Whether `room.module.name` is found below livseg_lib; the first rooms may be left out."""
    first, *rest = dotted.removeprefix("livseg_lib.").split(".")
    for place in [*LIBRARY.rglob(first), *LIBRARY.rglob(f"{first}.py")]:
        names = list(rest)
        while names and (place / names[0]).is_dir():
            place /= names.pop(0)
        if names and (place / f"{names[0]}.py").is_file():
            place /= f"{names.pop(0)}.py"
        module = place / "__init__.py" if place.is_dir() else place
        if not names or (module.is_file() and parts(module)[2].issuperset(names)):
            return True
    return False


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_mentioned_exists(path):
    prose, code, _ = parts(path)
    dotted = {quoted or plain for quoted, plain in DOTTED.findall(prose)}
    missing = [
        name
        for name in dotted
        if name.split(".")[0] in OURS and not FILE_ENDING.search(name) and not leads_somewhere(name)
        if " . ".join(name.split(".")) not in code  # a variable and its attribute
    ]
    places = {place for place in PLACE.findall(prose) if place.split("/")[0] in ROOMS} - EXAMPLES
    roots = (ROOT, LIBRARY, path.parent)
    missing += [name for name in places if not any((root / name).exists() for root in roots)]
    missing += [name for name in QUOTED.findall(prose) if not any(name in parts(each)[2] for each in CODE)]
    assert not missing


def test_what_does_not_exist_is_noticed():
    assert leads_somewhere("statistics.verdict") and leads_somewhere("livseg_lib.models.build_model")
    assert not leads_somewhere("evaluation.statistic") and not leads_somewhere("statistics.verdicts")
