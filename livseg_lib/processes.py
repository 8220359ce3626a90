"""Processes that never outlive the one that asked for them, and TensorFlow started without its chatter."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TypeVar

from livseg_lib.errors import InputError

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_processes(job: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """`job(item)` of each item, in their order, worked out by so many processes; 1 works in this one.

    `job`, items and results have to be picklable. An error of a job, an interrupt and whatever else ends the
    iteration early ends all processes at once, in the middle of their work; so does the death of this
    process, even by SIGKILL. Raises InputError where one is ended from outside.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(job, items)
        return
    context = _Context()
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        try:
            yield from pool.map(job, items)
        except BrokenProcessPool as error:
            problem = "was ended from outside, most likely because memory ran out."
            remedy = "Start again with fewer workers; finished cases are kept."
            raise InputError("a worker process", problem, remedy) from error
        except BaseException:
            for process in context.started:
                process.terminate()
            raise


def keep_freed_memory() -> None:
    """Large buffers stay with this process instead of being mapped anew each time (5 to 9 % of a command).

    By `mallopt` of glibc (M_MMAP_MAX, M_TRIM_THRESHOLD); where there is none, nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        for option, value in ((-4, 0), (-1, 2**31 - 1)):
            ctypes.CDLL(None).mallopt(option, value)


def one_apart() -> ProcessPoolExecutor:
    """One process, started at the first job, for work that may crash it; to be used in a `with`."""
    return ProcessPoolExecutor(1, _Context(), _start_worker)


def end_family(process_id: int) -> None:
    """Kill a process with all that it started, and wait until they are gone."""
    import psutil

    try:
        process = psutil.Process(process_id)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(family, timeout=5)


class _Worker(SpawnProcess):
    """A fresh process: forking one that has threads (TensorFlow, OpenCV) can hang."""

    def start(self) -> None:
        """Start deaf to Ctrl-C, which would print where Python was while it was starting up."""
        if threading.current_thread() is not threading.main_thread():  # only that one may change signals
            return super().start()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            super().start()
        finally:
            signal.signal(signal.SIGINT, before)


class _Context(SpawnContext):
    """Makes the workers of one pool and remembers them."""

    def __init__(self) -> None:
        self.started: list[_Worker] = []

    def Process(self, **arguments) -> _Worker:
        """A worker."""
        self.started.append(_Worker(**arguments))
        return self.started[-1]


def _start_worker() -> None:
    import cv2

    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends without a word: the parent has the last one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the workers already fill the processor


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """What anybody writes to file descriptor 2 inside the block is thrown away, C++ included."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def import_tensorflow_quietly() -> None:
    """Import TensorFlow, before Keras does, and make it look for GPUs now, with its chatter thrown away.

    Its C++ side prints pages about processors and missing GPUs to file descriptor 2, before any logging
    setting takes hold. Its warning about retracing takes several networks that are asked in turn for one
    that is compiled again and again. Python errors still show. Does nothing for another Keras backend.
    """
    if "tensorflow" in sys.modules or os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_stderr():
        import tensorflow

        tensorflow.config.list_logical_devices()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
