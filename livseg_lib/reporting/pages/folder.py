"""What lies in a report folder: read as it is, whatever has been run so far."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from PIL import Image

from livseg_lib.errors import InputError
from livseg_lib.figures import read_caption
from livseg_lib.reporting.pages.notebooks import notebook_title
from livseg_lib.reporting.wording import figure_section
from livseg_lib.tables import read_table

MAX_EMBEDDED_BYTES = 1_000_000
"""Of figures in one page, so that a report stays below 25 MB; those beyond are linked, not embedded."""

MAX_OPEN = {"overlays": 4}
"""Section -> figures that it shows at once. Those folded behind them are linked: patient pages show more."""

MAX_EXACT_BYTES, QUALITY = 60_000, 70
"""Pictures of CT, which are larger, are embedded as WebP of that quality, a third of the PNG's size; charts
as they are. The PNG beside the page is exact."""


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
    def is_embedded(self) -> bool:
        """Whether the page carries the figure inside."""
        return self.source.startswith("data:")

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
            name = figure_section(file.stem)[0]
            section = sections.setdefault(name, [])
            is_open = len(section) < MAX_OPEN.get(name, len(files))
            section.append(_read_figure(file, room if is_open else 0))
            room -= len(section[-1].source) if section[-1].is_embedded else 0
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

    @cached_property
    def weights(self) -> dict[str, int]:
        """Part of the folder -> bytes, the heaviest first; the page itself, being written, is left out."""
        parts = {
            "notebooks": [*self.path.glob("[0-9]*.ipynb"), *self.path.glob("[0-9]*.html")],
            **{path.name: path.rglob("*") for path in self.path.iterdir() if path.is_dir()},
        }
        sizes = {name: sum(f.stat().st_size for f in files if f.is_file()) for name, files in parts.items()}
        return dict(sorted(((n, size) for n, size in sizes.items() if size), key=lambda each: -each[1]))

    def model_records(self, system: str) -> list[dict]:
        """models/<system>/model.json and those of its parts; empty for what has no model, such as a vote."""
        folder = self.path / "models" / system
        files = [folder / "model.json", *sorted(folder.glob("*/model.json"))]
        return [_read_json(file) for file in files if file.exists()]

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


def _read_figure(file: Path, room: int) -> FigureFile:
    """The figure, embedded if that takes at most `room` characters."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            inside = _data_uri(file, image) if room > 0 else ""
        caption = read_caption(file)
    except OSError as error:
        raise InputError(file, "is not a picture.", "Delete it and run its notebook again.") from error
    source = inside if 0 < len(inside) <= room else f"figures/{quote(file.name)}"
    return FigureFile(file.stem, caption, source, width, height)


def _data_uri(file: Path, image: Image.Image) -> str:
    content, kind = file.read_bytes(), "png"
    if len(content) > MAX_EXACT_BYTES:
        smaller = io.BytesIO()
        image.convert("RGB").save(smaller, "webp", quality=QUALITY, method=2)
        content, kind = min((content, "png"), (smaller.getvalue(), "webp"), key=lambda each: len(each[0]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
