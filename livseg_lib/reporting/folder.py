"""What lies in a report folder: read as it is, whatever has been run so far."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from PIL import Image

from livseg_lib.errors import InputError
from livseg_lib.reporting.figure_files import read_caption
from livseg_lib.reporting.notebooks import notebook_title
from livseg_lib.reporting.tables import read_table
from livseg_lib.reporting.wording import figure_section

MAX_EMBEDDED_BYTES = 6_500_000
"""Of figures in one page, so that it stays below 10 MB; those beyond are linked, not embedded."""


@dataclass(frozen=True)
class FigureFile:
    """One PNG of the folder."""

    name: str
    caption: str
    source: str
    """A data URI, or a relative link where the page would grow too large."""
    width: int
    height: int

    @property
    def is_wide(self) -> bool:
        """Takes the whole width of the page rather than half of it."""
        return self.width > 1.45 * self.height or self.width >= 1000


@dataclass(frozen=True)
class NotebookFile:
    """An executed notebook and what the manifest tells about its run."""

    name: str
    title: str
    link: str
    record: dict


class ReportFolder:
    """Everything of `reports/<dataset>-<profile>/` that the page shows; absent files give nothing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @cached_property
    def manifest(self) -> dict:
        """manifest.json, or what the folder's name tells where there is none yet."""
        dataset, _, profile = self.path.resolve().name.rpartition("-")
        file = self.path / "manifest.json"
        known = {"dataset": dataset or profile, "profile": profile if dataset else ""}
        return known | _read_json(file) if file.exists() else known

    def table(self, name: str) -> pd.DataFrame | None:
        """tables/<name>.csv; None before it is written."""
        file = self.path / "tables" / f"{name}.csv"
        return read_table(file) if file.exists() else None

    @cached_property
    def figures(self) -> dict[str, list[FigureFile]]:
        """Section -> its figures, embedded in reader's order as long as there is room."""
        files = [f for f in sorted((self.path / "figures").glob("*.png")) if ".partial" not in f.name]
        sections: dict[str, list[FigureFile]] = {}
        room = MAX_EMBEDDED_BYTES
        for file in sorted(files, key=lambda f: (figure_section(f.stem)[1], f.stem)):
            room -= file.stat().st_size
            section = sections.setdefault(figure_section(file.stem)[0], [])
            section.append(_read_figure(file, embedded=room >= 0))
        return sections

    @cached_property
    def notebooks(self) -> list[NotebookFile]:
        """Every NN_name.ipynb or .html, in order, and those that only the manifest knows."""
        files = {f.stem: f for suffix in ("ipynb", "html") for f in self.path.glob(f"[0-9]*.{suffix}")}
        finished = {name: file for name, file in files.items() if not name.endswith(".partial")}
        records = self.manifest.get("notebooks") or {}
        return [
            NotebookFile(name, self._title(name), _link(finished.get(name)), records.get(name) or {})
            for name in sorted(set(finished) | set(records))
        ]

    @cached_property
    def models(self) -> dict[str, str]:
        """System -> link to its models/<system>/model.json."""
        files = sorted(self.path.glob("models/*/model.json"))
        return {file.parent.name: quote(file.relative_to(self.path).as_posix()) for file in files}

    def _title(self, name: str) -> str:
        file = self.path / f"{name}.ipynb"
        return (file.exists() and notebook_title(file)) or name[2:].replace("_", " ").strip().capitalize()


def _link(file: Path | None) -> str:
    return quote(file.name) if file else ""


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(file, f"is not JSON: {error}.", "Delete it and run the notebooks again.") from error
    if not isinstance(content, dict):
        raise InputError(file, "is not a JSON object.", "Delete it and run the notebooks again.")
    return content


def _read_figure(file: Path, embedded: bool) -> FigureFile:
    try:
        with Image.open(file) as image:
            width, height = image.size
        caption = read_caption(file)
    except OSError as error:
        raise InputError(file, "is not a picture.", "Delete it and run its notebook again.") from error
    inside = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}" if embedded else ""
    return FigureFile(file.stem, caption, inside or f"figures/{quote(file.name)}", width, height)
