"""Workers of Dask give what one process gives, byte by byte, however many of them are killed."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest

from livseg_lib.cli import main
from livseg_lib.datasets.phantom.writing import write_phantom
from livseg_lib.errors import InputError
from livseg_lib.files import folder_checksums
from livseg_lib.processes import in_processes, one_apart

distributed = pytest.importorskip("distributed", reason="Dask is missing: pip install livseg[cluster]")
dask = pytest.importorskip("dask")
pytestmark = pytest.mark.slow

SCANS = Path(os.environ.get("LIVSEG_CLUSTER_SCANS", ""))
"""A phantom to take in place of a small one, such as one of 200 patients."""
N_PATIENTS, TIMES, N_WORKERS, KILLS = 6, 6, 4, 5


class Tally(distributed.SchedulerPlugin):
    """How often each task was worked out to its end, and which workers have done so."""

    def __init__(self) -> None:
        self.done, self.workers = Counter(), set()

    def transition(self, key, start, finish, *args, worker="", **kwargs):
        if (start, finish) == ("processing", "memory"):
            self.done[key] += 1
            self.workers.add(worker)


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 20}),
        distributed.LocalCluster(
            n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    if SCANS.name:
        return SCANS
    folder = write_phantom(tmp_path_factory.mktemp("scans"), N_PATIENTS, workers=2, site="tiny")
    for number in range(N_PATIENTS, N_PATIENTS * TIMES):  # the same people, scanned a little brighter
        scan = nibabel.load(folder / f"volume-{number % N_PATIENTS}.nii.gz")
        brighter = np.asarray(scan.dataobj) + np.int16(number // N_PATIENTS)
        nibabel.save(nibabel.Nifti1Image(brighter, scan.affine), folder / f"volume-{number}.nii.gz")
        truth = folder / f"segmentation-{number % N_PATIENTS}.nii.gz"
        shutil.copy(truth, folder / f"segmentation-{number}.nii.gz")
    return folder


def kill_workers(cluster, tally: Tally, ended: threading.Event, killed: list[int]) -> None:
    """Now and then kill one in the middle of a case, when the results of others have arrived from it."""
    draw = random.Random(0)
    while len(killed) < KILLS * (1 + bool(SCANS.name)) and not ended.wait(draw.uniform(0.02, 0.3)):
        nanny = draw.choice(list(cluster.workers.values()))
        pid, address = nanny.pid, nanny.worker_address
        with suppress(ProcessLookupError, TypeError):  # being started again
            os.kill(pid, signal.SIGSTOP)  # so that no result is under way while we look
            time.sleep(0.2)
            known = cluster.scheduler.workers.get(address)
            if known and known.processing and not known.has_what and address in tally.workers:
                killed.append(pid)
            os.kill(pid, signal.SIGKILL if pid in killed else signal.SIGCONT)


COMMANDS = {
    "check": "check {scans} --out {out}",
    "extract": "extract {scans} --size 128 --out {out}",
    "evaluate": "evaluate --reference {scans} --prediction {scans} --out {out}/s.json",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_killed_workers_cost_no_result_and_no_finished_case(command, scans, cluster, tmp_path, capsys):
    tally, ended, killed, address = Tally(), threading.Event(), [], cluster.scheduler_address
    cluster.scheduler.add_plugin(tally)
    thread = threading.Thread(target=kill_workers, args=(cluster, tally, ended, killed))
    thread.start()
    try:
        for number in range(10):  # a fast machine is done before any is killed
            out = tmp_path / f"spread{number}"
            spread = main([*command.format(scans=scans, out=out).split(), "--scheduler", address])
            if killed:
                break
    finally:
        ended.set()
        thread.join()
    said = capsys.readouterr().err
    assert re.search(r"\d Dask workers; dashboard: http", said) and killed
    alone = command.format(scans=scans, out=tmp_path / "alone").split()
    assert main([*alone, "--workers", "1"]) == spread
    assert folder_checksums(out) == folder_checksums(tmp_path / "alone")
    assert len(tally.done) >= len(list(scans.glob("volume-*"))) and set(tally.done.values()) == {1}


def test_predictors_are_loaded_where_they_work(scans, cluster, tmp_path, monkeypatch, capsys):
    """The same masks from one process, from two, and from Dask's, called by paths relative to here."""
    (tmp_path / "scans").mkdir()
    for number in range(2):
        (tmp_path / "scans" / f"{number}.nii.gz").symlink_to(scans / f"volume-{number}.nii.gz")
    monkeypatch.chdir(tmp_path)
    ways = {"alone": [], "two": ["--workers", "2"], "dask": ["--scheduler", cluster.scheduler_address]}
    for out, way in ways.items():
        assert main(["predict", "scans", "--out", out, *way]) == 0
    for number in range(2):
        masks = {(tmp_path / out / str(number) / "mask.nii.gz").read_bytes() for out in ways}
        assert len(masks) == 1
    assert main(["predict", "scans", "--out", "alone", *ways["dask"]]) == 0
    assert capsys.readouterr().out.count("done before") == 2


def end_process(number: int) -> int:
    if number == 2:
        os._exit(1)
    return number


def test_a_case_that_ends_every_worker_is_named(cluster, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 1)
    with pytest.raises(InputError, match="2: has ended every worker"):
        list(in_processes(end_process, range(4), cluster.scheduler_address))


def fail_or_start_a_process(number: int) -> int:
    """As reading DICOM does: a decoder may crash."""
    if number == 2:
        raise InputError("case 2", "is damaged.")
    with one_apart() as apart:
        return apart.submit(abs, -number).result()


def test_an_error_of_a_case_is_raised_here_and_a_case_may_start_a_process(cluster):
    found = in_processes(fail_or_start_a_process, range(3), cluster.scheduler_address)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(InputError, match="case 2: is damaged"):
        next(found)


def test_a_scheduler_that_is_not_there_is_told():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(InputError, match=r"127.0.0.1:1: No Dask scheduler answers"),
    ):
        list(in_processes(abs, range(2), "tcp://127.0.0.1:1"))


def test_where_processes_are_enough_dask_is_not_imported():
    program = "import sys; from livseg_lib.processes import in_processes; "
    program += "assert [*in_processes(abs, [1], 2)] == [1]; "
    program += "assert not {'dask', 'distributed'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
