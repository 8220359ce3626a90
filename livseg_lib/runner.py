"""Runs notebooks in the order of what they need, some at a time, and leaves out what is up to date.

A notebook's metadata say under "livseg" which notebooks it `needs`, the `minutes` that it takes at its
defaults' sizes (in how many `trainings`, where not one; what `each` item of some parameters adds, such as
{"minutes": 2, "of": ["systems", "folds"], "at_a_time": "workers"}), and which `files` it reads besides. When
it has run well, its record (reports/RUN/records/) is written last: digests of its code, of the library files
that it imported, of its files and of the results that it needs, its parameters and the versions of packages.
Where one of these differs, it runs again.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from graphlib import TopologicalSorter
from itertools import cycle, islice
from pathlib import Path

from livseg_lib.backend import devices_wanted
from livseg_lib.errors import InputError, format_duration, require_extra
from livseg_lib.files import file_checksum, locked, text_checksum, write_json
from livseg_lib.notebooks import (
    bare_code,
    choose_parameters,
    code_digest,
    declared_parameters,
    execute,
    read_notebook,
)
from livseg_lib.processes import end_family, one_apart
from livseg_lib.provenance import changes, made_with
from livseg_lib.runs import PACKAGES, RunFolders, project_root

LIBRARY = Path(__file__).resolve().parent
MOST_REASONS = 3  # told of a notebook that is out of date
ENVIRONMENT = {
    **{"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(8 * 1024**3)},
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
"""Lets glibc keep large buffers of a training step. With TensorFlow 2.21 a small ResNet-50 gains 7 to 13 %
(30 steps: 5.5 s beside 5.9 and 6.3 s), a plain U-Net nothing. And kernels as old as Colab's would begin each
notebook with warnings of their debugger."""
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True)
class _Step:
    """One notebook of a run with the values that differ from its defaults; the rest is of its metadata."""

    notebook: Path
    parameters: dict[str, object]
    needs: tuple[str, ...] = ()
    minutes: float = 1.0  # at its defaults' sizes, on the machine of STEP_MILLISECONDS
    trainings: int = 1  # how often it learns for the parameter `minutes`, where it has one
    files: tuple[str, ...] = ()
    """Relative to the repository, with parameters in braces. Of a folder, names, sizes and times count."""
    each: Mapping = field(default_factory=dict)
    """Further `minutes`, for every item `of` some parameters, which are lists or numbers of items; a
    parameter may say how many come `at_a_time`."""

    @property
    def stem(self) -> str:
        """Name of the notebook."""
        return self.notebook.stem


def run_notebooks(
    stems: list[str], run_name: str, profile: str, given: dict, pairs: list[str], jobs: int = 0, again=False
) -> Path:
    """Run those of the notebooks called `stems` that are out of date (all with `again`); returns the report.

    `given` and `pairs` (NAME=VALUE texts) are parameters over those of `profile`, a name or a YAML file.
    Runs `jobs` at a time; 0 is one a GPU, or 2 where there is none. Another process that makes the same run
    is waited for. Raises InputError where one fails or cannot be configured.
    """
    folder = project_root() / "notebooks"
    missing = [stem for stem in stems if not (folder / f"{stem}.ipynb").exists()]
    if missing or not stems:
        problem = f"holds no {missing[0] if missing else 'notebook'}: this is not the repository of livseg."
        raise InputError(folder, problem, "Go there, or set LIVSEG_ROOT to it.")
    require_extra("notebooks", "papermill")
    if jobs < 0:
        raise InputError("jobs", f"is {jobs}.", "Write 1 or more.")
    jobs = jobs or len(gpus_to_use()) or (2 if devices_wanted() == 1 else 1)
    chosen = Path(profile) if profile.endswith((".yaml", ".yml")) else folder / "params" / f"{profile}.yaml"
    folders = RunFolders(project_root(), run_name)
    values = {**given, "run_name": run_name}
    parameters = choose_parameters(sorted(folder.glob("*.ipynb")), chosen, values, pairs)
    steps = {stem: read_step(folder / f"{stem}.ipynb", parameters[stem]) for stem in sorted(stems)}
    with locked(folders.report / "run", folders.report):
        reasons = dict.fromkeys(steps, "asked for") if again else reasons_to_run(steps, folders)
        to_run = {stem: step for stem, step in steps.items() if reasons[stem]}
        share_cores(jobs)
        to_run = in_minutes_here(to_run)
        _print_plan(to_run, len(steps), reasons, jobs)
        run_steps(to_run, folders, jobs)
    return folders.report


def gpus_to_use() -> list[str]:
    """NVIDIA's GPUs that CUDA_VISIBLE_DEVICES names, or all; found without taking memory of any. As many in
    each text as `LIVSEG_DEVICES` says: "0,1"."""
    named, together = os.environ.get("CUDA_VISIBLE_DEVICES"), devices_wanted()
    if named is None:
        named = ",".join(str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*")))
    gpus = [number for number in named.split(",") if number not in ("", "-1")]
    together = together or len(gpus) or 1
    return [",".join(gpus[first:][:together]) for first in range(0, len(gpus) - together + 1, together)]


def read_step(notebook: Path, parameters: dict[str, object]) -> _Step:
    """The step of `notebook`. Raises InputError where it needs one that is not beside it."""
    facts = read_notebook(notebook)["metadata"].get("livseg", {})
    needs, files = tuple(facts.get("needs", ())), tuple(facts.get("files", ()))
    for need in needs:
        if not notebook.with_name(f"{need}.ipynb").exists():
            raise InputError(notebook, f"needs {need}, which is not there.", "Mend its metadata.")
    numbers = float(facts.get("minutes", 1)), int(facts.get("trainings", 1))
    return _Step(notebook, parameters, needs, *numbers, files, facts.get("each", {}))


STEP_MILLISECONDS = 55.0
"""Of `milliseconds_a_step`, one processor, on the machine that the notebooks' minutes are of."""
LEARNING = 0.75  # share of a training notebook's minutes; the rest prepares, predicts and draws
WORTH_TIMING_MINUTES = 5.0
"""The length of a shorter run is estimated without timing a step, which takes ten seconds."""


