"""The page in the browser: drop a scan or a slice, see what was found, take it away (system A's wish).

Everything stays on this machine: no analytics, no fonts or scripts from elsewhere. A result is deleted when
its tab is closed or the next one comes, all else within the hour, and everything when the app ends. A public
link exists only where it was asked for.
"""

from __future__ import annotations

import html
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from livseg_lib import WARNING
from livseg_lib.application import answering
from livseg_lib.application.guard import LARGEST_UPLOAD_BYTES, Guard, failed
from livseg_lib.application.visits import FOUND, QuickTraining, ShownScan, Visits
from livseg_lib.datasets.phantom.writing import write_phantom
from livseg_lib.errors import InputError
from livseg_lib.reporting.patient_page import surface_figure
from livseg_lib.reporting.screen import VIEW_WINDOWS
from livseg_lib.shelf import Shelved, find_shelved, shelved_systems

FILE_TYPES = [".nii", ".gz", ".zip", ".dcm", ".png", ".jpg", ".jpeg"]
CSS = """
.warning {position: sticky; top: 0; z-index: 50; padding: 8px 14px; border-radius: 6px;
          background: #fff4d6; color: #5b3b00; border: 1px solid #e69f00; font-weight: 600}
.verdict {font-size: 1.25rem; font-weight: 600; padding: 10px 14px; border-radius: 6px; color: #1b1f24;
          border-left: 8px solid #6b7280; background: #f3f4f6}
.verdict.suspected {border-color: #d55e00; background: #fdece2}
.verdict.clear {border-color: #0072b2; background: #e6f1f8}
"""
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def asking(systems: Sequence[Shelved]) -> dict[str, gr.components.Component]:
    """What the visitor gives; an offer to train where nothing was trained here yet."""
    controls = {
        "files": gr.File(
            label="NIfTI, zip of a DICOM series (or its files), PNG or JPEG",
            file_count="multiple",
            file_types=FILE_TYPES,
        ),
        "model": gr.Dropdown(
            label="System",
            info="Dice on the test patients of its run, in brackets the run",
            choices=[(system.title, system.name) for system in systems],
            value=systems[0].name,
        ),
        "go": gr.Button("Outline", variant="primary"),
        "phantom": gr.Button("No scan at hand? Take a phantom"),
    }
    with gr.Accordion("More", open=False):
        info = "Number or UID, where a file holds several"
        controls["series"] = gr.Textbox(label="DICOM series", info=info, max_lines=1)
    with gr.Column(visible=_untrained(systems)) as controls["untrained"]:
        gr.Markdown(
            "The model on board finds livers alone. The quick system looks for tumours, too, but learns from "
            "phantoms, synthetic scans: enough to see how everything works, not to find real tumours."
        )
        controls["train"] = gr.Button("Train the quick system", variant="primary")
        controls["log"] = gr.Textbox(label="Progress", lines=8, autoscroll=True, visible=False)
    return controls


def showing() -> dict[str, gr.components.Component]:
    """What is answered."""
    shown: dict = {"verdict": gr.HTML(), "cautions": gr.Markdown()}
    with gr.Row(visible=False) as shown["controls"]:
        shown["slice"] = gr.Slider(0, 1, step=1, label="Slice, from feet to head", scale=3)
        shown["window"] = gr.Radio(list(VIEW_WINDOWS), value="liver", label="Window", scale=2)
    shown["picture"] = gr.Image(show_label=False, visible=False, format="png", buttons=["fullscreen"])
    shown["tumors"] = gr.Dataframe(label="Tumours", visible=False, interactive=False)
    shown["surface"] = gr.Plot(label="In 3D", visible=False)
    shown["archive"] = gr.File(label="Masks, measures, page and record (zip)", visible=False)
    with gr.Accordion("Record of this answer", open=False, visible=False) as shown["more"]:
        shown["record"] = gr.JSON(show_label=False)
    return shown


os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while gradio is imported

LONGEST_QUEUE = 16
SESSIONS_KEPT = 100
"""By Gradio, which takes 65 KB for each and would keep 10,000. Nothing of ours is in them."""
STEPS = {
    "load": "Loading the system",
    "read": "Reading the scan",
    "predict": "Outlining",
    "measure": "Measuring",
}
_PHANTOM_SEED = 7  # of nobody that a system has learnt from
RESULT_PARTS = ("verdict", "cautions", "controls", "slice", "picture", "tumors", "archive", "more", "record")
"""What `Desk.outline` updates, in this order."""


