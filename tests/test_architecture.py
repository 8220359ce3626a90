"""The house: rooms import only from rooms above them, scores need no TensorFlow, and its pages are true.

`python tests/test_architecture.py` writes docs/architecture.md anew.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "livseg_lib"
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(LIBRARY.rglob("*.py"))}
TREES = {path: ast.parse(source) for path, source in SOURCES.items()}
ROOMS = [
    ("errors", "labels", "files", "storage", "provenance", "processes", "backend", "systems"),
    ("nifti", "outputs"),
    ("volumes", "runs", "shelf"),
    *((room,) for room in ("datasets", "preprocessing", "sampling", "postprocessing", "evaluation")),
    *((room,) for room in ("models", "training", "inference", "reporting", "studies", "application")),
    *((room,) for room in ("notebooks", "runner", "commands", "cli")),
    ("__init__", "__main__"),
]
"""From the top down; rooms of one row stand side by side and may use each other."""

LEVEL = {room: level for level, row in enumerate(ROOMS) for room in row}
WITHOUT_TENSORFLOW = {"volumes", "datasets", "preprocessing", "postprocessing", "evaluation", "reporting"}
WITHOUT_TENSORFLOW |= {"application", "cli"}
OUTSIDE = ("notebooks", "runner", "commands", "cli", "__init__", "__main__")
BOX = {room: "commands" if room in OUTSIDE else "ground" for room in LEVEL}
BOX |= {room: room for room in LEVEL if (LIBRARY / room).is_dir()}
"""In which box of the picture each room stands."""


def room_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in modules if name.startswith("livseg_lib.")} & set(LEVEL)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_every_module_has_a_room_and_imports_only_from_above(path):
    room = room_of(path)
    assert room in LEVEL, f"{room} has no place in the list of rooms"
    assert not {other for other in imported_rooms(path) if LEVEL[other] > LEVEL[room]}


def test_only_the_augmentation_knows_imgaug():
    users = [path.name for path, text in SOURCES.items() if "import imgaug" in text]
    assert users == ["augmentation.py"]


def test_rooms_that_score_and_report_load_no_tensorflow():
    files = [path.relative_to(LIBRARY.parent) for path in SOURCES if room_of(path) in WITHOUT_TENSORFLOW]
    modules = [".".join(path.with_suffix("").parts) for path in files if not path.name.startswith("_")]
    program = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    program += "    assert not {'tensorflow', 'keras'} & set(sys.modules), name"
    found = subprocess.run([sys.executable, "-c", program, *modules], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def is_leaf(path: Path) -> bool:
    """An entry of a registry: an architecture, a data set's layout, or a package's first page."""
    return path.name.startswith("__") or path.parent.name == "models" or "\nLOOKS_FOR = " in SOURCES[path]


def test_a_topic_is_one_module_of_60_to_450_lines():
    lengths = {path: len(text.splitlines()) for path, text in SOURCES.items()}
    fewest = {path: 0 if is_leaf(path) else 60 for path in lengths}
    assert {path.name: n for path, n in lengths.items() if not fewest[path] <= n <= 450} == {}


REGISTRY_NAMES = {"find", "recognises", "LOOKS_FOR", "main"}
"""Every data set's layout has its own; every program starts by `main`."""


def test_no_public_name_has_two_meanings():
    homes = defaultdict(set)
    for path, tree in TREES.items():
        for node in tree.body:  # an assignment, with or without a type, a function or a class
            for named in getattr(node, "targets", [getattr(node, "target", node)]):
                name = getattr(named, "id", getattr(named, "name", "_"))
                if not name.startswith("_") and name not in REGISTRY_NAMES:
                    homes[name].add(str(path.relative_to(LIBRARY)))
    assert len(homes) > 500 and {name: places for name, places in homes.items() if len(places) > 1} == {}


def arrows() -> set[tuple[str, str]]:
    """(room, room that it builds on), without those that others say already."""
    found = defaultdict(set)
    for path in SOURCES:
        found[BOX[room_of(path)]] |= {BOX[room] for room in imported_rooms(path)} - {BOX[room_of(path)]}

    def reached(room: str) -> set[str]:
        return found[room].union(*(reached(other) for other in found[room])) if found[room] else set()

    return {
        (room, other)
        for room in list(found)
        for other in found[room]
        if not any(other in reached(between) for between in found[room] - {other})
    }


