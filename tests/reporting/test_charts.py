"""The five kinds of charts: every number of the table is drawn where it belongs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from livseg_lib.reporting.charts import (
    bars,
    interval_chart,
    lines,
    matrix,
    scale_by_powers,
    scatter,
    training_curves,
)
from livseg_lib.reporting.style import BLACK, BLUE, VERMILLION, spread

SCORES = [("unet", "liver", 0.9, 0.85, 0.95), ("unet", "tumor", 0.5, 0.4, 0.6)]
SCORES += [("manet", "liver", 0.8, 0.75, 0.82), ("manet", "tumor", np.nan, np.nan, np.nan)]
SCORES = pd.DataFrame(SCORES, columns=["system", "structure", "dice", "dice_low", "dice_high"])


def offsets(ax) -> np.ndarray:
    """Every mark that `scatter` drew, (N, 2)."""
    return np.concatenate([each.get_offsets() for each in ax.collections if hasattr(each, "get_sizes")])


def segments(ax) -> list:
    drawn = [each.get_segments() for each in ax.collections if hasattr(each, "get_segments")]
    return [line.tolist() for each in drawn for line in each]


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_a_line_a_name_and_a_panel_a_structure():
    rows = SCORES.assign(beside=["n = 8", "n = 7", "p nan", ""])
    figure = interval_chart(rows, "dice", "system", panel="structure", at=0.7, xlabel="Dice")
    liver, tumor = figure.axes
    assert [liver.get_title(loc="left"), tumor.get_title(loc="left")] == ["liver", "tumour"]
    assert [label.get_text() for label in liver.get_yticklabels()] == ["unet", "manet"]
    assert offsets(liver).tolist() == [[0.9, 0], [0.8, 1]]
    assert [[0.85, 0], [0.95, 0]] in segments(liver) and [[0.4, 0], [0.6, 0]] in segments(tumor)
    assert texts(liver) == ["n = 8", "p undefined"] and liver.get_xlabel() == "Dice"
    assert liver.get_ylim()[0] > liver.get_ylim()[1]  # the first line is on top


def test_series_of_one_line_stand_apart_in_their_colours():
    colours = {"tumor": VERMILLION, "liver": BLUE}
    figure = interval_chart(SCORES, "dice", "system", series="structure", colours=colours)
    (ax,) = figure.axes
    places = offsets(ax)
    assert [*places[0], *places[2]] == pytest.approx([0.5, -0.18, 0.9, 0.18])
    faces = [to_hex(each.get_facecolor()[0]).upper() for each in ax.collections if hasattr(each, "get_sizes")]
    assert faces == [VERMILLION, BLUE]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["tumour", "liver"]


def test_dots_are_drawn_beside_the_value_that_sums_them_up():
    patients = pd.DataFrame({"system": ["unet"] * 3, "dice": [0.8, 1.0, np.nan]})
    rows = pd.DataFrame({"system": ["unet"], "dice": [0.9], "truth": [0.7], "hollow": [True]})
    (ax,) = interval_chart(rows, "dice", "system", dots=patients, stroke="truth").axes
    assert sorted(offsets(ax)[:, 0]) == [0.8, 1.0]
    assert [[0.9, -0.33], [0.9, 0.33]] in segments(ax)
    assert ax.lines[0].get_xdata().tolist() == [0.7]


def test_panels_with_other_lines_have_their_own_names():
    left, right = interval_chart(SCORES.iloc[[0, 3]], "dice", "system", panel="structure").axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["manet"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["unet"]


def test_lines_keep_their_order_and_are_named_at_their_ends():
    rows = pd.DataFrame({"epoch": [1, 2, 1, 2], "dice": [0.1, 0.3, 0.2, np.nan], "system": list("aabb")})
    (ax,) = lines(rows, "epoch", "dice", "system", xlabel="epoch", ylabel="Dice").axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.1, 0.3], [0.2]]
    assert texts(ax) == ["a", "b"] and (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "Dice")
    figure = lines(rows.assign(dice_low=0.0, dice_high=0.9), "epoch", "dice", "system", names="legend")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert [[1, 0.0], [1, 0.9]] in segments(figure.axes[0])


def test_marks_of_a_scatter_can_be_open_named_and_shaded():
    rows = SCORES.dropna().assign(seconds=[1, 2, 3], hollow=[True, False, False], name=["a", "b", "c"])
    (ax,) = scatter(rows, "seconds", "dice", series="system").axes
    assert offsets(ax).tolist() == [[1, 0.9], [2, 0.5], [3, 0.8]] and texts(ax) == ["a", "b", "c"]
    first = next(each for each in ax.collections if hasattr(each, "get_sizes"))
    assert [to_hex(face) for face in first.get_facecolor()] == ["#ffffff", BLUE.lower()]
    shaded = scatter(rows, "seconds", "dice", shade="dice")
    assert shaded.axes[1].get_ylabel() == "dice"


def test_parts_of_a_bar_follow_each_other():
    rows = pd.DataFrame({"who": ["we", "we", "they"], "what": ["x", "y", "y"], "share": [0.25, 0.75, 1.0]})
    rows["text"] = ["25 %", "75 %", "all"]
    (ax,) = bars(rows, "share", "who", part="what", xlabel="share").axes
    drawn = {(patch.get_x(), round(patch.get_y() + 0.35), patch.get_width()) for patch in ax.patches}
    assert drawn == {(0.0, 0, 0.25), (0.25, 0, 0.75), (0.0, 1, 1.0)}
    assert set(texts(ax)) == {"25 %", "75 %", "all"}
    (ax,) = bars(rows.assign(share=[3, 1, 1]), "share", "who", part="what").axes  # counts
    assert not any(tick % 1 for tick in ax.get_xticks())


def test_cells_are_shaded_by_their_share_of_the_row():
    counts = pd.DataFrame([[3, 1], [0, 0]], index=["tumour", "none"], columns=["tumour", "none"])
    (ax,) = matrix({"test": counts}, xlabel="called", ylabel="is").axes
    assert ax.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert texts(ax) == ["3\n75%", "1\n25%", "·", "·"]
    assert [text.get_color() for text in ax.texts[:2]] == ["white", BLACK]  # read on dark and on light


@given(st.lists(st.floats(0, 1), max_size=9))
def test_names_beside_lines_are_apart_in_order_and_inside(positions):
    moved = spread(positions, 0.1, 0, 1)
    assert len(moved) == len(positions)
    in_order = moved[np.argsort(positions, kind="stable")]
    assert (np.diff(in_order) >= 0.1 - 1e-9).all()
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)
    assert spread([0.9, 0.1, 0.5], 0.2).tolist() == pytest.approx([0.9, 0.1, 0.5])  # apart already
    assert spread([0.5, 0.5], 0.2).tolist() == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize("rows", [SCORES.head(0), SCORES.assign(**dict.fromkeys(SCORES.columns[2:], np.nan))])
@pytest.mark.parametrize("draw", [interval_chart, bars, lines, scatter])
def test_a_chart_says_where_there_is_nothing_to_show(draw, rows):
    columns = ("dice", "system") if draw in (interval_chart, bars) else ("dice", "dice", "system")

    def says_so(rows):
        axes = draw(rows, *columns, panel="structure").axes
        return [any("nothing" in text.get_text() for text in ax.texts) for ax in axes]

    assert all(says_so(rows)) and not any(says_so(SCORES))


def history(epochs: int = 4) -> pd.DataFrame:
    loss = np.linspace(1, 0.2, epochs)
    table = pd.DataFrame({"epoch": range(1, epochs + 1), "loss": loss})
    table["val_loss"] = [0.9, 0.3, 0.5, 0.6][:epochs]
    return table.assign(tumor_dice=1 - loss, val_tumor_dice=0.9 - loss, learning_rate=1e-3)


def test_a_panel_for_every_metric_and_the_learning_rate():
    figure = training_curves(history(), "U-Net")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "tumour Dice", "learning rate"]
    assert list(figure.axes[0].lines[1].get_ydata()) == [0.9, 0.3, 0.5, 0.6]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [1, 1, 2]  # the best epoch, upright
    assert figure.axes[2].get_yscale() == "log"


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize(
    ("values", "expected"), [([1e-3, 0.1], {"0.001", "0.01", "0.1"}), ([2, 7], {"2", "6"})]
)
def test_powers_are_told_in_plain_numbers(which, values, expected):
    figure = lines(pd.DataFrame({"x": values, "y": values, "series": ""}), "x", "y", "series")
    [ax] = figure.axes
    scale_by_powers(ax, which)
    figure.canvas.draw()
    axis = {"x": ax.xaxis, "y": ax.yaxis}[which]
    ticks = {tick.get_text() for minor in (False, True) for tick in axis.get_ticklabels(minor)}
    assert expected <= ticks and not any("$" in tick for tick in ticks)  # TeX of powers, which nobody renders


@pytest.mark.parametrize("losses", [history()[["epoch", "loss"]], history().assign(val_loss=np.nan)])
def test_without_a_validation_loss_no_epoch_is_called_best(losses):
    assert all("best" in training_curves(history(epochs), "x").get_suptitle() for epochs in (1, 4))
    training_curves(history(0), "x").canvas.draw()
    assert not any(tick % 1 for tick in training_curves(history(1), "x").axes[0].get_xticks())
    assert "best" not in training_curves(losses, "x").get_suptitle()