def launch(
    reports: Path,
    visits: Visits,
    port: int | None = None,
    share: bool = False,
    hosts: Sequence[str] = (),
    workers: int = 1,
) -> None:
    """Serve the page until it is stopped; on this machine alone unless `share` asks for a public link.

    `hosts` are further names under which a browser finds it, as those of a proxy; so many `workers` answer
    at a time, each a process with a system in memory.
    """
    if workers < 1:
        raise InputError("workers", f"are {workers}.", "Give 1 or more.")
    if port is not None and not 0 < port < 2**16:
        raise InputError("port", f"is {port}.", "Give one from 1 to 65535.")
    with closing(Desk(reports, visits, answering.Workers(visits.root, workers))) as desk:
        for shelved in shelved_systems(reports)[:1]:
            desk.workers.start(shelved.folder)
        try:
            page = open_page(desk, hosts, server_port=port, share=share)
        except OSError as error:
            problem = f"{port or 'None from 7860 on'} cannot be opened: it is in use, or not for everybody."
            raise InputError("--port", problem, "Choose another.") from error
        try:
            threading.Event().wait()
        finally:
            desk.close()
            page.close(verbose=False)


@dataclass(frozen=True)
class Desk:
    """What the page works with, and what it answers. A `request` names its visit (Gradio's session)."""

    reports: Path
    visits: Visits
    workers: answering.Workers
    training: QuickTraining = field(default_factory=QuickTraining)

    def close(self) -> None:
        """End all work and delete all that was kept."""
        self.workers.close()
        self.training.stop()
        self.visits.close()

    def outline(self, files: list | None, model: str | None, series: str | None, request: gr.Request):
        """Updates of RESULT_PARTS: what is being done, again and again, then the answer."""
        hidden, visit = [gr.update(visible=False)] * 7, request.session_hash
        try:
            with closing(self._answer(files, model, series, visit)) as steps:
                for step in steps:
                    if isinstance(step, str):
                        yield f'<p role="status">{STEPS.get(step, "Writing the result")} ...</p>', "", *hidden
        except answering.Refused as error:
            why = f"<p>{html.escape(str(error))}</p>"
            yield f'<div class="verdict" role="alert">That did not work</div>{why}', "", *hidden
            return
        answer, scan = step, ShownScan(self.visits.folder(visit) / "shown")
        last, several = max(1, answer.depth - 1), answer.depth > 1
        yield (
            answering.verdict_html(answer),
            "\n".join(f"- {sentence}" for sentence in answering.sentences(answer)),
            gr.update(visible=True),
            gr.update(maximum=last, value=answer.start, interactive=several, visible=True),
            gr.update(value=scan.picture(answer.start, "liver"), visible=True),
            gr.update(value=answering.tumor_table(answer.tumors), visible=True),
            gr.update(value=str(answer.archive), visible=True),
            gr.update(visible=True),
            gr.update(value=answer.record, visible=True),
        )

    def predict(self, files: list | None, system: str | None, series: str | None, request: gr.Request):
        """Over HTTP: the record of one case, and a zip of its mask, measures, page and record."""
        visit = request.session_hash or os.urandom(16).hex()
        try:
            with closing(self._answer(files, system, series, visit)) as steps:
                for message in steps:
                    is_step = isinstance(message, str)
                    yield (gr.skip(), gr.skip()) if is_step else (message.record, str(message.archive))
        except answering.Refused as error:
            raise gr.Error(str(error), print_exception=False) from None

    def _answer(
        self, files: list | None, model: str | None, series: str | None, visit: str
    ) -> Iterator[str | answering.Answer]:
        """As `Workers.ask`. What was begun for a visitor who does not stay for the answer is deleted."""
        try:
            system = find_shelved(self.reports, model).folder
        except InputError as error:
            raise answering.Refused(f"{error.problem} {error.remedy}") from error
        folder, message = self.visits.begin(visit), ""
        try:
            with closing(self.workers.ask(files or [], system, folder, (series or "").strip())) as steps:
                for message in steps:
                    yield message
        finally:
            if isinstance(message, str):
                self.visits.forget(visit)
                shutil.rmtree(folder, ignore_errors=True)  # where its tab was closed, it was forgotten before

    def picture(self, index: float, window: str, request: gr.Request):
        """A slice of the visit's scan; nothing where that is gone."""
        folder = self.visits.folder(request.session_hash)
        return ShownScan(folder / "shown").picture(int(index), window) if folder else gr.skip()

    def surface(self, request: gr.Request) -> dict:
        """The 3D view; none for pictures and where nothing was found."""
        folder = self.visits.folder(request.session_hash)
        if folder is None:
            return gr.update(visible=False)
        scan = ShownScan(folder / "shown")
        try:
            figure = surface_figure({FOUND: scan.labels}, scan.spacing_mm) if scan.labels.any() else None
        except InputError:
            figure = None
        return gr.update(value=figure, visible=figure is not None)

    def forget(self, request: gr.Request) -> None:
        """Delete what the visit left."""
        self.visits.forget(request.session_hash)

    def phantom(self) -> list[str]:
        """A synthetic scan to try, the same for everybody."""
        folder = self.visits.root / "phantom"
        write_phantom(folder, 1, _PHANTOM_SEED, workers=1)
        return [str(folder / "volume-0.nii.gz")]

    def train(self) -> Iterator[tuple]:
        """Lines of the training as they come; at the end the system is there to be used. There is none where
        one was trained already, whoever asks: the button is not offered then."""
        if _untrained(shelved_systems(self.reports)):
            for text in self.training.run():
                yield gr.update(value=text, visible=True), *[gr.update()] * 2
        yield gr.update(), *self.offer()

    def offer(self) -> tuple:
        """Updates of the fields "model" and "untrained": what can be used by now. Asked at every visit, as
        systems are trained while the page is up."""
        systems = shelved_systems(self.reports)
        choices = [(system.title, system.name) for system in systems]
        return gr.update(choices=choices, value=choices[0][1]), gr.update(visible=_untrained(systems))