def in_minutes_here(steps: Mapping[str, _Step]) -> dict[str, _Step]:
    """`steps` with the minutes that they should take on this device, at the sizes of their parameters.

    Where that is long, a step of a training is timed, and said. Trainings count by their pictures, or by
    `minutes` where that is given, the rest by the patients; that a network is larger is not counted.
    """
    pace = 1.0
    if sum(step.minutes for step in steps.values()) > WORTH_TIMING_MINUTES:
        try:
            with one_apart() as process:
                pace = process.submit(_time_a_step).result() / STEP_MILLISECONDS
            text = f"a training step takes {pace:.2g} times as long here as where the plan was measured"
        except Exception as error:  # a plan is no reason to end a run that may need no network
            text = f"no training step could be timed here ({error}): the minutes are those of another machine"
        print(text, flush=True)
    patients = 1.0
    for step in steps.values():  # one draws the patients, all look at them
        if "n_patients" in step.parameters:
            patients = step.parameters["n_patients"] / declared_parameters(step.notebook)["n_patients"]
    minutes = {stem: expected_minutes(step, pace, patients) for stem, step in steps.items()}
    return {stem: replace(step, minutes=minutes[stem]) for stem, step in steps.items()}


def _time_a_step() -> float:
    from livseg_lib.models.cost import milliseconds_a_step

    return milliseconds_a_step()


def expected_minutes(step: _Step, pace: float, patients: float = 1.0) -> float:
    """Minutes of `step` where a training step takes `pace` times as long, for `patients` times as many."""
    usual = declared_parameters(step.notebook)
    chosen, learns = usual | step.parameters, _pictures(usual)
    items = (chosen[name] for name in step.each.get("of", ()))
    counts = [len(each) if isinstance(each, list) else each for each in items]
    at_a_time = chosen.get(step.each.get("at_a_time"), 1)
    minutes = step.minutes + step.each.get("minutes", 0) * math.prod(counts) / at_a_time
    rest = minutes * pace * patients * (1 - LEARNING * bool(learns))
    if chosen.get("minutes") is not None:
        return rest + chosen["minutes"] * step.trainings
    return rest + minutes * pace * LEARNING * (_pictures(chosen) / learns if learns else 0)


def _pictures(parameters: Mapping[str, object]) -> float:
    """Pictures that a notebook learns from, by its parameters: epochs times what an epoch shows."""
    numbers = [(name, value) for name, value in parameters.items() if isinstance(value, int)]
    shown = [value for name, value in numbers if name.endswith("_per_epoch")]
    return sum(value for name, value in numbers if name.endswith("_epochs")) * sum(shown) / max(len(shown), 1)


def reasons_to_run(steps: Mapping[str, _Step], folders: RunFolders) -> dict[str, str]:
    """Why each notebook is out of date, and "" for those that are not, in an order in which they can run."""
    reasons, graph = {}, _graph(steps)
    for stem in TopologicalSorter(graph).static_order():
        waits_for = [need for need in graph[stem] if reasons.get(need)]
        reasons[stem] = f"after {', '.join(waits_for)}" if waits_for else _reason(steps[stem], folders)
    return reasons


