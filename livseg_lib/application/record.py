"""The record of a case: with which model, on what, by which versions, how long, with how much memory.

Nothing in it comes from a patient's header, and no path stands in it: only checksums, sizes and spacing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from typing import NamedTuple

from livseg_lib import __version__
from livseg_lib.application.predictor import Predictor, describe_expectations, training_runs
from livseg_lib.application.scan import PatientInput, Scan
from livseg_lib.checksums import files_checksum, text_checksum
from livseg_lib.runs import (
    describe_device,
    describe_platform,
    git_revision,
    package_versions,
    peak_memory_mb,
)

WARNING = "Research only. Not for clinical use."


class StepClock:
    """Seconds by step."""

    def __init__(self, on_step: Callable[[str], None] = lambda step: None) -> None:
        self.seconds: dict[str, float] = {}
        self.on_step = on_step

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Counts the block for the step `name`."""
        self.on_step(name)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - began, 2)


class Request(NamedTuple):
    """What decides about a result, in two checksums."""

    input_sha256: str
    """Over the contents of the case's files."""
    request_sha256: str
    """Over these, the options of reading and the models."""


def identify_request(patient: PatientInput, predictor: Predictor) -> Request:
    """Reads all files of the case once."""
    content = files_checksum(patient.files)
    asked = [content, patient.options, predictor.identity]
    return Request(content, text_checksum(json.dumps(asked, sort_keys=True)))


def describe_run(patient: PatientInput, scan: Scan, predictor: Predictor, request: Request) -> dict:
    """What is known before anything is written, JSON-ready."""
    return {
        "warning": WARNING,
        "request_sha256": request.request_sha256,
        "input": {
            "kind": patient.kind,
            "files": len(patient.files),
            "sha256": request.input_sha256,
            "shape": list(scan.volume.voxels.shape),
            "spacing_mm": [round(float(side), 6) for side in scan.volume.spacing_mm],
        },
        "system": {
            **predictor.identity,
            "structures": list(predictor.structures),
            "expects": describe_expectations(predictor.system),
            "trained_in": training_runs(predictor.system),
        },
        **_software(),
    }


@cache
def _software() -> dict:
    """Asked once a process: git takes its time."""
    return {
        "livseg": __version__,
        "git_revision": git_revision(),
        "packages": package_versions(),
        "device": describe_device(),
        "platform": describe_platform(),
    }


def finished(record: dict, clock: StepClock) -> dict:
    """The record with what is known when all else is written. Memory is the most of the process so far."""
    return record | {
        "seconds": clock.seconds | {"in_all": round(sum(clock.seconds.values()), 2)},
        "peak_memory_mb": peak_memory_mb(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
