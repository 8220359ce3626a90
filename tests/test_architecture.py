"""The house: rooms import only from rooms above them, and scores need no TensorFlow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "livseg_lib"
ROOMS = [
    ("errors", "labels", "files", "provenance", "processes", "descriptions", "systems"),
    ("nifti", "tables", "figures"),
    ("volumes", "runs"),
    ("datasets",),
    ("preprocessing",),
    ("sampling",),
    ("postprocessing",),
    ("evaluation",),
    ("models",),
    ("training",),
    ("inference",),
    ("reporting",),
    ("studies",),
    ("application",),
    ("notebooks",),
    ("runner",),
    ("commands",),
    ("cli",),
    ("__init__", "__main__"),
]
"""From the top down; rooms of one row stand side by side and may use each other."""

LEVEL = {room: level for level, row in enumerate(ROOMS) for room in row}
WITHOUT_TENSORFLOW = [
    "volumes",
    "datasets",
    "preprocessing",
    "postprocessing",
    "evaluation",
    "reporting",
    "application",
    "cli",
]


def room_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in modules if name.startswith("livseg_lib.")} & set(LEVEL)


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_every_module_has_a_room_and_imports_only_from_above(path):
    room = room_of(path)
    assert room in LEVEL, f"{room} has no place in the list of rooms"
    below = {other for other in imported_rooms(path) if LEVEL[other] > LEVEL[room]}
    assert not below


def test_only_the_augmentation_knows_imgaug():
    users = [path.name for path in LIBRARY.rglob("*.py") if "import imgaug" in path.read_text()]
    assert users == ["augmentation.py"]


@pytest.mark.parametrize("room", WITHOUT_TENSORFLOW)
def test_rooms_that_score_and_report_load_no_tensorflow(room):
    files = [path for path in LIBRARY.rglob("*.py") if room_of(path) == room and path.stem != "__init__"]
    modules = [".".join(("livseg_lib", *path.relative_to(LIBRARY).with_suffix("").parts)) for path in files]
    program = f"import sys, {', '.join(modules)}; assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_modules_hold_one_idea_each():
    long = {p.name: n for p in LIBRARY.rglob("*.py") if (n := len(p.read_text().splitlines())) > 450}
    assert not long


def test_nothing_is_unpickled():
    for path in LIBRARY.rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text and "joblib" not in text and "Lambda(" not in text, path
        loads = [line for line in text.splitlines() if "np.load(" in line and "np.load(..." not in line]
        assert all("allow_pickle=False" in line for line in loads), path