def architecture_page() -> str:
    """docs/architecture.md: the rooms as a picture, and every module by the first line of its docstring."""
    picture = [f"    {other} --> {room}" for room, other in sorted(arrows(), key=lambda pair: pair[::-1])]
    lines = ["# Every module", ""]
    lines += ["A room (a package) builds on those that point to it, and on all that these build on."]
    lines += ["", "```mermaid", "flowchart TD", *picture, "```", ""]
    for name in dict.fromkeys(BOX.values()):
        lines += [f"## {name}", "", "| module | |", "| --- | --- |"]
        for path in SOURCES:
            if BOX[room_of(path)] == name:
                first = ast.get_docstring(TREES[path]).splitlines()[0].replace("|", "\\|")
                lines.append(f"| `{path.relative_to(LIBRARY)}` | {first} |")
        lines.append("")
    return "\n".join(lines)


ARCHITECTURE = LIBRARY.parent / "docs" / "architecture.md"


def test_the_page_and_picture_of_the_house_are_those_of_the_code():
    assert ARCHITECTURE.read_text() == architecture_page(), "write it: python tests/test_architecture.py"


def test_the_readme_names_every_room_and_notebook():
    story, tree = (LIBRARY.parent / "README.md").read_text().split("\nlivseg_lib/")
    notebooks = sorted(path.stem for path in (LIBRARY.parent / "notebooks").glob("*.ipynb"))
    assert re.findall(r"^  (\d\d_\w+) ", story, re.MULTILINE) == notebooks
    tree = tree.split("\ndocs/")[0]
    entries = re.findall(r"^  (\S+(?: \S+)*)", tree, re.MULTILINE)
    named = [name.removesuffix("/").removesuffix(".py") for entry in entries for name in entry.split()]
    assert sorted(named) == sorted(room for room in LEVEL if not room.startswith("__"))


RELIED_ON = {
    "livseg_lib.evaluation": {
        "detect_lesions": ("prediction", "reference", "overlap", "mode"),
        "score_case": ("prediction", "reference", "spacing_mm"),
    },
    "livseg_lib.models": {"build_model": ("name", "input_shape", "num_classes", "options")},
    "livseg_lib.volumes": {
        "load_volume": ("path",),
        "load_segmentation": ("path", "like"),
        "save_segmentation": ("labels", "like", "path"),
    },
}
"""What programs of others call, with its arguments: none of it goes, though nobody here may call it."""


def test_what_others_rely_on_is_there():
    for module, functions in RELIED_ON.items():
        for name, arguments in functions.items():
            found = tuple(signature(getattr(import_module(module), name)).parameters)
            assert found[: len(arguments)] == arguments, name
    assert "unet" in import_module("livseg_lib.models").MODELS


POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {"SIGHUP", "SIGKILL", "SIGALRM", "fork", "killpg", "getpgid", "setsid", "getuid", "geteuid"}
POSIX_NAMES |= {"mkfifo", "symlink", "symlink_to", "sched_getaffinity", "getloadavg", "uname", "sysconf"}


def test_modules_can_be_imported_where_there_is_no_posix():
    """An import in a function stands behind a look at the platform; JSON is UTF-8 whatever the locale."""
    for path, tree in TREES.items():
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {getattr(node, "module", None) or alias.name for node in imports for alias in node.names}
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not {name.split(".")[0] for name in modules} & POSIX_MODULES, path
        assert not used & POSIX_NAMES, path
        assert not re.search(r"json\.loads\(.*read_text\(\)", SOURCES[path]), path


def test_nothing_is_unpickled():
    for path, text in SOURCES.items():
        assert "import pickle" not in text and "joblib" not in text and "Lambda(" not in text, path
        loads = [line for line in text.splitlines() if "np.load(" in line and "np.load(..." not in line]
        assert all("allow_pickle=False" in line for line in loads), path


if __name__ == "__main__":
    ARCHITECTURE.write_text(architecture_page())
