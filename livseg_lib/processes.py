"""Cases shared out to processes that never outlive this one, or to a Dask cluster."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing import current_process, parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TypeVar

from livseg_lib.errors import InputError, require_extra

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_processes(
    job: Callable[[Item], Result], items: Sequence[Item], workers: int | str
) -> Iterator[Result]:
    """`job(item)` of each item, in their order, worked out by so many processes; 1 works in this one.

    `job`, items and results have to be picklable. An error of a job, an interrupt and whatever else ends the
    iteration early ends all processes at once, in the middle of their work; so does the death of this
    process, even by SIGKILL. Raises InputError where one is ended from outside.

    `workers` may be the address of a Dask scheduler, such as "tcp://10.0.0.1:8786": its workers do the work,
    on files that they see under the same paths. One that is lost costs the case in its hands, which another
    begins anew; InputError where a case has ended one worker after the other, and without the scheduler.
    """
    if isinstance(workers, str):
        yield from _on_cluster(job, items, workers)
        return
    if workers < 1:
        raise InputError("--workers", f"is {workers}.", "Give 1 or more.")
    if min(workers, len(items)) <= 1:
        yield from map(job, items)
        return
    context = _Context()
    with ProcessPoolExecutor(min(workers, len(items)), context, _start_worker) as pool:
        try:
            yield from pool.map(job, items)
        except BrokenProcessPool as error:
            problem = "was ended from outside, most likely because memory ran out."
            remedy = "Start again with fewer workers; finished cases are kept."
            pool.shutdown()  # waits for all
            if any(process.exitcode == 1 for process in context.started):  # by itself: what ends others kills
                problem = "could not begin: it imports the script that you started, and fails in it."
                remedy = 'Put what the script does below `if __name__ == "__main__":`.'
            raise InputError("a worker process", problem, remedy) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or its thread prints that what is given up ended
            started = [process for process in context.started if process.pid]  # one may have failed to start
            for process in started:
                process.terminate()
            for process in started:
                process.join()
            raise


def in_threads(job: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """As `in_processes`, by threads of this process, which begin at once and work side by side in C alone.
    Where the iteration ends early, no further item is begun, and those in work are waited for."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(job, items)


RETRIES = 2  # of a case whose job has raised, by a disk that was away for a moment, say
_HOLDING_A_CASE = threading.Lock()


def _on_cluster(job: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[Result]:
    require_extra("cluster", "distributed")
    from distributed import Client, KilledWorker, as_completed

    again = "Start again when it is back; finished cases are kept."
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        problem = f"No Dask scheduler answers there ({type(error).__name__})."
        raise InputError(address, problem, "Start one by `dask scheduler`, and workers.") from error
    with client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        print(f"{workers} Dask workers; dashboard: {client.dashboard_link}", file=sys.stderr, flush=True)
        futures = client.map(partial(_on_worker, job, os.getcwd()), items, pure=False, retries=RETRIES)
        indices = {future.key: index for index, future in enumerate(futures)}
        arrived, index = {}, 0
        try:
            for future, result in as_completed(futures, with_results=True, raise_errors=False):
                if future.status not in ("finished", "error"):
                    raise InputError(address, "The Dask scheduler was lost.", again)
                arrived[indices[future.key]] = future.status, result
                future.release()  # a result that was only on a worker would be worked out again without it
                while index in arrived:  # errors in their turn, too: what comes before is given first
                    status, result = arrived.pop(index)
                    if status == "error":
                        raise result[1]
                    yield result
                    index += 1
        except KilledWorker as error:
            item = items[indices[error.task]]
            problem = "has ended every worker that began it, most likely because memory ran out."
            remedy = "Give workers more memory, or leave it out; finished cases are kept."
            raise InputError(getattr(item, "case_id", str(item)), problem, remedy) from error


def _on_worker(job: Callable[[Item], Result], folder: str, item: Item) -> Result:
    """Runs in a worker of Dask: one case in memory, however many threads it has; in the client's folder."""
    with _HOLDING_A_CASE:
        _prepare_worker()
        with suppress(OSError):  # only relative paths need it
            os.chdir(folder)
        return job(item)


@cache
def _prepare_worker() -> None:
    import cv2

    keep_freed_memory()
    cv2.setNumThreads(1)  # the workers already fill the processor
    current_process().daemon = False  # else it may start no process, as reading DICOM does


def keep_freed_memory() -> None:
    """Large buffers stay with this process instead of being mapped anew each time (5 to 9 % of a command). By
    `mallopt` of glibc (M_MMAP_MAX, M_TRIM_THRESHOLD); where there is none, nothing happens."""
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
    _prepare_worker()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends without a word: the parent has the last one
    threading.Thread(target=_end_with_parent, daemon=True).start()


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
