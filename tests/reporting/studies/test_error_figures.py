"""Figures and sentences on errors: what is drawn is what the tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.reporting.studies import error_conclusions as conclusions
from livseg_lib.reporting.studies import errors as charts
from livseg_lib.reporting.studies.error_strips import ERROR_COLOURS, StripSlice, choose_slices, error_strip


@pytest.fixture
def objects() -> pd.DataFrame:
    rows = [("unet", "false positive", look, None, "cyst") for look in ("bt", "b", "t", "", "", "?")]
    rows += [("unet", "false negative", "", contrast, "tumor") for contrast in ("low", "high", None)]
    rows += [("manet", "false positive", "", None, "liver")]
    table = pd.DataFrame(rows, columns=["system", "error", "look", "contrast", "is_really"])
    known = table.look != "?"
    return table.assign(
        brightness=table.look.str.contains("b").map({True: "bright", False: "not bright"}).where(known),
        texture=table.look.str.contains("t").map({True: "textured", False: "even"}).where(known),
    )


def widths(ax) -> dict[str, list[float]]:
    return {
        bars.get_label(): [round(bar.get_width(), 6) for bar in bars] for bars in ax.containers
    }  # a value a system


def test_bars_are_shares_of_a_kind_and_say_how_many(objects):
    figure = charts.error_classes_chart(objects, ["unet", "manet", "silent"])
    left, right = figure.axes
    bars = widths(left)
    assert bars["bright texture"] == [round(1 / 6, 6), 0, 0] and bars["neither"] == [round(2 / 6, 6), 1, 0]
    assert bars["undefined"][0] == round(1 / 6, 6)
    assert widths(right)["low"] == [round(1 / 3, 6), 0, 0]
    assert [text.get_text() for text in left.texts] == ["n = 6", "n = 1", "n = 0"]


def test_what_false_positives_are_is_counted_in_each_cell(objects):
    ax = charts.what_false_positives_are(objects, ["manet", "unet"]).axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["cyst", "liver"]
    assert [text.get_text() for text in ax.texts] == ["·", "1", "6", "·"]


def shared(**columns) -> pd.DataFrame:
    table = {"error": "false negative", "n_wrong": [3, 0, 2, 2], "n_systems": 3}
    return pd.DataFrame({**table, "longest_diameter_mm": 20.0, "contrast_hu": 5.0, **columns})


def test_tumours_of_unknown_contrast_are_counted_not_drawn():
    ax = charts.missed_by_many(shared(contrast_hu=[5.0, -30.0, np.nan, 8.0])).axes[0]
    assert len(ax.collections[-1].get_offsets()) == 3 and "1 without" in ax.get_title(loc="left")


def test_sentences_on_shared_errors_count_by_hand():
    table = shared(error=["false negative", "false negative", "false negative", "false positive"])
    first, second = conclusions.conclude_shared(table)
    assert "Of 3 true tumours 1 are missed by all 3 systems, 2 by more than half of them, 1 by none" in first
    assert second.startswith("1 places")


def test_sentences_on_the_classes_name_the_systems_that_have_them():
    kinds = {"bright texture": "false positive", "low contrast": "false negative"}
    rows = [(system, name, n, 10) for system, n in (("unet", 2), ("manet", 0)) for name in kinds]
    classes = pd.DataFrame(rows, columns=["system", "error_class", "n", "n_of_kind"])
    classes = classes.assign(error=classes.error_class.map(kinds), n_undefined=0)
    missed = pd.DataFrame({"missed_low_contrast": [0.9, np.nan], "missed_other": [0.1, 0.1]})
    bright, low = conclusions.conclude_classes(classes, missed)
    assert "2 of 20 false positives, of unet." in bright and "2 of 20 misses; 1 of 1 systems" in low
    assert "3 errors" in conclusions.conclude_classes(classes.assign(n_undefined=[3, 0, 0, 0]), missed)[2]


@pytest.mark.parametrize(
    ("difference", "low", "high", "p", "verdict"),
    [
        (-1.0, -2.0, -0.5, 0.01, "It helps here."),
        (1.0, 0.5, 2.0, 0.01, "It harms here."),
        (-1.0, -2.0, 0.0, 0.01, "No difference is shown."),
        (-1.0, -2.0, -0.5, 0.2, "No difference is shown."),
    ],
)
def test_a_remedy_helps_only_where_p_and_interval_say_so(difference, low, high, p, verdict):
    row = {"remedy": "filter", "error_class": "low contrast", "patients": "test", "n_before": 5, "n_after": 2}
    row |= {"difference": difference, "difference_low": low, "difference_high": high, "p_holm": p}
    [sentence] = conclusions.conclude_remedies(pd.DataFrame([row]))
    assert sentence.endswith(verdict)
    [nothing] = conclusions.conclude_remedies(pd.DataFrame([row | {"n_before": 0, "n_after": 0}]))
    assert nothing.endswith("There was nothing to mend.")


def edges(diffuse: float) -> pd.DataFrame:
    rows = [("unet", "diffuse", diffuse), ("unet", "sharp", 0.8), ("blind", "diffuse", np.nan)]
    rows += [("blind", "sharp", np.nan)]
    table = pd.DataFrame(rows, columns=["system", "edge", "volume_found"]).assign(n_tumors=3, n_hit=2)
    return table.assign(volume_found_low=table.volume_found - 0.1, volume_found_high=table.volume_found + 0.1)


def test_diffuse_edges_in_a_sentence_and_a_chart():
    assert "Of 1 systems" in conclusions.conclude_edges(
        edges(0.5)
    ) and "1 find" in conclusions.conclude_edges(edges(0.5))
    assert "in 1 the two" in conclusions.conclude_edges(edges(0.5))
    assert "in 0 the two" in conclusions.conclude_edges(edges(0.7))
    ax = charts.edges_chart(edges(0.5)).axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["unet", "blind"]


def volume(*boxes) -> np.ndarray:
    labels = np.ones((9, 30, 30), np.uint8)
    for each in boxes:
        labels[each] = 2
    return labels


def test_slices_are_the_worst_of_each_stretch_from_feet_to_head():
    truth, found = volume(np.s_[1:7, 5:10, 5:10]), volume(np.s_[1:7, 5:10, 5:10], np.s_[6, 20:25, 20:25])
    found[2, 5:10, 5:10] = 1
    assert choose_slices(truth, found, "tumor", 2) == [2, 6]
    assert choose_slices(truth, found, "tumor", 99) == [1, 2, 3, 4, 5, 6]
    assert choose_slices(volume(), volume(), "tumor", 3) == []


def test_a_strip_colours_each_kind_of_error():
    grey = np.full((30, 30), 90, np.uint8)
    one = StripSlice(4, grey, volume(np.s_[4, 5:10, 5:10])[4], volume(np.s_[4, 5:10, 8:13])[4])
    figure = error_strip([one, one._replace(index=6)], "tumor", "unet, volume-1")
    assert len(figure.axes) == 6 and figure.axes[1].get_title(loc="left") == "slice 6"
    painted = figure.axes[4].images[1].get_array()
    alpha = painted[..., 3]
    assert (alpha == 0.75).sum() == 5 * 3 + 5 * 3 and (alpha == 0.3).sum() == 5 * 2
    assert len({tuple(colour) for colour in painted[alpha > 0]}) == len(ERROR_COLOURS)


def test_a_strip_of_livers_of_which_one_side_is_empty():
    grey = np.zeros((30, 30), np.uint8)
    nothing = StripSlice(0, grey, np.zeros_like(grey), volume()[0])
    assert error_strip([nothing], "liver", "a liver invented").axes
