"""An answer in the words of the app's page."""

from __future__ import annotations

import html

import pandas as pd

from livseg_lib.application.answering import Answer

TUMOR_TITLES = {
    "tumor": "Tumour",
    "slice": "Slice",
    "volume_ml": "Volume (ml)",
    "longest_diameter_mm": "Longest diameter (mm)",
    "perpendicular_diameter_mm": "Perpendicular (mm)",
    "position": "Position in the liver",
    "mean_hu": "Mean HU",
}


STEPS = {
    "load": "Loading the system",
    "read": "Reading the scan",
    "predict": "Outlining",
    "measure": "Measuring",
}


def at_work(step: str) -> str:
    """What is being done, as HTML."""
    return f'<p role="status">{STEPS.get(step, "Writing the result")} ...</p>'


def refusal(sentence: str) -> str:
    """Why there is no answer, as HTML."""
    return f'<div class="verdict" role="alert">That did not work</div><p>{html.escape(sentence)}</p>'


def verdict(given: Answer) -> str:
    """Whether a tumour is suspected, and how that is known, as HTML."""
    presence = given.record["tumor_presence"]
    kind, text = {
        True: ("suspected", "Tumour suspected"),
        False: ("clear", "No tumour suspected"),
        None: ("", "Tumours were not looked for"),
    }[presence["suspected"]]
    probability = presence["probability"]
    sure = "" if probability is None else f" (probability {probability:.2f})"
    return (
        f'<div class="verdict {kind}" role="status">{text}{sure}</div><p>{html.escape(presence["how"])}</p>'
    )


def sentences(given: Answer) -> list[str]:
    """Measures of the liver, then what the reader should know of this case."""
    liver = given.record["measures"]
    amounts = [
        f"{title} {liver[name]:.{digits}f} ml"
        for name, title, digits in (("liver_ml", "liver", 0), ("tumor_ml", "tumours", 1))
        if liver.get(name) is not None
    ]
    measured = [", ".join(amounts).capitalize() + "."] if amounts else []
    return [*measured, *filter(None, [given.note]), *given.record["notes"], *given.record["cautions"]]


def tumor_table(tumors: pd.DataFrame) -> pd.DataFrame:
    columns = [name for name in TUMOR_TITLES if name in tumors]
    return tumors[columns].round(1).rename(columns=TUMOR_TITLES)
