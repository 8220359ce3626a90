"""The runner: what runs, in which order, what is left out, and what a failure or an interrupt leaves."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from multiprocessing import connection
from pathlib import Path
from unittest.mock import Mock

import nbformat
import psutil
import pytest

from livseg_lib import runner
from livseg_lib.cli import main
from livseg_lib.errors import InputError
from livseg_lib.files import write_json
from livseg_lib.runs import RunFolders

REPOSITORY = Path(__file__).parents[1]
DEFAULTS = 'run_name = ""\ndataset = "phantom"\nmodality = "ct"\nvalue = 1\ndata = ""  # scans'


def add_notebook(root: Path, name: str, body: str = "pass", parameters: str = DEFAULTS, **facts) -> Path:
    """A notebook with a title, a cell of `parameters` and a `body`; `facts` go to its metadata."""
    new, path = nbformat.v4, root / "notebooks" / f"{name}.ipynb"
    given = new.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [new.new_markdown_cell("# A title"), given, new.new_code_cell(body)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new.new_notebook(cells=cells, metadata={"kernelspec": kernel, "livseg": facts}), path)
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository without notebooks."""
    monkeypatch.setenv("LIVSEG_ROOT", str(tmp_path))
    (tmp_path / "notebooks" / "params").mkdir(parents=True)
    (tmp_path / "notebooks" / "params" / "quick.yaml").touch()
    return tmp_path


class AtOnce(ThreadPoolExecutor):
    """In place of a process: has done its work once it is given."""

    def submit(self, *given):
        future = super().submit(*given)
        wait([future])
        return future


@pytest.fixture
def executed(root, monkeypatch):
    """Names of the notebooks that were executed, in order; here none really is."""
    names = []

    def execute(notebook, report, parameters):
        names.append(notebook.stem)
        record = report / "records" / f"{notebook.stem}.json"
        write_json(record, {"sources": [f"livseg_lib/{notebook.stem}.py"]})
        if notebook.stem == "b_second" and not (root / "splits.csv").exists():
            (root / "splits.csv").write_text("made by the notebook")
        (report / notebook.name).write_text(f"result of {time.monotonic_ns()}")
        return report / notebook.name

    (root / "livseg_lib").mkdir()
    for name in ("a_first", "b_second", "c_third", "other"):
        (root / "livseg_lib" / f"{name}.py").write_text("def f():\n    return 1  # why\n")
    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr(runner, "one_apart", AtOnce)
    monkeypatch.setattr(runner, "_run_deaf", lambda *given: runner.run_step(*given[:3]))
    monkeypatch.setattr(runner, "LIBRARY", root / "livseg_lib")
    return names


def reproduce(root: Path, *stems: str, pairs=(), jobs: int = 1, again: bool = False) -> None:
    stems = stems or [path.stem for path in (root / "notebooks").glob("*.ipynb")]
    runner.run_notebooks([*stems], "r", "quick", {}, [*pairs], jobs, again)


@pytest.mark.parametrize(("cores", "jobs", "share"), [(8, 2, "4"), (2, 2, "1"), (2, 1, "2"), (1, 2, "1")])
def test_notebooks_that_run_at_a_time_share_the_cores(root, executed, monkeypatch, cores, jobs, share):
    for name in runner.THREADS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    add_notebook(root, "a_first")
    reproduce(root, jobs=jobs)
    assert {os.environ[name] for name in runner.THREADS} == {share}
    monkeypatch.setenv(runner.THREADS[0], "7")  # who sets it decides
    reproduce(root, jobs=jobs, again=True)
    assert os.environ[runner.THREADS[0]] == "7"


