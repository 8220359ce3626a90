"""Where things lie: one run has one place for its data and one for its report."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from livseg_lib.errors import InputError


def project_root() -> Path:
    """The repository: LIVSEG_ROOT if set, else the nearest folder upwards that holds notebooks/.

    A notebook finds it from notebooks/ (JupyterLab) as well as from the repository (make, Colab).
    """
    if os.environ.get("LIVSEG_ROOT"):
        return Path(os.environ["LIVSEG_ROOT"]).resolve()
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / "notebooks").is_dir()), here)


@dataclass(frozen=True)
class RunFolders:
    """The stations of a run called `name`, such as "phantom-quick"."""

    root: Path
    name: str

    def __post_init__(self) -> None:
        """Raises InputError for a name that is not that of a folder."""
        if Path(self.name).name != self.name or self.name in ("", "..") or set(self.name) & set("{}\0"):
            raise InputError("run name", f"{self.name!r} names no folder.", "Write such as phantom-quick.")

    @property
    def raw(self) -> Path:
        """Generated scans (phantom). Scans of yours stay where they are and are only read."""
        return self.root / "data" / "raw" / self.name

    def source(self, dataset: str, data: str) -> Path:
        """Where the scans of `dataset` lie: our own phantom, or `data` (relative to the repository)."""
        return self.raw if dataset == "phantom" else self.root / Path(data).expanduser()

    @property
    def slices(self) -> Path:
        """Extracted slices, a folder a case, and slices.csv."""
        return self.root / "data" / "interim" / self.name

    @property
    def splits_csv(self) -> Path:
        """Which patient serves for what; may be edited."""
        return self.root / "data" / "processed" / self.name / "splits.csv"

    @property
    def classified_csv(self) -> Path:
        """slices.csv with class, split and fold."""
        return self.splits_csv.with_name("slices.csv")

    def training(self, system: str) -> Path:
        """Checkpoints and TensorBoard logs of a training under way."""
        return self.splits_csv.parent / "training" / system

    @property
    def report(self) -> Path:
        """Everything that a reader wants."""
        return self.root / "reports" / self.name

    @property
    def figures(self) -> Path:
        """PNG pictures of the report."""
        return self.report / "figures"

    @property
    def tables(self) -> Path:
        """CSV tables of the report."""
        return self.report / "tables"

    def model(self, system: str) -> Path:
        """The trained model of a system."""
        return self.report / "models" / system

    def predictions(self, system: str) -> Path:
        """Predicted label volumes of the test patients."""
        return self.report / "predictions" / system
