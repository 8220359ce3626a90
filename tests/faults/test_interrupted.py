"""Commands killed at any moment, and two of them at once on one folder: nothing is lost or half done.

`LIVSEG_KILLS=100 pytest -m slow tests/faults/test_interrupted.py` kills that often.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from application.toy_system import toy_voxels, write_toy_nifti
from layouts import write_lits_case
from model_doors import networks
from safetensors import safe_open

REPOSITORY = Path(__file__).parents[2]
LIVSEG = [sys.executable, "-m", "livseg_lib"]
NOTEBOOK = "00_prepare_data"
KILLS = int(os.environ.get("LIVSEG_KILLS", "20"))
SHARES = dict.fromkeys(("check", "evaluate", "train", "report", "export"), 0.1)
SHARES |= {"extract": 0.25, "predict": 0.15}
APP_SHARE = 0.1
KILLS_A_RUN = 4  # then the command is left alone, and must end as if nothing had been
TIMES = {"seconds", "cpu_seconds", "peak_memory_mb", "memory_mb", "finished", "started", "revision", "result"}
TIMES |= {"digest"}  # of a checkpoint, with its epochs' seconds
"""What no two runs share: left out of the comparison, in JSON and in tables."""
NO_RESULT = (".lock", ".log", ".ipynb", ".html", ".v2")  # notebooks, pages and TensorBoard events show times


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Scans with labels, scans alone, a model, and a root with the notebooks."""
    home = tmp_path_factory.mktemp("home")
    for number in range(4):
        write_lits_case(home / "data", number)
        (home / "labels").mkdir(exist_ok=True)
        shutil.copy(home / "data" / f"segmentation-{number}.nii.gz", home / "labels")
    (home / "scans").mkdir()
    for number in range(3):
        write_toy_nifti(home / "scans" / f"scan-{number}.nii.gz", toy_voxels(tumor=number > 0))
    for name, folder in networks().items():
        shutil.copytree(folder, home / name)
    return home


def command(name: str, home: Path, folder: Path) -> list[str]:
    """Words of the command line that writes into `folder`/out."""
    data, labels, out, python = home / "data", home / "labels", folder / "out", sys.executable
    words = {
        "extract": [*LIVSEG, "extract", data, "--out", out, "--size=64", "--workers=2"],
        "check": [*LIVSEG, "check", data, "--out", out, "--workers=2"],
        "evaluate": [*LIVSEG, "evaluate", f"--reference={labels}", f"--prediction={labels}"],
        "train": [python, REPOSITORY / "tests" / "training" / "resumable_run.py", "plateau", out, "-1", "-1"],
        "predict": [*LIVSEG, "predict", home / "scans", "--model", home / "onnx", "--out", out],
        "report": [*LIVSEG, "reproduce", "--run-name=r", "--dataset=lits", f"--data={data}"],
        "export": [*LIVSEG, "export", home / "keras", "--out", out, "--format=onnx"],
    }
    words["evaluate"].append(f"--out={out / 'scores.json'}")
    return [str(word) for word in words[name]]


def start(name: str, home: Path, folder: Path) -> subprocess.Popen:
    """The command in a session of its own."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    environment["LIVSEG_ROOT"] = str(folder)
    if name == "report" and not (folder / "notebooks").exists():  # a repository with one notebook
        (folder / "livseg_lib").symlink_to(REPOSITORY / "livseg_lib")
        (folder / "notebooks" / "params").mkdir(parents=True)
        for file in (f"{NOTEBOOK}.ipynb", "params/quick.yaml"):
            shutil.copy(REPOSITORY / "notebooks" / file, folder / "notebooks" / file)
    with (folder / "said.log").open("a") as log:
        options = {"stdout": log, "stderr": log, "start_new_session": True}
        return subprocess.Popen(command(name, home, folder), cwd=folder, env=environment, **options)


def run_to_the_end(name: str, home: Path, folder: Path) -> None:
    assert start(name, home, folder).wait(timeout=300) == 0, (folder / "said.log").read_text()[-3000:]


def results(folder: Path) -> dict[str, object]:
    """What was written, by name, without times; a partial file would be one more name."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        if path.name.endswith(NO_RESULT) or "notebooks" in path.relative_to(folder).parts:
            continue
        content = path.read_bytes().replace(str(folder).encode(), b"FOLDER")
        if path.suffix == ".json":
            content = _without_times(json.loads(content))
        elif path.suffix == ".csv":
            content = _table_without_times(content.decode())
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
                content = arrays, _without_times(json.loads((file.metadata() or {}).get("record", "0")))
        found[str(path.relative_to(folder))] = content
    return found


