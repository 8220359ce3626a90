"""Answers of the app and of HTTP: one upload, one answer, in a process that can be stopped.

Whatever goes wrong becomes a sentence. Nothing of gradio is imported here: each process would load it anew.
"""

from __future__ import annotations

import html
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import Queue

import pandas as pd

from livseg_lib.application.inputs import find_inputs, require_used
from livseg_lib.application.predictor import Predictor, load_predictor, predict_case
from livseg_lib.application.results import RECORD, write_result
from livseg_lib.application.scan import Reading
from livseg_lib.application.visits import keep_scan
from livseg_lib.datasets.files import nifti_stem
from livseg_lib.errors import STOPPING, InputError, reason_of
from livseg_lib.volumes import LABELS

LOADED_AT_ONCE = 2  # systems kept in memory
LONGEST_SECONDS = 1200.0  # of work on one upload, loading the system included: others wait in line
TOO_LONG = f"This took more than {LONGEST_SECONDS / 60:.0f} minutes and was stopped. Use livseg predict."
ENDED = "The work on this file ended all at once: there may be too little memory for it."


Load = Callable[[Path], Predictor]


class Refused(Exception):
    """What the sender reads: a sentence without a path of this machine."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What is said about one case; its scan and masks lie in the folder of the visit."""

    record: dict  # as in record.json; its notes begin with one where the upload held more than one case
    tumors: pd.DataFrame  # a row a tumour (`measure_tumors`)
    archive: Path  # zip of all that `livseg predict` writes of a case
    depth: int  # slices
    start: int  # the slice to begin at


def answer(
    uploads: Sequence[Path | str],
    model: Path,
    folder: Path,
    series: str = "",
    load: Load = load_predictor,
    on_step: Callable[[str], None] = lambda step: None,
) -> Answer:
    """Treat the first scan of the uploaded files with the system in `model`; everything is kept in `folder`.

    Several files are one folder: the slices of a DICOM series, or pictures. Label maps among them are no
    scans. The case is called by its number whatever the files are called, as a name may be a patient's.
    Raises Refused where there is no answer.
    """
    try:
        reading = Reading(series or None)
        patients = find_inputs(_one_source(uploads, folder), reading=reading, numbered=True)
        require_used(reading, patients)
        predictor = load(model)
        for patient in patients:
            try:
                result = predict_case(patient, predictor, on_step)
                break
            except InputError as error:
                if error.code != LABELS or patient is patients[-1]:
                    raise
        written = write_result(result, folder / "result")
        archive = Path(shutil.make_archive(str(folder / "livseg-result"), "zip", written))
        start = keep_scan(result, folder / "shown")
        record = json.loads((written / RECORD).read_bytes())
    except Exception as error:  # the next visitor is to be served whatever this upload did
        raise Refused(reason_of(error)) from error
    if len(patients) > 1:
        record["notes"].insert(0, f"The upload holds {len(patients)} cases; this is the first scan.")
    return Answer(record, result.tumors, archive, len(result.labels), start)


class Workers:
    """Processes that answer, one upload at a time each; what stops or ends one ends nobody else.

    Each is started when it is needed, and anew after it was stopped. When the app is gone, however that came
    about, they delete `root`, the folder with all that visitors left, and end.
    """

    def __init__(self, root: Path, count: int = 1, load: Load = load_predictor) -> None:
        self.count, self._root, self._load, self._closed = count, root, load, False
        self.processes: list[multiprocessing.process.BaseProcess] = []
        """All that were ever started."""
        self._free: Queue[tuple | None] = Queue()
        for _ in range(count):
            self._free.put(None)
        self._lock = threading.Lock()
        self._counts = Counter(waiting=0, busy=0, answered=0, refused=0, left=0, seconds=0)

    def counts(self) -> dict[str, float]:
        """Uploads that wait or are worked on now; so far answered, refused, left by who sent them, and the
        seconds of work on all."""
        with self._lock:
            return dict(self._counts)

    def start(self, model: Path | None = None) -> None:
        """Have the processes there, with the system in `model` loaded, so that no visitor waits for that."""
        for _ in range(self.count):
            self._free.put(self._alive(self._free.get(), model))

    def _alive(self, worker: tuple | None, model: Path | None = None) -> tuple | None:
        """A process and the connection to it: those given, or new ones where that process is no more."""
        if self._closed or (worker is not None and worker[0].is_alive()):
            return worker
        context = multiprocessing.get_context("spawn")
        connection, worker_end = context.Pipe()
        process = context.Process(target=_work, args=(worker_end, self._load, model, self._root), daemon=True)
        process.start()
        self.processes.append(process)
        worker_end.close()  # so that the end of the process is the end of the connection
        return process, connection

    def ask(
        self, uploads: Sequence[Path | str], model: Path, folder: Path, series: str = ""
    ) -> Iterator[str | Answer]:
        """Gives the step that it is at about once a second, and at last what `answer` does. Who stops
        listening stops the work. Raises Refused where there is no answer, or none in time."""
        self._count(waiting=1)
        worker, began, message, end = self._free.get(), time.monotonic(), "load", "left"
        self._count(waiting=-1, busy=1)
        try:
            worker = _, connection = self._alive(worker)
            connection.send((uploads, model, folder, series))
            while isinstance(message, str):
                if time.monotonic() - began > LONGEST_SECONDS:
                    raise Refused(TOO_LONG)
                yield message
                if connection.poll(1.0):
                    message = connection.recv()
            if isinstance(message, Refused):
                raise message
            yield message
            end = "answered"
        except (EOFError, OSError) as error:
            end = "refused"
            raise Refused(ENDED) from error
        except Refused:
            end = "refused"
            raise
        finally:
            if isinstance(message, str) and worker is not None:
                worker[0].kill()
                worker[0].join()
                with suppress(OSError):  # no room for a process now: the next one tries again
                    worker = self._alive(worker)
            self._free.put(worker)
            self._count(busy=-1, seconds=time.monotonic() - began, **{end: 1})

    def _count(self, **more: float) -> None:
        with self._lock:
            self._counts.update(more)

    def close(self) -> None:
        """End all processes, for good."""
        self._closed = True
        for process in self.processes:
            process.kill()
            process.join()


