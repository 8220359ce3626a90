"""`make bench`: livseg beside the programs that people would take instead, in one run on one machine.

    make bench                                   all works below
    make bench ONLY=reading ROUNDS=9             one of them (several: ONLY="reading scores")
    make bench ONLY=board DATA=lits_slices MINUTES="2 5"   Dice by minutes of training (bench_board.py)
    make bench ONLY=recipe DATA=lits_slices MINUTES=2      what each part of its recipe is worth
    make bench ONLY=readme                       README's table from reports/bench/table.csv
    make bench ONLY=scale                        the tables of docs/scale.md from reports/bench/growth.csv

Peers run in an environment of their own, .venv-bench, which the first run makes. Every contender is a process
of its own; they take turns, so that a drift of the machine hits all alike. Never a test: machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import bench_board
import bench_ours
import bench_page
import bench_peers
import cv2
import nibabel
import numpy as np
import pandas as pd
import psutil

from livseg_lib.datasets.phantom.writing import write_phantom
from livseg_lib.files import write_json
from livseg_lib.outputs import read_table, write_table
from livseg_lib.preprocessing.windows import LIVER_WINDOWS, WINDOWS
from livseg_lib.provenance import library_versions
from livseg_lib.runner import ENVIRONMENT
from livseg_lib.runs import git_revision, project_root
from livseg_lib.volumes import load_segmentation, load_volume

ROOT = project_root()
OUT = ROOT / "reports" / "bench"
PEERS = ROOT / ".venv-bench"
PYTHONPATH = {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
REQUIREMENTS = Path(__file__).with_name("bench_requirements.txt")
WARM_SECONDS = 10.0  # a first run that takes longer counts: warming up is little of it
MOST_SECONDS = 600.0
"""Of one contender: a run that takes longer is ended and said so; with as much behind it, it runs no more."""


def set_up_peers() -> dict[str, str]:
    """Make .venv-bench, package by package. Gives requirement -> why it cannot be had."""
    python, notes = PEERS / "bin" / "python", PEERS / "bench.json"
    known = json.loads(notes.read_text()) if notes.exists() else {}
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
    for line in REQUIREMENTS.read_text().splitlines():
        words = line.split("#")[0].split()
        if not words or known.get(words[0]) == "":
            continue
        print("installing", words[0], flush=True)
        install = [python, "-m", "pip", "install", "--quiet", *words]
        tried = subprocess.run(install, text=True, stderr=subprocess.PIPE)
        errors = [each for each in tried.stderr.splitlines() if "error" in each.lower()]
        known[words[0]] = (errors or ["failed"])[-1].strip() if tried.returncode else ""
        write_json(notes, known)
    return {name: error for name, error in known.items() if error}


def environment(threads: int, tuned: bool = True) -> dict[str, str]:
    """Of all contenders: so many threads, no GPU; `tuned`: memory as livseg's own trainings keep it."""
    counts = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    plain = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    quiet = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "NO_ALBUMENTATIONS_UPDATE": "1"}
    quiet["TF_ENABLE_ONEDNN_OPTS"] = "1"  # as livseg sets it, for the others on TensorFlow, too
    # A thread that waits for another sleeps; else PyTorch's spin, and burn ten times the processor time on a
    # machine that has other work.
    quiet["OMP_WAIT_POLICY"] = "PASSIVE"
    return plain | dict.fromkeys(counts, str(threads)) | quiet | (ENVIRONMENT if tuned else {})


def prepare_scan(folder: Path, slices: int = 120, size: int = 512, count: int = 1) -> None:
    """A phantom enlarged to the size of a hospital's scan, with as much noise: volume-N, segmentation-N.

    From the fifth on the patients come again, with other noise.
    """
    write_phantom(folder / "phantom", min(count, 4), workers=1)
    for number in range(count):
        small = load_volume(folder / "phantom" / f"volume-{number % 4}.nii.gz")
        labels = load_segmentation(folder / "phantom" / f"segmentation-{number % 4}.nii.gz", small)
        rows, rng = np.linspace(0, len(labels) - 1, slices).round().astype(int), np.random.default_rng(number)
        voxels, marked = np.empty((slices, size, size), np.int16), np.empty((slices, size, size), np.uint8)
        for k, row in enumerate(rows):
            noise = cv2.GaussianBlur(rng.normal(0, 30, (size, size)), (0, 0), 0.7)
            enlarged = cv2.resize(small.voxels[row].astype(np.float32), (size, size))
            voxels[k] = np.where(enlarged > -950, enlarged + noise, enlarged)
            marked[k] = cv2.resize(labels[row], (size, size), interpolation=cv2.INTER_NEAREST)
        _write_nifti(folder / f"volume-{number}.nii.gz", voxels)
        _write_nifti(folder / f"segmentation-{number}.nii.gz", marked)
    shutil.rmtree(folder / "phantom")  # livseg would extract it, too, and others not
    write_json(folder / "scan.json", {"slices": slices})


