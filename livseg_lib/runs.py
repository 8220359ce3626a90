"""One run: where it keeps what it makes, packages that a platform lacks, the manifest of what was done.

On Colab and Kaggle, packages are installed without their dependencies: notebooks there break when NumPy or
TensorFlow is replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from livseg_lib.backend import BACKENDS, gpus
from livseg_lib.errors import InputError
from livseg_lib.files import locked, write_json
from livseg_lib.outputs import read_table, save_figure, write_table
from livseg_lib.processes import keep_freed_memory
from livseg_lib.provenance import library_versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def project_root() -> Path:
    """The repository: LIVSEG_ROOT if set, else the nearest folder upwards that holds notebooks/. A notebook
    finds it from notebooks/ (JupyterLab) as well as from the repository (make, Colab)."""
    if os.environ.get("LIVSEG_ROOT"):
        return Path(os.environ["LIVSEG_ROOT"]).resolve()
    cwd = Path.cwd().resolve()
    return next((folder for folder in (cwd, *cwd.parents) if (folder / "notebooks").is_dir()), cwd)


class RunFolders:
    """The stations of a run called `name`, such as "phantom-quick"; `root` is the repository."""

    def __init__(self, root: Path, name: str) -> None:
        """Raises InputError for a name that is not that of a folder."""
        if Path(name).name != name or not name.strip(" .") or set(name) & set("{}\0"):
            raise InputError("run name", f"{name!r} names no folder.", "Write such as phantom-quick.")
        self.root, self.name = root, name
        self.raw = root / "data" / "raw" / name
        """Generated scans (phantom). Scans of yours stay where they are and are only read."""
        self.slices = root / "data" / "interim" / name
        """Extracted slices, a folder a case, and slices.csv."""
        self.splits_csv = root / "data" / "processed" / name / "splits.csv"
        """Which patient serves for what; may be edited."""
        self.classified_csv = self.splits_csv.with_name("slices.csv")
        """slices.csv with class, split and fold."""
        self.report = root / "reports" / name
        """Everything that a reader wants."""
        self.figures, self.tables = self.report / "figures", self.report / "tables"
        """PNG pictures and CSV tables of the report."""

    def source(self, dataset: str, data: str) -> Path:
        """Where the scans of `dataset` lie: our own phantom, or `data` (relative to the repository). Raises
        InputError where nothing is said of that."""
        if dataset != "phantom" and not data:
            raise InputError("data", "is not given.", "Name your folder: --data, or DATA= for make.")
        return self.raw if dataset == "phantom" else self.root / Path(data).expanduser()

    def training(self, system: str) -> Path:
        """Checkpoints and TensorBoard logs of a training under way."""
        return self.splits_csv.parent / "training" / system

    def record(self, notebook: str) -> Path:
        """What the result of a notebook was made by (`livseg_lib.runner`)."""
        return self.report / "records" / f"{notebook}.json"

    def model(self, system: str) -> Path:
        """The trained model of a system."""
        return self.report / "models" / system

    def predictions(self, system: str) -> Path:
        """Predicted label volumes of the test patients."""
        return self.report / "predictions" / system


NEEDED = {
    **{name: name for name in ("nibabel", "isal", "jsonschema", "pydicom", "filelock", "safetensors", "edt")},
    **{name: name for name in ("tqdm", "jinja2", "alembic", "sqlalchemy", "colorlog", "tenacity")},
    **{name: name for name in ("entrypoints", "plotly", "narwhals", "cloudpickle")},
    **{"cc3d": "connected-components-3d", "imgaug": "imgaug==0.4.0", "optuna": "optuna>=5,<6"},
    **{"mako": "Mako", "papermill": "papermill>=2.7"},
}
"""Module -> requirement, of those that a platform with NumPy, TensorFlow and OpenCV may lack."""


def install_missing_packages() -> None:
    """Install what is missing; does nothing where everything is there. --no-deps keeps the platform's own
    packages as they are. Raises InputError where pip cannot, as without internet."""
    missing = [requirement for module, requirement in NEEDED.items() if find_spec(module) is None]
    if missing:
        print("installing", *missing, flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *missing]
        if subprocess.run(command).returncode:
            names = " ".join(f'"{requirement}"' for requirement in missing)
            problem = f"this Python lacks {names}, and pip could not install them."
            fill = "Without internet, fill a FOLDER by `pip download --no-deps` of these with the same Python"
            remedy = f"{fill} elsewhere, then set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER."
            raise InputError("packages", problem, remedy)


def load_ipython_extension(shell: object) -> None:
    """What `%load_ext livseg_lib.runs` does at the top of a notebook: Colab and Kaggle get what they lack.
    Trainings keep their memory there, too, where no `make` has seen to it."""
    keep_freed_memory()
    install_missing_packages()


PACKAGES = (
    *(*BACKENDS, "keras", "onnxruntime", "numpy", "pandas", "nibabel", "opencv-python-headless"),
    *("opencv-python", "imgaug", "scipy", "scikit-learn", "optuna", "papermill"),
)


@dataclass
class NotebookRun:
    """One execution of one notebook: folders to work in, and an entry in the manifest when it ends."""

    notebook: str
    folders: RunFolders
    parameters: dict
    started: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)
    results: list[dict] = field(default_factory=list)
    """What the report shows of this notebook, in its order: tables, figures, conclusions."""
    facts: dict = field(default_factory=dict)
    """Facts on the whole run (dataset, data_checksum, target) that this notebook has learnt."""

    def note(self, text: str) -> None:
        """Print something that a reader of the report must know, too."""
        self.notes.append(text)
        print(f"Note: {text}")

    def table(self, name: str, frame: pd.DataFrame | None, caption: str = "") -> pd.DataFrame:
        """Write tables/NAME.csv, show it in the report, and give it back. None: the table is there already,
        where several notebooks have their rows in it."""
        path = self.folders.tables / f"{name}.csv"
        if frame is not None:
            write_table(frame, path)
        self._show(table=name, caption=caption)
        return read_table(path) if frame is None else frame

    def figure(self, name: str, figure: Figure, caption: str = "") -> Figure:
        """Write figures/NAME.png with its caption inside, show it in the report, and give the figure back."""
        save_figure(figure, self.folders.figures, name, caption)
        self._show(figure=name, caption=caption)
        return figure

    def conclude(self, sentences: Iterable[str]) -> None:
        """Say what was found, below the table or figure that shows it: in the notebook and in the report."""
        from IPython.display import Markdown, display

        sentences = list(sentences)
        self._show(conclusions=sentences)
        display(Markdown("\n".join(f"- {sentence}" for sentence in sentences)))

    def _show(self, **result) -> None:
        """A cell that runs again replaces what it said before."""
        names = {key: value for key, value in result.items() if key != "caption"}
        self.results = [each for each in self.results if not names.items() <= each.items()] + [result]

    def finish(self) -> None:
        """Write the manifest entry and print what the notebook took."""
        entry = {
            "parameters": self.parameters,
            "git_revision": git_revision(),
            "seconds": round(time.monotonic() - self.started, 1),
            "cpu_seconds": round(sum(os.times()[:4]), 1),  # its own and those of its processes
            "peak_memory_mb": peak_memory_mb(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "notes": self.notes,
            "results": self.results,
        }
        path = self.folders.report / "manifest.json"
        with locked(path):
            manifest = json.loads(path.read_bytes()) if path.exists() else {"notebooks": {}}
            notebooks = manifest["notebooks"] | {self.notebook: entry}
            manifest |= self.facts | {
                "run": self.folders.name,
                "git_revision": entry["git_revision"],
                "packages": library_versions(*PACKAGES),
                "device": describe_device(),
                "platform": describe_platform(),
                "notebooks": dict(sorted(notebooks.items())),
            }
            write_json(path, manifest)
        write_json(self.folders.record(self.notebook), {"sources": imported_sources()})
        took = "{seconds} s, {cpu_seconds} s of processors, peak memory {peak_memory_mb} MB".format_map(entry)
        print(f"{self.notebook}: {took}")


def imported_sources() -> list[str]:
    """Files of the library that this process has imported, such as livseg_lib/runs.py."""
    library = Path(__file__).resolve().parent
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    used = {Path(file).resolve() for file in files if file}
    return sorted(path.relative_to(library.parent).as_posix() for path in used if library in path.parents)


def begin_run(notebook: str, namespace: dict) -> NotebookRun:
    """Call at the top of a notebook with `globals()`: its plain values, but for CONSTANTS, are parameters.

    Seeds Python, NumPy and (where it is already imported) Keras from the parameter `seed`. The record of an
    earlier run goes: what that one made is about to change.
    """
    parameters = {
        name: value
        for name, value in namespace.items()
        if isinstance(value, str | int | float | list | None) and name.islower() and name[0] != "_"
    }
    seed_everything(parameters.get("seed", 0))
    folders = RunFolders(project_root(), parameters["run_name"])
    folders.record(notebook).unlink(missing_ok=True)
    for folder in (folders.figures, folders.tables):
        folder.mkdir(parents=True, exist_ok=True)
    facts = {name: parameters[name] for name in ("dataset", "target", "seed") if name in parameters}
    return NotebookRun(notebook, folders, parameters, facts=facts)


def seed_everything(seed: int) -> None:
    """One root seed for Python, NumPy and Keras."""
    random.seed(seed)
    np.random.seed(seed)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed)


def derived_seed(seed: int, *names: str | int) -> int:
    """A seed of its own for each purpose, 32 bits, from the root seed."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def peak_memory_mb() -> int:
    """Largest resident memory so far of this process or of one of its finished children, in MB."""
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 1024**2)  # of this process alone
    import resource

    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024))  # bytes; kB on Linux


def git_revision() -> str:
    """Commit of the repository, "-dirty" where files differ from it, "" outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe_device() -> str:
    """The GPU if Keras' backend has one, else the processor."""
    if names := gpus():
        return f"GPU {names[0]} x {len(names)}"
    processor = Path("/proc/cpuinfo")
    lines = processor.read_text().splitlines() if processor.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return "CPU " + (names[0] if names else platform.processor() or platform.machine())


def describe_platform() -> str:
    """System, processor family, Python and number of cores."""
    python = f"Python {platform.python_version()}"
    return f"{platform.system()} {platform.machine()}, {python}, {os.cpu_count()} cores"