@pytest.mark.parametrize(
    ("named", "devices", "at_a_time", "expected"),
    [
        ("3,5", "1", 2, ["3", "5"]),
        ("7", "1", 1, ["7", "7"]),
        *((named, "1", 2, [None, None]) for named in ("", "-1")),
        ("", "all", 1, [None, None]),
        ("3,5", "all", 1, ["3,5", "3,5"]),
        ("3,5,7,8", "2", 2, ["3,5", "7,8"]),
    ],
)
def test_each_notebook_has_gpus_of_its_own(
    root, executed, monkeypatch, capsys, named, devices, at_a_time, expected
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setenv("LIVSEG_DEVICES", devices)
    given = []
    run = runner.run_step
    monkeypatch.setattr(runner, "_run_deaf", lambda *all: given.append(all[3]) or run(*all[:3]))
    for name in ("a_first", "b_second", "c_third"):
        add_notebook(root, name)
    reproduce(root, jobs=0)
    assert f"{at_a_time} at a time" in capsys.readouterr().out
    assert given[:2] == expected and given[2] in expected


def test_the_notebooks_say_what_they_need_and_read():
    steps = {path.stem: runner.read_step(path, {}) for path in (REPOSITORY / "notebooks").glob("*.ipynb")}
    order = [*TopologicalSorter({stem: step.needs for stem, step in steps.items()}).static_order()]
    assert order[0] == "00_prepare_data" and set(order) == set(steps)  # and no circle
    assert all(step.minutes > 0 for step in steps.values())
    beginnings = [stem for stem, step in steps.items() if not step.needs]
    assert beginnings == ["00_prepare_data", "40_make_pretrained"]
    files = [name for step in steps.values() for name in step.files]
    assert all((REPOSITORY / name).is_file() for name in files if "{" not in name)
    assert "data/processed/{run_name}/splits.csv" in steps["02_classify_masks"].files


@pytest.mark.parametrize(
    ("chosen", "minutes"),
    [
        ({}, 2 * 8),  # a device half as fast
        ({"net_epochs": 20}, 2 * (2 + 6 * 2)),  # three quarters of the minutes are trainings
        ({"net_slices_per_epoch": 25}, 2 * (2 + 6 / 4)),
        ({"minutes": 7}, 2 * 2 + 7 * 3),
    ],
)
def test_the_plan_counts_pictures_trainings_and_the_device(root, chosen, minutes):
    learns = "minutes = None\nnet_epochs = 10\nnet_slices_per_epoch = 100\nmore_epochs = 0"
    step = runner.read_step(add_notebook(root, "a", parameters=learns, minutes=8, trainings=3), chosen)
    assert runner.expected_minutes(step, 2.0) == pytest.approx(minutes)
    assert runner.expected_minutes(runner.read_step(add_notebook(root, "b", minutes=8), {}), 2.0) == 16


@pytest.mark.parametrize(
    ("chosen", "minutes"), [({}, 1), ({"systems": ["a", "b"]}, 13), ({"systems": ["a"], "folds": 2}, 5)]
)
def test_the_plan_counts_what_a_study_trains_for_each_of_its_items(root, chosen, minutes):
    each = {"minutes": 2, "of": ["systems", "folds"]}
    notebook = add_notebook(root, "a", parameters="systems = []\nfolds = 3", minutes=1, each=each)
    assert runner.expected_minutes(runner.read_step(notebook, chosen), 1.0) == minutes
    parameters, each = "systems = []\nfolds = 3\nworkers = 1", each | {"minutes": 4, "at_a_time": "workers"}
    notebook = add_notebook(root, "b", parameters=parameters, minutes=1, each=each)
    assert runner.expected_minutes(runner.read_step(notebook, chosen | {"workers": 2}), 1.0) == minutes


def test_the_plan_counts_patients(root):
    drawing = add_notebook(root, "a", parameters="n_patients = 30", minutes=2)
    steps = {"a": runner.read_step(drawing, {"n_patients": 6})}
    steps["b"] = runner.read_step(add_notebook(root, "b", minutes=2), {})
    assert [step.minutes for step in runner.in_minutes_here(steps).values()] == [2 / 5, 2 / 5]


def test_the_longest_chain_goes_first_and_the_plan_tells_its_time(root, executed, monkeypatch, capsys):
    add_notebook(root, "a_first", minutes=1)
    add_notebook(root, "b_second", minutes=5, needs=["a_first"])
    add_notebook(root, "c_third", minutes=2, needs=["a_first"])
    add_notebook(root, "d_fourth", minutes=10, needs=["c_third"])
    steps = {path.stem: runner.read_step(path, {}) for path in (root / "notebooks").glob("*.ipynb")}
    minutes = {stem: step.minutes for stem, step in steps.items()}
    chains = runner.chain_minutes(steps, minutes)
    assert chains == {"a_first": 13, "b_second": 5, "c_third": 12, "d_fourth": 10}
    monkeypatch.setattr(runner, "_time_a_step", lambda: 2 * runner.STEP_MILLISECONDS)
    reproduce(root)
    assert executed == ["a_first", "c_third", "d_fourth", "b_second"]
    pace, plan, *lines = capsys.readouterr().out.splitlines()
    assert pace.startswith("a training step takes 2 times as long here")
    assert plan == "4 notebooks, 0 up to date, about 36 min, 1 at a time"
    assert [line for line in lines if "to go" in line or "all done" in line][-1].endswith("all done")
    assert any(line.startswith("== a_first: ") and "; 3 to go, about 1 min" in line for line in lines)
    monkeypatch.setattr(runner, "_time_a_step", lambda: 1 / 0)
    reproduce(root, jobs=2, again=True)
    pace, plan, *_ = capsys.readouterr().out.splitlines()
    assert pace.startswith("no training step could be timed here (")
    assert plan == "4 notebooks, 0 up to date, about 13 min, 2 at a time"  # the chain, not 18 / 2
    reproduce(root)
    assert capsys.readouterr().out == "4 notebooks, all up to date\n" and len(executed) == 8


def test_what_runs_longer_than_the_pace_of_the_others_says_goes_by_its_plan(root, monkeypatch):
    steps = {
        name: runner.read_step(add_notebook(root, name, minutes=m), {})
        for name, m in {"a": 1, "b": 10}.items()
    }
    now = 0.0
    monkeypatch.setattr(runner.time, "monotonic", lambda: now)
    clock = runner._Clock(steps, 2)
    clock.began |= {"a": 0.0, "b": 0.0}
    now = 6.0
    assert clock.end("a").startswith("== a: 6 s; 1 to go")  # a tenth of its minute
    assert clock.minutes_left() == pytest.approx(0.9)
    now = 120.0
    assert clock.minutes_left() == pytest.approx(8.0)


def edit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


FIRST, RESULT, RECORD = "notebooks/a_first.ipynb", "reports/r/a_first.ipynb", "reports/r/records/a_first.json"
LIBRARY = "livseg_lib/a_first.py"
EVERY_CHANGE = {
    "nothing": (lambda root: None, []),
    "a text": (lambda root: edit(root, FIRST, "A title", "Another title"), []),
    "a comment": (lambda root: edit(root, FIRST, "# scans", "# of yours"), []),
    "layout": (lambda root: edit(root, FIRST, "value = 1", "value  =  1"), []),
    "a time": (lambda root: [os.utime(root / name, (9, 9)) for name in (FIRST, RESULT, LIBRARY)], []),
    "code": (lambda root: edit(root, FIRST, "value = 1", "value = 2"), ["a_first", "b_second"]),
    "a library file": (lambda root: edit(root, LIBRARY, "return 1", "return 2"), ["a_first", "b_second"]),
    "a comment in it": (lambda root: edit(root, LIBRARY, "# why", "# because"), []),
    "a docstring in it": (lambda root: edit(root, LIBRARY, "    return", '    "One."\n    return'), []),
    "a library file gone": (lambda root: (root / LIBRARY).unlink(), ["a_first", "b_second"]),
    "one not imported": (lambda root: edit(root, "livseg_lib/other.py", "return 1", "return 2"), []),
    "result gone": (lambda root: (root / RESULT).unlink(), ["a_first", "b_second"]),
    "result cut": (lambda root: edit(root, RESULT, "result", "res"), ["a_first", "b_second"]),
    "record gone": (lambda root: (root / RECORD).unlink(), ["a_first", "b_second"]),
    "run by hand": (lambda root: (root / RECORD).write_text('{"sources": []}'), ["a_first", "b_second"]),
    "splits": (lambda root: (root / "splits.csv").write_text("mine"), ["b_second"]),
    "splits gone": (lambda root: (root / "splits.csv").unlink(), ["b_second"]),
    "a scan more": (lambda root: (root / "scans" / "2.nii").touch(), ["a_first", "b_second"]),
    "another scan": (lambda root: (root / "scans" / "1.nii").write_text("x"), ["a_first", "b_second"]),
    "an edited scan": (lambda root: os.utime(root / "scans" / "1.nii", (9, 9)), ["a_first", "b_second"]),
    **{
        f"record {text}": (lambda root, text=text: (root / RECORD).write_text(text), ["a_first", "b_second"])
        for text in ("", "[]", '{"result": 1, "code": []}', "\0")
    },
}


def chain(root: Path) -> None:
    """Two notebooks, the second of which needs the first, run once on a folder of scans."""
    (root / "scans").mkdir()
    (root / "scans" / "1.nii").touch()
    add_notebook(root, "a_first", files=["{data}"])
    add_notebook(root, "b_second", needs=["a_first"], files=["splits.csv"])
    reproduce(root, pairs=["data=scans"])


@pytest.mark.parametrize("change", EVERY_CHANGE)
def test_what_is_up_to_date_is_left_out(root, executed, change):
    chain(root)
    assert executed == ["a_first", "b_second"]
    executed.clear()
    make, expected = EVERY_CHANGE[change]
    make(root)
    for again in (expected, []):
        reproduce(root, pairs=["data=scans"])
        assert executed == again
        executed.clear()


def test_other_parameters_packages_or_a_failure_run_a_notebook_again(root, executed, monkeypatch, capsys):
    chain(root)
    reproduce(root, pairs=["data=scans", "value=3"])
    assert executed[2:] == ["a_first", "b_second"]
    assert "changed: value 1 -> 3" in capsys.readouterr().out
    reproduce(root, pairs=["data=scans", "value=3", "dataset=phantom"])  # as its default is
    assert len(executed) == 4
    monkeypatch.setattr(runner, "made_with", lambda *names: {"python": "3.10", "keras": "99"})
    reproduce(root, pairs=["data=scans", "value=3"])
    assert len(executed) == 6

    with monkeypatch.context() as patch, pytest.raises(InputError, match="stopped"):
        patch.setattr(runner, "execute", Mock(side_effect=InputError("a_first", "stopped.")))
        reproduce(root, pairs=["data=scans", "value=3"], again=True)
    reproduce(root, pairs=["data=scans", "value=3"])
    assert executed[6:] == ["a_first", "b_second"]


def test_a_result_that_was_not_there_yet_counts_when_it_comes(root, executed):
    add_notebook(root, "a_first")
    add_notebook(root, "c_third")
    add_notebook(root, "b_second", needs=["a_first", "c_third"])
    for stems, expected in (
        (["a_first", "b_second"], ["a_first", "b_second"]),  # as for one system
        ([], ["c_third", "b_second"]),
        (["a_first", "b_second"], []),
        (["c_third"], ["c_third"]),
        ([], ["b_second"]),
    ):
        executed.clear()
        reproduce(root, *stems, again=stems == ["c_third"])
        assert executed == expected


def test_a_notebook_waits_for_those_before_it_also_where_one_between_them_is_left_out(root, executed):
    add_notebook(root, "c_third", minutes=1)
    add_notebook(root, "b_second", needs=["c_third"])
    add_notebook(root, "a_first", needs=["b_second"], minutes=3)
    reproduce(root, "a_first", "c_third", jobs=2)
    assert executed == ["c_third", "a_first"]


def test_what_changes_while_a_notebook_runs_counts_as_changed(root, executed, monkeypatch):
    execute = runner.execute

    def slowly(notebook, report, parameters):
        edit(root, LIBRARY, "return", "return 1 +")
        return execute(notebook, report, parameters)

    add_notebook(root, "a_first")
    monkeypatch.setattr(runner, "execute", slowly)
    reproduce(root)
    monkeypatch.setattr(runner, "execute", execute)
    reproduce(root)
    assert executed == ["a_first", "a_first"]


def test_a_plan_that_cannot_be_made_is_refused(root, executed):
    add_notebook(root, "a_first", needs=["nowhere"])
    with pytest.raises(InputError, match="needs nowhere"):
        reproduce(root)
    with pytest.raises(InputError, match="jobs: is -1"):
        reproduce(root, jobs=-1)
    (root / "notebooks" / "a_first.ipynb").write_text("[]")
    with pytest.raises(InputError, match="a_first"):
        reproduce(root)
    assert executed == []


def test_after_a_failure_nothing_is_started_and_what_runs_is_let_end(root, capfd):
    failing = "import os, pathlib\npathlib.Path('worker').write_text(str(os.getppid()))\n"
    beside = (
        "import pathlib, psutil, time\nworker = pathlib.Path('worker')\n"
        "while not worker.exists() or not worker.read_text(): time.sleep(0.1)\n"
        "while psutil.pid_exists(int(worker.read_text())): time.sleep(0.1)"
    )  # until the process of the failure has ended
    add_notebook(root, "a_fails", failing + "assert value == 2, 'as planned'", minutes=2)
    add_notebook(root, "b_beside", beside)
    add_notebook(root, "c_behind", needs=["a_fails"])
    add_notebook(root, "d_not_begun")
    assert main(["reproduce", "--run-name", "r", "--jobs", "2"]) == 2
    folders = RunFolders(root, "r")
    said = capfd.readouterr()
    assert "livseg: a_fails: stopped in cell 3: AssertionError: as planned" in said.err
    assert "== a_fails failed; waiting for b_beside" in said.err
    assert [path.stem for path in (folders.report / "records").iterdir()] == ["b_beside"]
    left = {path.name for path in folders.report.glob("*.ipynb")}
    assert left == {"a_fails.partial.ipynb", "b_beside.ipynb"}


def start(root: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "livseg_lib", "reproduce", "--run-name", "r", *options]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "LIVSEG_ROOT": str(root)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job; so would the run
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=root, env=environment, start_new_session=True, **pipes)