def _untrained(systems: Sequence[Shelved]) -> bool:
    """Whether there is none but those on board."""
    return not any(system.run for system in systems)


def open_page(desk: Desk, hosts: Sequence[str] = (), **options: object) -> gr.Blocks:
    """Serve the page in a thread; `options` are those of `gradio.Blocks.launch`."""
    page = _build_page(desk)
    guard = Middleware(Guard, page, desk.visits.uploads, tuple(hosts), desk.workers.counts)
    fixed = {
        "prevent_thread_lock": True,
        "app_kwargs": {"middleware": [guard], "exception_handlers": {500: failed}},
        "max_file_size": LARGEST_UPLOAD_BYTES,
        "state_session_capacity": SESSIONS_KEPT,
        "theme": THEME,
        "css": CSS,
        "footer_links": ["api"],
        "run_history": False,  # it would keep results in the browser
        "enable_monitoring": False,
        "ssr_mode": False,  # no server beside the guarded one
        "num_workers": 0,
        "mcp_server": False,
        "_frontend": False,  # or Gradio gives up where a busy machine takes 3 seconds for the first page
    }
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")  # Gradio asks the page whether it is up
    os.environ["no_proxy"] = ",".join([*filter(None, [known]), "127.0.0.1", "localhost"])
    page.launch(**fixed | options)
    page.share = False  # the page for public links loads its script from elsewhere; this one suits them, too
    return page


def _build_page(desk: Desk) -> gr.Blocks:
    with gr.Blocks(title="livseg", analytics_enabled=False) as page:
        gr.HTML(f'<div class="warning">{WARNING} Nothing you drop here leaves this machine.</div>')
        gr.Markdown("# livseg\nDrop a CT scan or a slice: what the system finds is outlined and measured.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                controls = asking(shelved_systems(desk.reports))
            with gr.Column(scale=5, min_width=320):
                shown = showing()
        private = {"api_visibility": "private"}
        at_once = {"concurrency_id": "predict", "concurrency_limit": desk.workers.count}
        inputs = [controls[name] for name in ("files", "model", "series")]
        results = [shown[name] for name in RESULT_PARTS]
        done = controls["go"].click(desk.outline, inputs, results, **at_once, **private)
        done.success(desk.surface, None, shown["surface"], **private)
        event = {"inputs": [shown["slice"], shown["window"]], "outputs": shown["picture"]}
        for control in event["inputs"]:
            control.change(desk.picture, **event, show_progress="hidden", concurrency_limit=4, **private)
        controls["phantom"].click(desk.phantom, None, controls["files"], **private)
        fields = [controls[name] for name in ("log", "model", "untrained")]
        controls["train"].click(desk.train, None, fields, concurrency_limit=4, **private)
        page.load(desk.offer, None, fields[1:], show_progress="hidden", **private)
        page.unload(desk.forget)
        with gr.Group(visible=False):  # components without a face: they check and carry what is sent
            sent = [gr.File(file_count="multiple", label="files")]
            sent += [gr.Textbox(label=name) for name in ("system", "series")]
            outputs = [gr.JSON(label="record"), gr.File(label="archive")]
            gr.Button().click(desk.predict, sent, outputs, api_name="predict", **at_once)
    return page.queue(max_size=LONGEST_QUEUE, default_concurrency_limit=1, api_open=False)
