"""The page in the browser: drop a scan or a slice, see what was found, take it away (system A's wish).

Everything stays on this machine: no analytics, no fonts or scripts from elsewhere. A result is deleted when
its tab is closed or the next one comes, all else within the hour, and everything when the app ends. A public
link exists only where it was asked for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while gradio is imported

import gradio as gr

from livseg_lib.application.answer_texts import refusal, sentences, tumor_table, verdict
from livseg_lib.application.answering import Answer, Refused, answer, loaded
from livseg_lib.application.page_parts import CSS, THEME, asking, showing
from livseg_lib.application.quick_training import train_quickly
from livseg_lib.application.shelf import find_shelved, shelved_systems
from livseg_lib.application.shown_scan import FOUND, ShownScan, keep_scan
from livseg_lib.application.visits import FORGET_AFTER_SECONDS, Visits
from livseg_lib.datasets.phantom import write_phantom
from livseg_lib.errors import InputError
from livseg_lib.reporting.surface_view import surface_figure

WARNING = "Research only. Not for clinical use."
LARGEST_UPLOAD = "2gb"
LONGEST_QUEUE = 16
SWEEP_SECONDS = 300.0
PHANTOM_SEED = 7
"""Of nobody that a system has learnt from."""
PROGRESS = gr.Progress()


def launch(reports: Path, port: int | None = None, share: bool = False) -> None:
    """Serve the page until it is stopped; on this machine alone unless `share` asks for a public link."""
    visits = Visits()
    os.environ["GRADIO_TEMP_DIR"] = str(visits.root / "gradio")  # where it keeps uploads and downloads
    threading.Thread(target=_warm_up, args=[reports], daemon=True).start()
    try:
        build_app(reports, visits).launch(
            server_port=port,
            share=share,
            max_file_size=LARGEST_UPLOAD,
            theme=THEME,
            css=CSS,
            footer_links=["api"],
            show_error=True,
        )
    finally:
        visits.close()


def build_app(reports: Path, visits: Visits) -> gr.Blocks:
    """The page, for the trained systems below `reports`."""
    forget = (int(SWEEP_SECONDS), int(FORGET_AFTER_SECONDS - SWEEP_SECONDS))
    with gr.Blocks(title="livseg", analytics_enabled=False, delete_cache=forget) as page:
        gr.HTML(f'<div class="warning">{WARNING} Nothing you drop here leaves this machine.</div>')
        gr.Markdown("# livseg\nDrop a CT scan or a slice: liver and tumours are outlined and measured.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                asked = asking(shelved_systems(reports))
            with gr.Column(scale=5, min_width=320):
                shown = showing()
        _connect(page, reports, visits, asked, shown)
        _serve_over_http(visits, reports)
    return page.queue(max_size=LONGEST_QUEUE, default_concurrency_limit=1)


def _warm_up(reports: Path) -> None:
    """The first visitor shall not wait for TensorFlow."""
    for shelved in shelved_systems(reports)[:1]:
        with suppress(InputError):  # whoever asks for it is told
            loaded(shelved.folder)


def _connect(page: gr.Blocks, reports: Path, visits: Visits, asked: dict, shown: dict) -> None:
    """What happens when."""
    private = {"api_visibility": "private"}

    def outline(files, model, series, request: gr.Request, progress=PROGRESS):
        return _outline(visits, reports, _Question(files, model, series, request.session_hash), progress)

    def picture(index, window, request: gr.Request):
        return _picture(visits, request.session_hash, index, window)

    def surface(request: gr.Request):
        return _surface(visits, request.session_hash)

    def forget(request: gr.Request):
        visits.forget(request.session_hash)

    inputs = [asked["files"], asked["model"], asked["series"]]
    names = ["verdict", "cautions", "controls", "slice", "picture", "tumors", "archive", "more", "record"]
    done = asked["go"].click(
        outline, inputs, [shown[name] for name in names], concurrency_id="predict", **private
    )
    done.success(surface, None, shown["surface"], **private)
    drawn = [shown["slice"], shown["window"]]
    for control in drawn:
        control.change(
            picture, drawn, shown["picture"], show_progress="hidden", concurrency_limit=4, **private
        )
    asked["phantom"].click(lambda: _phantom(visits), None, asked["files"], **private)
    fields = [asked[name] for name in ("log", "model", "go", "phantom", "untrained")]
    asked["train"].click(lambda: (yield from _train(reports)), None, fields, **private)
    page.load(lambda: _offer(reports), None, fields[1:], show_progress="hidden", **private)
    page.unload(forget)


@dataclass(frozen=True)
class _Question:
    """What one visitor asks."""

    files: list[str] | None
    model: str | None
    series: str | None
    visit: str


def _outline(visits: Visits, reports: Path, question: _Question, progress: gr.Progress) -> tuple:
    """Updates of what is shown."""
    try:
        given = _answer(visits, reports, question, lambda step: progress(0, desc=step))
    except Refused as error:
        return refusal(str(error)), "", *[gr.update(visible=False)] * 7
    scan, start = keep_scan(given.result, visits.folder(question.visit) / "shown")
    depth = len(given.result.labels)
    return (
        verdict(given),
        "\n".join(f"- {sentence}" for sentence in sentences(given)),
        gr.update(visible=True),
        gr.update(maximum=max(1, depth - 1), value=start, interactive=depth > 1, visible=True),
        gr.update(value=scan.picture(start, "liver"), visible=True),
        gr.update(value=tumor_table(given.result.tumors), visible=True),
        gr.update(value=str(given.archive), visible=True),
        gr.update(visible=True),
        gr.update(value=given.record, visible=True),
    )


def _answer(visits: Visits, reports: Path, question: _Question, on_step=lambda step: None) -> Answer:
    """Raises Refused with a sentence for the visitor."""
    try:
        model = find_shelved(reports, question.model).folder
        folder = visits.begin(question.visit)
        return answer(question.files or [], model, folder, (question.series or "").strip(), on_step)
    except InputError as error:
        raise Refused(f"{error.problem} {error.remedy}") from error
    except Refused:
        visits.forget(question.visit)
        raise


def _picture(visits: Visits, visit: str, index: int, window: str):
    folder = visits.folder(visit)
    return ShownScan(folder / "shown").picture(int(index), window) if folder else gr.skip()


def _surface(visits: Visits, visit: str) -> dict:
    """The 3D view; none for pictures and where nothing was found."""
    folder = visits.folder(visit)
    if folder is None:
        return gr.update(visible=False)
    scan = ShownScan(folder / "shown")
    try:
        figure = surface_figure({FOUND: scan.labels}, scan.spacing_mm) if scan.labels.any() else None
    except InputError:
        figure = None
    return gr.update(value=figure, visible=figure is not None)


def _phantom(visits: Visits) -> list[str]:
    """A synthetic scan to try, the same for everybody."""
    folder = visits.root / "phantom"
    write_phantom(folder, 1, PHANTOM_SEED, workers=1)
    return [str(folder / "volume-0.nii.gz")]


def _train(reports: Path) -> Iterator[tuple]:
    """Lines of the training as they come; at the end the system is there to be used."""
    for text in train_quickly():
        yield gr.update(value=text, visible=True), *[gr.update()] * 4
    yield gr.update(), *_offer(reports)


def _offer(reports: Path) -> tuple:
    """Updates of the fields "model", "go", "phantom" and "untrained": what can be used by now.

    Asked at every visit, as systems are trained while the page is up.
    """
    systems = shelved_systems(reports)
    choices = [(one.title, one.name) for one in systems]
    ready = gr.update(visible=bool(systems))
    model = gr.update(choices=choices, value=choices[0][1] if choices else None, visible=bool(systems))
    return model, ready, ready, gr.update(visible=not systems)


def _serve_over_http(visits: Visits, reports: Path) -> None:
    """The endpoint /predict: the record of one case, and a zip of its mask, measures, page and record."""

    def predict(files, system, series, request: gr.Request):
        visit = request.session_hash or os.urandom(16).hex()
        try:
            given = _answer(visits, reports, _Question(files, system, series, visit))
        except Refused as error:
            raise gr.Error(str(error), print_exception=False) from None
        return given.record, str(given.archive)

    with gr.Group(visible=False):  # components without a face: they check and carry what is sent
        inputs = [gr.File(file_count="multiple", label="files")]
        inputs += [gr.Textbox(label=name) for name in ("system", "series")]
        outputs = [gr.JSON(label="record"), gr.File(label="archive")]
        gr.Button().click(predict, inputs, outputs, api_name="predict", concurrency_id="predict")