def _without_times(value):
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def _table_without_times(text: str) -> str:
    lines = [line.split(",") for line in text.splitlines()]
    kept = [n for n, name in enumerate(lines[0]) if name not in TIMES] if lines else []
    return "\n".join(",".join(line[n] for n in kept if n < len(line)) for line in lines)


def differing(found: dict, expected: dict) -> list[str]:
    """Names of which there is only one, or whose contents differ."""
    return [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]


@pytest.fixture(scope="module")
def undisturbed(home):
    """`undisturbed(name)`: the results of an undisturbed run and its seconds, made once."""
    made = {}

    def of(name: str) -> tuple[dict, float]:
        if name not in made:
            began = time.perf_counter()
            run_to_the_end(name, home, home / f"whole {name}")
            made[name] = results(home / f"whole {name}"), time.perf_counter() - began
        return made[name]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARES)
def test_killed_at_any_moment_and_started_again_all_is_as_if_nothing_had_been(
    name, home, undisturbed, tmp_path
):
    expected, seconds = undisturbed(name)
    draw, kills = random.Random(name), max(1, round(KILLS * SHARES[name]))
    for kill in range(kills):
        folder = tmp_path / f"run {kill // KILLS_A_RUN}"
        running = start(name, home, folder)
        time.sleep(draw.uniform(0.2, 1.0) * seconds)
        family = psutil.Process(running.pid).children(recursive=True) if running.poll() is None else []
        running.kill()
        running.wait()
        _, orphans = psutil.wait_procs(family, timeout=15)
        for orphan in orphans:
            orphan.kill()
        assert not orphans, f"kill {kill}: {orphans}"
        if kill == kills - 1 or kill % KILLS_A_RUN == KILLS_A_RUN - 1:
            run_to_the_end(name, home, folder)
            assert differing(results(folder), expected) == [], f"after kill {kill}"
            shutil.rmtree(folder)
    print(name, kills, "kills")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARES)
def test_of_two_at_once_the_second_waits_or_refuses_and_nothing_is_lost(name, home, undisturbed, tmp_path):
    expected, _ = undisturbed(name)
    folder = tmp_path / "both"
    twins = [start(name, home, folder), start(name, home, folder)]
    codes = [twin.wait(timeout=300) for twin in twins]
    said = (folder / "said.log").read_text()
    assert set(codes) <= {0, 2} and 0 in codes and "Traceback" not in said, f"{codes} {said[-3000:]}"
    assert differing(results(folder), expected) == []


SECRET = b"of a visitor " * 99


@pytest.mark.slow
def test_a_killed_app_leaves_nothing_of_its_visitors_to_the_next(tmp_path):
    httpx = pytest.importorskip("httpx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    port, draw = address.rpartition(":")[2], random.Random("app")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    for _ in range(1 + max(1, round(KILLS * APP_SHARE))):
        words = [*LIVSEG, "app", "--reports", str(tmp_path / "reports"), "--port", port]
        options = {"stdout": subprocess.DEVNULL, "start_new_session": True}
        app = subprocess.Popen(words, cwd=tmp_path, env=environment, **options)
        try:
            _wait_for(httpx, address)
            assert not _secrets(tmp_path)
            files = {"files": ("scan.nii", SECRET)}
            httpx.post(f"{address}/gradio_api/upload", files=files).raise_for_status()
            assert _secrets(tmp_path)
            time.sleep(draw.uniform(0, 1))
        finally:
            app.kill()
            app.wait()


def _wait_for(httpx, address: str) -> None:
    for _ in range(600):
        try:
            return httpx.get(address).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError(address)


def _secrets(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and SECRET in path.read_bytes()]