@pytest.mark.parametrize(
    ("ending", "code"),
    [("SIGINT", 130), pytest.param("SIGTERM", 143, marks=pytest.mark.slow), ("SIGKILL", -9)],
)
def test_an_interrupted_run_leaves_no_process_and_nothing_that_looks_finished(root, ending, code):
    wait = "import os, time, pathlib\npathlib.Path('kernel').write_text(str(os.getpid()))\n"
    add_notebook(root, "a_first", wait + "while pathlib.Path('wait').exists(): time.sleep(0.1)")
    (root / "wait").touch()
    running = start(root)
    while not (root / "kernel").exists() or not (root / "kernel").read_text():
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)
    family = psutil.Process(running.pid).children(recursive=True)
    assert int((root / "kernel").read_text()) in [process.pid for process in family]
    if ending == "SIGINT":
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to every process of the command
    else:
        running.send_signal(getattr(signal, ending))
    _, said = running.communicate(timeout=60)
    assert running.returncode == code
    assert psutil.wait_procs(family, timeout=15)[1] == []
    assert ending == "SIGKILL" or len(said.splitlines()) == 1, said
    assert not list((root / "reports" / "r").glob("records/*"))
    assert not (root / "reports" / "r" / "a_first.ipynb").exists()
    if ending == "SIGKILL":
        (root / "wait").unlink()
        again = start(root)
        assert again.communicate(timeout=300) and again.returncode == 0
        assert (root / "reports" / "r" / "records" / "a_first.json").exists()


def test_of_two_at_once_the_second_waits_and_finds_nothing_to_do(root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    body = "import os, pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.1)\n"
    add_notebook(root, "a_first", body + "open('runs', 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' ')")
    twins = [start(root), start(root)]
    assert connection.wait([twin.stderr for twin in twins], timeout=60)  # one says that it waits
    (root / "go").touch()
    said = [twin.communicate(timeout=120) for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0], said
    assert (root / "runs").read_text() == "5 "
    assert sorted("1 notebooks, all up to date" in out for out, _ in said) == [False, True]
    assert any("waiting for another process" in err for _, err in said)