def _work(connection, load: Load, model: Path | None, root: Path) -> None:
    """A process of Workers: takes questions until nobody is left to ask any."""
    for number in STOPPING:  # a terminal sends them to the app, too, which ends this
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_app, args=[root], daemon=True).start()
    loaded = lru_cache(LOADED_AT_ONCE)(load)
    if model is not None:
        with suppress(Exception):  # whoever asks for it sees the error
            loaded(model)
    with suppress(EOFError, OSError):
        while True:
            uploads, model, folder, series = connection.recv()
            try:
                connection.send(answer(uploads, model, folder, series, loaded, connection.send))
            except Refused as error:
                connection.send(Refused(str(error)))
    _end_with_the_app(root)


def _end_with_the_app(root: Path) -> None:
    multiprocessing.parent_process().join()
    shutil.rmtree(root, ignore_errors=True)
    os._exit(1)


def _one_source(uploads: Sequence[Path | str], folder: Path) -> Path:
    """The uploaded file, or a folder that holds copies of all of them.

    Gradio takes a first dot and, of long names, the ".nii" away: every .gz is taken for NIfTI.
    """
    paths = [Path(path) for path in uploads]
    if not paths:
        raise InputError("upload", "There is no file.", "Drop a scan or a slice first.")
    if len(paths) == 1 and (paths[0].suffix.lower() != ".gz" or nifti_stem(paths[0])):
        return paths[0]
    together = folder / "upload"
    together.mkdir()
    for number, path in enumerate(paths):
        suffix = path.suffix.lower().replace(".gz", ".nii.gz")
        shutil.copyfile(path, together / f"{number:04d}{suffix}")  # not each system has links
    return together


TUMOR_TITLES = {
    "tumor": "Tumour",
    "slice": "Slice",
    "volume_ml": "Volume (ml)",
    "longest_diameter_mm": "Longest diameter (mm)",
    "perpendicular_diameter_mm": "Perpendicular (mm)",
    "position": "Position in the liver",
    "mean_hu": "Mean HU",
}


def verdict_html(given: Answer) -> str:
    """Whether a tumour is suspected, and how that is known, as HTML."""
    presence = given.record["tumor_presence"]
    kind, text = {
        True: ("suspected", "Tumour suspected"),
        False: ("clear", "No tumour suspected"),
        None: ("", "Tumours were not looked for"),
    }[presence["suspected"]]
    if presence["probability"] is not None:
        text += f" (probability {presence['probability']:.2f})"
    return f'<div class="verdict {kind}" role="status">{text}</div><p>{html.escape(presence["how"])}</p>'


def sentences(given: Answer) -> list[str]:
    """Measures of the liver, then what the reader should know of this case."""
    found = given.record["measures"]
    amounts = [
        f"{title} {found[name]:.{digits}f} ml"
        for name, title, digits in (("liver_ml", "liver", 0), ("tumor_ml", "tumours", 1))
        if found.get(name) is not None
    ]
    line = [f"{', '.join(amounts).capitalize()}."] if amounts else []
    return [*line, *given.record["notes"], *given.record["cautions"]]


def tumor_table(tumors: pd.DataFrame) -> pd.DataFrame:
    """What is shown of `measure_tumors`, under titles to be read."""
    return tumors[[*TUMOR_TITLES]].round(1).rename(columns=TUMOR_TITLES)