def _reason(step: _Step, folders: RunFolders) -> str:
    record = _read_record(folders.record(step.stem))
    if not record:
        return "not run yet"
    if "result" not in record:
        return "run by hand since"
    if record["result"] != digest_of(folders.report / step.notebook.name):
        return "its result is gone or changed"
    try:
        before = {name: record[name] for name in ("settings", "libraries", "code")}
        sources = [name for name in before["code"] if name.startswith(f"{LIBRARY.name}/")]
        found = changes(before, _made_by(step, folders, sources))
    except (KeyError, TypeError, AttributeError):
        return "its record cannot be read"
    more = f" and {len(found) - MOST_REASONS} more" if len(found) > MOST_REASONS else ""
    return "changed: " + ", ".join(found[:MOST_REASONS]) + more if found else ""


def _read_record(path: Path) -> dict:
    with suppress(OSError, ValueError):
        if isinstance(found := json.loads(path.read_text(encoding="utf-8")), dict):
            return found
    return {}


def _made_by(step: _Step, folders: RunFolders, sources: Iterable[str]) -> dict:
    """All that makes the result of `step`, as it is now; `sources`: files of the library that count."""
    settings = declared_parameters(step.notebook) | step.parameters
    files = filter(None, (pattern.format_map(settings) for pattern in step.files))
    code = {"code of the notebook": code_digest(step.notebook)}
    code |= {f"result of {need}": digest_of(folders.report / f"{need}.ipynb") for need in step.needs}
    code |= {name: digest_of(folders.root / Path(name).expanduser()) for name in files}
    code |= {name: digest_of(LIBRARY.parent / name) for name in sources}
    return {"settings": settings, "libraries": made_with(*PACKAGES), "code": code}


def digest_of(path: Path) -> str:
    """SHA-256 of what `path` holds, of a .py file without comments; "" where there is nothing."""
    if path.is_dir():
        stats = [(each.relative_to(path), each.stat()) for each in sorted(path.rglob("*")) if each.is_file()]
        return text_checksum(repr([(str(name), stat.st_size, int(stat.st_mtime)) for name, stat in stats]))
    if not path.is_file():
        return ""
    return _file_digest(path, path.stat().st_mtime_ns, path.stat().st_size)


@cache
def _file_digest(path: Path, changed_ns: int, size: int) -> str:
    is_code = path.suffix == ".py"
    return text_checksum(bare_code(path.read_text(encoding="utf-8"))) if is_code else file_checksum(path)


def run_step(step: _Step, folders: RunFolders, before: dict) -> None:
    """Run one notebook and write its record last. `before`: `_made_by` just now, with the whole library."""
    folders.record(step.stem).unlink(missing_ok=True)
    print(f"== {step.stem}", flush=True)
    result = execute(step.notebook, folders.report, step.parameters)
    imported = _read_record(folders.record(step.stem)).get("sources", list(before["code"]))
    after = _made_by(step, folders, ())["code"]  # a file that the notebook itself has made
    kept = {name: digest for name, digest in before["code"].items() if name in imported or name in after}
    code = {name: digest or after.get(name, "") for name, digest in kept.items()}
    write_json(folders.record(step.stem), before | {"code": code, "result": digest_of(result)})


