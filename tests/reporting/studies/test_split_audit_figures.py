from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.figures import save_figure
from livseg_lib.reporting.studies.split_audit import (
    inflation_sentence,
    protocol_colours,
    split_audit_inflation,
    split_audit_scores,
    split_audit_why,
)

PROTOCOLS = ["slice, tumour only", "slice", "patient, tumour only", "patient"]
METRICS = ["dice", "loss", "precision"]


def row(difference, low, high, metric="dice", n_patients=24, p=0.01):
    unit = "loss" if metric == "loss" else "points"
    return {"metric": metric, "difference": difference, "low": low, "high": high, "unit": unit} | {
        "n_patients": n_patients,
        "p_holm": p,
        "question": "the split, all slices",
    }


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (row(28.04, 20.1, 36.5), ["Dice: +28.0 points", "+20.1 to +36.5, p 0.01 after", "first is better"]),
        (row(-5, -8, -1), ["−5.0 points", "24 patients", "first is worse"]),
        (row(3, -1, 7), ["no difference is shown"]),
        (row(3, 1, 7, p=0.05), ["no difference is shown"]),
        (row(-0.3, -0.4, -0.2, "loss"), ["loss: −0.300 (", "first is better"]),
        (row(9, np.nan, np.nan, n_patients=1), ["1 patients are too few"]),
    ],
)
def test_sentences_say_what_the_numbers_say(found, words):
    sentence = inflation_sentence(found)
    assert all(word in sentence for word in words)
    assert ("the first is" in sentence) != ("no difference" in sentence or "too few" in sentence)


def test_protocols_keep_apart_by_slice_and_by_patient():
    four, two = protocol_colours(PROTOCOLS), protocol_colours(["slice", "patient"])
    assert len(set(four.values())) == 4 and list(four) == PROTOCOLS
    assert two["slice"] == four["slice, tumour only"] and two["patient"] == four["patient, tumour only"]


def values():
    rows = [
        {"protocol": protocol, "metric": metric, "value": 0.5, "low": 0.4, "high": 0.6, "over_slices": 0.55}
        for protocol in PROTOCOLS
        for metric in METRICS
    ]
    return pd.DataFrame(rows)


def test_scores_stand_beside_the_published_ones(tmp_path):
    figure = split_audit_scores(values(), {"dice": ("C", 0.85), "loss": ("C", 0.16)})
    scores, loss = figure.axes
    assert [label.get_text() for label in scores.get_yticklabels()] == ["Dice", "precision"]
    assert [text.get_text() for text in scores.texts + loss.texts] == ["C", "C"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:4] == PROTOCOLS and len(legend) == 6
    assert save_figure(figure, tmp_path, "scores").stat().st_size > 5000


def test_each_question_has_a_panel_with_dots_at_its_differences(tmp_path):
    table = pd.DataFrame(
        [row(12, 8, 16), row(-0.2, -0.3, -0.1, "loss"), row(np.nan, np.nan, np.nan, "precision")]
    )
    tables = {"U-Net": table, "copyist": table.assign(difference=50.0)}
    figure = split_audit_inflation(tables)
    (panel,) = figure.axes
    assert panel.get_title("left") == "the split,\nall slices"
    dots = {line.get_label(): line.get_xdata()[0] for line in panel.lines if line.get_label() in tables}
    assert dots == {"U-Net": 12, "copyist": 50}
    assert [label.get_text() for label in panel.get_yticklabels()] == ["Dice", "precision"]
    save_figure(figure, tmp_path, "inflation")


def test_why_shows_a_panel_a_pair(tmp_path):
    shares = pd.DataFrame(
        [{"protocol": name, "distance": near, "share": 0.5} for name in PROTOCOLS for near in (1, 2, 5)]
    )
    rows = [
        {"pair": pair, "protocol": name, "from_slices": first, "to_slices": last}
        | {"value": 0.5, "low": 0.4, "high": 0.6, "n_slices": 9, "n_patients": 3}
        for pair, names in (("slice, tumour only", PROTOCOLS[::2]), ("slice", PROTOCOLS[1::2]))
        for name in names
        for first, last in ((1, 1), (3, 4), (20, np.nan))
    ]
    figure = split_audit_why(shares, pd.DataFrame(rows))
    near, narrow, wide = figure.axes
    assert [narrow.get_title("left"), wide.get_title("left")] == [
        "Dice of the same slices,\ntumour only",
        "Dice of the same slices,\nall slices",
    ]
    assert [text.get_text() for text in narrow.get_xticklabels()] == ["1\nn = 9", "3–4\nn = 9", "20+\nn = 9"]
    assert len(near.lines) == 4
    save_figure(figure, tmp_path, "why")
