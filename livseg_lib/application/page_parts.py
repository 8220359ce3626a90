"""What stands on the app's page, and how it looks; nothing in it is fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from livseg_lib.application.shelf import Shelved
from livseg_lib.reporting.screen_slice import VIEW_WINDOWS

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
    """What the visitor gives; an offer to train where there is no system yet."""
    asked = {
        "files": gr.File(
            label="NIfTI, zip of a DICOM series (or its files), PNG or JPEG",
            file_count="multiple",
            file_types=FILE_TYPES,
        ),
        "model": gr.Dropdown(
            label="System",
            info="Dice on the test patients of its run, in brackets the run",
            choices=[(one.title, one.name) for one in systems],
            value=systems[0].name if systems else None,
            visible=bool(systems),
        ),
        "go": gr.Button("Outline", variant="primary", visible=bool(systems)),
    }
    asked["phantom"] = gr.Button("No scan at hand? Take a phantom", visible=bool(systems))
    with gr.Accordion("More", open=False):
        asked["series"] = gr.Textbox(
            label="DICOM series", info="Number or UID, where a file holds several", max_lines=1
        )
    with gr.Column(visible=not systems) as asked["untrained"]:
        gr.Markdown(
            "There is no trained system yet. The quick one learns from phantoms, synthetic scans: enough to "
            "see how everything works, not to find real tumours. It takes some minutes on two cores."
        )
        asked["train"] = gr.Button("Train the quick system", variant="primary")
        asked["log"] = gr.Textbox(label="Progress", lines=8, autoscroll=True, visible=False)
    return asked


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