def share_cores(jobs: int) -> None:
    """Every notebook gets its share of them: networks that quarrel over cores cost a fifth more."""
    share = str(max((os.cpu_count() or 1) // jobs, 1))
    for name, value in (ENVIRONMENT | dict.fromkeys(THREADS, share)).items():
        os.environ.setdefault(name, value)


def run_steps(steps: Mapping[str, _Step], folders: RunFolders, jobs: int) -> None:
    """Run all `steps`, each in a process of its own, `jobs` at a time, those of the longest chain first.

    After a failure no other is started, those under way are let end, and the failure is raised; an interrupt
    ends all at once. Where there are GPUs each sees one, taken in turn.
    """
    sorter = TopologicalSorter(_graph(steps))
    sorter.prepare()
    clock, chains = _Clock(steps, jobs), chain_minutes(steps, {stem: steps[stem].minutes for stem in steps})
    ready: list[str] = []
    free_gpus = [*islice(cycle(gpus_to_use() or [None]), jobs)]
    running: dict[Future, tuple[str, str | None]] = {}
    failures: list[BaseException] = []
    try:
        while True:
            ready = sorted([*ready, *sorter.get_ready()], key=lambda stem: (-chains[stem], stem))
            while ready and len(running) < jobs and not failures:
                stem, gpu = ready.pop(0), free_gpus.pop(0)
                running[_start(steps[stem], folders, gpu)] = stem, gpu
                clock.began[stem] = time.monotonic()
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                (stem, gpu), failure = running.pop(future), future.exception()
                free_gpus.append(gpu)
                if failure is None:
                    sorter.done(stem)
                    print(clock.end(stem), flush=True)
                    continue
                if isinstance(failure, BrokenProcessPool):
                    problem = "was ended from outside, most likely because memory ran out."
                    remedy = "Start again with --jobs 1 (JOBS=1); what is finished is kept."
                    failure = InputError(stem, problem, remedy)
                failures.append(failure)
                rest = f"; waiting for {', '.join(stem for stem, _ in running.values())}" if running else ""
                print(f"== {stem} failed{rest}", file=sys.stderr, flush=True)
    except BaseException:
        for worker in multiprocessing.active_children():
            end_family(worker.pid)
        raise
    for failure in failures[1:]:
        print(f"livseg: {failure}", file=sys.stderr)
    if failures:
        raise failures[0]


def _start(step: _Step, folders: RunFolders, gpu: str | None) -> Future:
    library = [path.relative_to(LIBRARY.parent).as_posix() for path in sorted(LIBRARY.rglob("*.py"))]
    pool = one_apart()
    future = pool.submit(_run_deaf, step, folders, _made_by(step, folders, library), gpu)
    pool.shutdown(wait=False)  # the process ends with its work
    return future


def _run_deaf(step: _Step, folders: RunFolders, before: dict, gpu: str | None) -> None:
    """In a process of its own: Ctrl-C is for the one that started it, which ends this one and its kernel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    run_step(step, folders, before)


def _graph(steps: Mapping[str, _Step]) -> dict[str, list[str]]:
    """What each waits for among `steps`, also by way of notebooks that are not among them."""

    def behind(step: _Step) -> Iterator[str]:
        for need in step.needs:
            if need in steps:
                yield need
            else:
                yield from behind(read_step(step.notebook.with_name(f"{need}.ipynb"), {}))

    return {stem: [*dict.fromkeys(behind(step))] for stem, step in steps.items()}


def chain_minutes(steps: Mapping[str, _Step], minutes: Mapping[str, float]) -> dict[str, float]:
    """Minutes from the start of each step to the end of the longest chain of steps that it begins."""
    chains, graph = {}, _graph(steps)
    for stem in reversed([*TopologicalSorter(graph).static_order()]):
        behind = [chain for other, chain in chains.items() if stem in graph[other]]
        chains[stem] = minutes[stem] + max(behind, default=0.0)
    return chains


class _Clock:
    """The time left, by the minutes that steps should take and the pace of those that have ended."""

    def __init__(self, steps: Mapping[str, _Step], jobs: int) -> None:
        self.left, self.jobs, self.began = dict(steps), jobs, {}
        self.took = self.expected = 0.0

    def end(self, stem: str) -> str:
        """A step has ended; says so, and what is left."""
        minutes = (time.monotonic() - self.began.pop(stem)) / 60
        self.took, self.expected = self.took + minutes, self.expected + self.left.pop(stem).minutes
        rest = f"{len(self.left)} to go, {_about(self.minutes_left())}" if self.left else "all done"
        return f"== {stem}: {format_duration(60 * minutes)}; {rest}"

    def minutes_left(self) -> float:
        """All that is left shared out to the jobs, or the longest chain where that takes longer."""
        now, pace = time.monotonic(), self.took / self.expected if self.expected else 1.0
        ran = {stem: (now - self.began.get(stem, now)) / 60 for stem in self.left}
        minutes = {}
        for stem, step in self.left.items():  # what runs longer than the others' pace says goes by its plan
            expected = pace * step.minutes if ran[stem] <= pace * step.minutes else step.minutes
            minutes[stem] = max(0.0, expected - ran[stem])
        longest_chain = max(chain_minutes(self.left, minutes).values(), default=0.0)
        return max(sum(minutes.values()) / self.jobs, longest_chain)


def _about(minutes: float) -> str:
    return f"about {format_duration(60 * max(1, round(minutes))).removesuffix(' 00 s')}"


def _print_plan(to_run: Mapping[str, _Step], count: int, reasons: Mapping[str, str], jobs: int) -> None:
    if not to_run:
        print(f"{count} notebooks, all up to date")
        return
    time_needed = f"{_about(_Clock(to_run, jobs).minutes_left())}, {jobs} at a time"
    print(f"{count} notebooks, {count - len(to_run)} up to date, {time_needed}")
    for stem, step in to_run.items():
        print(f"  {stem:24}{step.minutes:5.1f} min  {reasons[stem]}")
    sys.stdout.flush()


def print_summary(report: Path) -> None:
    """A small table of the systems, and the page to open."""
    import pandas as pd

    table = report / "tables" / "systems.csv"
    columns = ["system", "target", "n_test_patients", "dice_per_case"]
    columns += ["dice_per_case_low", "dice_per_case_high", "published_value", "train_seconds"]
    if table.exists():
        systems = pd.read_csv(table).query("split_by == 'patient' and target in ('liver', 'tumor')")
        print(systems[columns].round(3).to_string(index=False, na_rep="-"))
        print("Dice: mean over test patients, 95 % interval; published figures: other data, other protocol.")
    print(f"Research only, not for clinical use. Open {report / 'index.html'}")