def _write_nifti(path: Path, array: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array.T, np.diag([-0.75, -0.75, 2.5, 1.0])), path)


def prepare_extraction(folder: Path, slices: int = 60, size: int = 512, count: int = 4) -> None:
    prepare_scan(folder, slices, size, count)
    windows = [WINDOWS[name][1:] for name in LIVER_WINDOWS]
    write_json(folder / "extraction.json", {"size": size // 2, "windows": windows})


def prepare_pictures(folder: Path, count: int = 200, size: int = 256) -> None:
    """Slices of a phantom as a training holds them: images.npy and masks.npy."""
    write_phantom(folder / "phantom", 1, workers=1)
    volume = load_volume(folder / "phantom" / "volume-0.nii.gz")
    labels = load_segmentation(folder / "phantom" / "segmentation-0.nii.gz", volume)
    rows = np.arange(count) % len(labels)
    greys = ((volume.voxels.clip(-100, 200) + 100) * 0.85).astype(np.uint8)
    grown = [cv2.resize(greys[row], (size, size)) for row in rows]
    np.save(folder / "images.npy", np.stack([np.stack(grown)] * 3, axis=-1))
    marked = [cv2.resize(labels[row], (size, size), interpolation=cv2.INTER_NEAREST) for row in rows]
    np.save(folder / "masks.npy", np.stack(marked))


def prepare_folder(folder: Path, pictures=24, scans=3, slices=120, size=512) -> None:
    """A folder of pictures and one of scans."""
    prepare_scan(folder / "scans", slices, size, scans)
    prepare_pictures(folder, pictures, size // 2)
    (folder / "pictures").mkdir()
    for k, picture in enumerate(np.load(folder / "images.npy")):
        cv2.imwrite(str(folder / "pictures" / f"patient{k}.png"), picture)
    for path in (folder / "scans").glob("seg*"):
        path.unlink()


def prepare_masks(folder: Path, slices: int = 450, size: int = 512, lesions: int = 30) -> None:
    """A liver as large as one is, lesions in it, and a prediction that is a little off and misses a tenth."""
    reference = np.zeros((slices, size, size), np.uint8)
    grid = np.ogrid[tuple(slice(-1, 1, side * 1j) for side in reference.shape)]
    shapes = [
        sum(((g - at) / r) ** 2 for g, r, at in zip(grid, radii, (0, -0.1, 0.2), strict=True)) <= 1
        for radii in ((0.4, 0.4, 0.5), (0.39, 0.41, 0.49))
    ]
    prediction = shapes[1].astype(np.uint8)
    reference[shapes[0]] = 1
    rng, around = np.random.default_rng(0), 2 if lesions < 100 else 0
    side = max(1, round(size / 50)) if lesions < 100 else 2
    inside = np.argwhere(reference[::4, ::4, ::4] & prediction[::4, ::4, ::4]) * 4
    for number, place in enumerate(inside[rng.permutation(len(inside))[:lesions]]):
        box = tuple(slice(start, start + side) for start in place)
        reference[box] = 2
        if number % 10:
            prediction[tuple(slice(start + around, start + around + side) for start in place)] = 2
    np.save(folder / "reference.npy", reference)
    np.save(folder / "prediction.npy", prediction)
    write_json(folder / "scan.json", {"spacing_mm": [1.0, 0.75, 0.75]})


@dataclass(frozen=True)
class Work:
    """What contenders are asked to do; those of its name in bench_ours.py and bench_peers.py do it."""

    title: str
    prepare: Callable[..., None] = lambda folder: None  # writes what they need into a folder
    short: dict = field(default_factory=dict)  # options of `prepare` with which it is done in no time
    agree: bool = False  # whether all have to give the same numbers
    tuned: bool = True  # whether memory is kept as in trainings; commands start as a user starts them


SCAN, SMALL = "a scan of 512 x 512 x 120", {"slices": 8, "size": 64}
SCANS, PICTURES = SMALL | {"count": 2}, {"count": 40, "size": 64}
WORKS = {
    "reading": Work(f"{SCAN} from .nii.gz to int16 (D, H, W)", prepare_scan, SMALL, agree=True),
    "extraction": Work(
        "4 scans of 512 x 512 x 60 to windowed pictures, masks, arrays", prepare_extraction, SCANS
    ),
    "batches": Work("200 pictures of 256 x 256 x 3 for batches, augmented", prepare_pictures, PICTURES),
    "training": Work("5 steps on 8 pictures of 128 x 128, networks of 2 million parameters"),
    "scan": Work(f"{SCAN} from file to mask, start of Python included", prepare_scan, SMALL, tuned=False),
    "folder": Work(
        "folders of 24 pictures and of 3 scans of 512 x 512 x 120, from files to masks and pages",
        prepare_folder,
        SMALL | {"pictures": 2, "scans": 1},
        tuned=False,
    ),
    "scores": Work(
        "scores of a case of 512 x 512 x 450 with 30 lesions, as the LiTS benchmark",
        prepare_masks,
        SMALL | {"lesions": 2},
        agree=True,
    ),
    "start": Work("a command started", tuned=False),
}


class Contender:
    """A process that does one work again and again."""

    def __init__(self, script: Path, python: Path, words: Iterable, variables: dict[str, str]) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process lives)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors, "text": True}
        self.process = subprocess.Popen([python, script, *map(str, words)], env=variables, **pipes)
        self.runs: list[dict] = []
        self.error = ""
        if (first := self._answer()) and first["seconds"] > WARM_SECONDS:
            self.runs.append(first)

    def run(self) -> None:
        """Once more, if it works and is not too slow for that."""
        if not self.error and sum(run["seconds"] for run in self.runs) < MOST_SECONDS:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            if answer := self._answer():
                self.runs.append(answer)

    def end(self) -> None:
        """Close its input, which ends it."""
        self.process.communicate()
        self.errors.close()

    def _answer(self) -> dict | None:
        too_long = threading.Timer(MOST_SECONDS, self.process.kill)
        too_long.start()
        line, in_time = self.process.stdout.readline(), too_long.is_alive()
        too_long.cancel()
        if line:
            return json.loads(line)
        self.process.wait()
        if not in_time:
            self.error = f"not done after {MOST_SECONDS:g} s"
            return None
        self.errors.seek(0)
        said = [line for line in self.errors.read().splitlines() if line.strip()] or ["no word"]
        self.error = f"failed: {said[-1].strip()[:200]}"
        return None


def race(work: str, folders: dict[str, Path], rounds: int, threads: int, tuned: bool) -> dict[str, Contender]:
    """Contenders of `work`, each with its folder, taking turns; those named as in CONTENDERS or NAME@what."""
    variables = environment(threads, tuned)
    peers = Path(bench_peers.__file__), PEERS / "bin" / "python", variables
    ours = Path(bench_ours.__file__), Path(sys.executable), variables | PYTHONPATH
    racing = {}
    with ExitStack() as ending:
        for label, folder in folders.items():
            name = label.split("@")[0]
            script, python, given = ours if name in bench_ours.CONTENDERS[work] else peers
            racing[label] = Contender(script, python, (work, name, folder), given)
            ending.callback(racing[label].end)
        for _ in range(rounds):
            for each in racing.values():
                if len(each.runs) < rounds:
                    each.run()
    return racing


def bench(name: str, rounds: int, threads: int, with_peers: bool, short: bool) -> pd.DataFrame:
    """One work: a row a contender."""
    work = WORKS[name]
    names = [*bench_ours.CONTENDERS[name], *(bench_peers.CONTENDERS.get(name, {}) if with_peers else {})]
    with tempfile.TemporaryDirectory() as temporary:
        work.prepare(Path(temporary), **(work.short if short else {}))
        began, busy = time.monotonic(), _busy_seconds()
        racing = race(name, dict.fromkeys(names, Path(temporary)), rounds, threads, work.tuned)
        elapsed, busy = time.monotonic() - began, _busy_seconds() - busy
    first = racing[names[0]]
    rows = []
    for label, each in racing.items():
        role = "livseg" if label in bench_ours.CONTENDERS[name] else "peer"
        role = "floor" if label.startswith(bench_ours.FLOOR) else role
        row = {"work": name, "title": work.title, "contender": label, "role": role}
        rows.append(row | summary(each, first, work.agree and role != "floor"))
    used = sum(run["cpu_seconds"] for each in racing.values() for run in each.runs)
    facts = {"cores_busy_otherwise": max(0.0, busy - used) / elapsed, "day": time.strftime("%Y-%m-%d")}
    return pd.DataFrame(rows).assign(**facts)


def summary(each: Contender, first: Contender, agree: bool) -> dict:
    """Medians with least and most, seconds as multiples of the first's in the same round, a remark."""
    row = {"rounds": len(each.runs), "remark": each.error}
    for key in ("seconds", "cpu_seconds", "peak_memory_mb"):
        row |= _middle(key, [run[key] for run in each.runs])
    pairs = [*zip(each.runs, first.runs, strict=False)]
    for name, key in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
        row |= _middle(name, [run[key] / max(other[key], 1e-6) for run, other in pairs])
    answers = [contender.runs[-1]["answer"] if contender.runs else None for contender in (each, first)]
    if agree and None not in answers and not np.allclose(*answers, rtol=1e-4):
        row["remark"] = f"gives other numbers: {answers[0]}"
    elif answers[0] and len(answers[0]) == 1:
        row["remark"] = f"{answers[0][0] / 1e6:.2f} M parameters"
    return row


def _middle(name: str, values: list[float]) -> dict[str, float]:
    values = values or [np.nan]
    return {name: statistics.median(values), f"{name}_low": min(values), f"{name}_high": max(values)}


def _busy_seconds() -> float:
    """Of all processors since the machine started."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


@dataclass(frozen=True)
class Growth:
    """A work at several sizes."""

    title: str
    what: str  # the contender of bench_ours
    sizes: tuple[int, ...]
    prepare: Callable[[Path, int], None]


def prepare_case(folder: Path, slices: int) -> None:
    """scans/ with one scan of 512 x 512 pixels and its labels, and nothing else."""
    prepare_scan(folder / "scans", slices)
    (folder / "scans" / "scan.json").unlink()


def prepare_names(folder: Path, count: int) -> None:
    """As many files as so many cases have, with nothing in them."""
    for number in range(count):
        for name in ("volume", "segmentation"):
            (folder / f"{name}-{number}.nii.gz").touch()


GROWTHS = (
    Growth("volumes extracted", "extraction", (1, 4, 16, 64), lambda f, n: prepare_extraction(f, 24, 128, n)),
    Growth("pixels a side, squared", "reading", (128, 256, 512), lambda f, n: prepare_scan(f, 60, n)),
    Growth("slices read", "reading", (1, 10, 100, 1000), lambda f, n: prepare_scan(f, n, 128)),
    Growth("slices scored", "scores", (10, 100, 1000), lambda f, n: prepare_masks(f, n, 128, 8)),
    Growth("lesions scored", "scores", (1, 10, 100, 1000, 10000), lambda f, n: prepare_masks(f, 128, 256, n)),
    *(Growth(f"slices, livseg {name}", name, (10, 40, 160), prepare_case) for name in bench_ours.COMMANDS),
    Growth("cases found and paired", "pairing", (100, 1000, 10000), prepare_names),
    Growth("cases shared out", "sharing", (100, 1000, 10000), prepare_names),
    Growth("cases listed", "listing", (100, 1000), prepare_names),
)


def measure_growth(rounds: int, threads: int, short: bool) -> pd.DataFrame:
    """A row a size and kind of growth, with the fitted exponents of processor seconds and memory.

    And what it wrote into out/, if anything. By the clock other programs on the machine would count, too.
    """
    tables = []
    for growth in GROWTHS:
        sizes = growth.sizes[:2] if short else growth.sizes
        with tempfile.TemporaryDirectory() as temporary:
            folders = {f"{growth.what}@{size}": Path(temporary) / str(size) for size in sizes}
            for size, folder in zip(sizes, folders.values(), strict=True):
                folder.mkdir()
                growth.prepare(folder, size)
            racing = race("growth", folders, rounds, threads, True)
            written = []
            for folder in folders.values():
                sizes_of = [path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file()]
                written.append((len(sizes_of), sum(sizes_of) / 1e6))
        table = pd.DataFrame({"growth": growth.title, "size": sizes})
        if "squared" in growth.title:
            table["size"] **= 2
        for key in ("seconds", "cpu_seconds", "peak_memory_mb"):
            table[key] = [statistics.median(run[key] for run in each.runs) for each in racing.values()]
        table["files"], table["written_mb"] = zip(*written, strict=True)
        for name, key in (("time_exponent", "cpu_seconds"), ("memory_exponent", "peak_memory_mb")):
            table[name] = np.polyfit(np.log(table["size"]), np.log(table[key]), 1)[0]
        print(table.to_string(index=False), flush=True)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", told.read_text()) if told.exists() else []
    return names[0] if names else platform.processor()


def machine(threads: int, missing: dict[str, str]) -> dict:
    """What a reader has to know of where the numbers are from."""
    pip = [PEERS / "bin" / "pip", "list", "--format", "json"]
    there = subprocess.run(pip, text=True, capture_output=True).stdout if PEERS.exists() else ""
    wanted = re.findall(r"^([\w-]+)==", REQUIREMENTS.read_text(), re.MULTILINE)
    found = {each["name"].lower(): each["version"] for each in json.loads(there or "[]")}
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "livseg": git_revision(),
        "libraries": library_versions("tensorflow", "keras", "numpy", "nibabel", "isal", "onnxruntime"),
        "peers": {name: found[name.lower()] for name in wanted if name.lower() in found},
        "could_not_be_had": missing,
    }


def main(argv: list[str] | None = None) -> None:
    """Do what was asked for and write reports/bench."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    known = (*WORKS, "growth", "scale", "board", "recipe", "readme")
    parser.add_argument("--only", default="", help=f"of {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count()))
    parser.add_argument("--data", help="slices in the Kaggle layout, for the board")
    parser.add_argument("--minutes", default="2 5 10", help="marks of the board")
    parser.add_argument("--short", action="store_true", help="tiny inputs: that it works, not how fast")
    parser.add_argument("--no-peers", action="store_true", help="livseg and the floors alone")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(argv)
    chosen = asked.only.split() or [*WORKS, "growth", *(["board"] if asked.data else [])]
    if unknown := set(chosen) - {*known}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if chosen == ["readme"]:
        return bench_page.write_readme(ROOT / "README.md", asked.out)
    if chosen == ["scale"]:
        return bench_page.write_scale(ROOT / "docs" / "scale.md", asked.out)
    missing = {} if asked.no_peers or chosen == ["recipe"] else set_up_peers()
    asked.out.mkdir(parents=True, exist_ok=True)
    write_json(asked.out / "machine.json", machine(asked.threads, missing))
    for name in chosen:
        print(f"{name} ...", flush=True)
        if name in ("board", "recipe"):
            if not asked.data:
                parser.error(f"the {name} needs --data (make bench ONLY={name} DATA=folder)")
            with tempfile.TemporaryDirectory() as temporary:
                data, minutes = Path(asked.data).expanduser(), [*map(float, asked.minutes.split())]
                variables, made_by = environment(asked.threads), f"{git_revision()[:7]} on {_processor()}"
                python = PEERS / "bin" / "python"
                where = (Path(temporary), python, variables | PYTHONPATH, asked.out, made_by)
                peers = () if asked.no_peers or name == "recipe" else bench_board.NETWORKS
                ours = bench_board.without_parts() if name == "recipe" else {bench_board.OURS: {}}
                bench_board.run_board(data, minutes, *where, peers, ours, name)
        elif name == "growth":
            write_table(measure_growth(asked.rounds, asked.threads, asked.short), asked.out / "growth.csv")
        else:
            path = asked.out / "table.csv"
            rows = bench(name, asked.rounds, asked.threads, not asked.no_peers, asked.short)
            shown = rows[["contender", "seconds", "cpu_seconds", "ratio", "remark"]]
            print(shown.to_string(index=False), flush=True)
            before = read_table(path).query("work != @name") if path.exists() else rows.iloc[:0]
            table = pd.concat([before, rows], ignore_index=True)
            write_table(table.loc[table.work.map([*WORKS].index).sort_values(kind="stable").index], path)
        bench_page.write_report(asked.out)


if __name__ == "__main__":
    main()
