"""Pictures of many systems: what is drawn is what was given, and names stay apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from livseg_lib.evaluation.statistics import compare_systems
from livseg_lib.reporting.studies.comparison import curves_of_systems, paired_differences
from livseg_lib.reporting.studies.cost import cost_against_dice
from livseg_lib.reporting.style import BLUE, GREY, spread, system_look

SYSTEMS = [f"system{number}" for number in range(10)]


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def history(seconds: float = 30.0, *structures: str) -> pd.DataFrame:
    dice = {f"val_{structure}_dice": [0.3, 0.8, 0.9] for structure in structures}
    return pd.DataFrame({"epoch": [1, 2, 3], "seconds": seconds, **dice})


def test_curves_run_against_epochs_and_minutes_and_bear_names():
    histories = {"quick": history(30, "liver", "tumor"), "slow": history(120, "liver")}
    figure = curves_of_systems(histories, ("liver", "tumor"))
    by_epoch, by_time, _, tumor = figure.axes
    assert [list(line.get_xdata()) for line in by_epoch.lines] == [[1, 2, 3], [1, 2, 3]]
    assert [list(line.get_xdata()) for line in by_time.lines] == [[0.5, 1, 1.5], [2, 4, 6]]
    assert texts(by_time) == ["quick", "slow"] and texts(tumor) == ["quick"]
    assert by_epoch.get_title(loc="left") == "liver, validation patients"


def test_the_end_of_every_curve_is_in_its_panel():
    histories = {"good": history(1, "liver"), "bad": history(1, "liver").assign(val_liver_dice=0.01)}
    low, high = curves_of_systems(histories, ("liver",)).axes[0].get_ylim()
    assert low <= 0.01 and high >= 0.9


def test_ten_systems_look_different_and_their_names_do_not_touch():
    looks = [system_look(number) for number in range(10)]
    assert len({(look["color"], look["linestyle"], look["marker"]) for look in looks}) == 10
    histories = {name: history(n + 1.0, "liver") for n, name in enumerate(SYSTEMS)}
    figure = curves_of_systems(histories, ("liver",))
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(name) for name in figure.axes[1].texts]  # without the thin lines
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])


@given(st.lists(st.floats(0, 1), max_size=9))
def test_spread_names_are_apart_in_order_and_inside(positions):
    moved = spread(positions, 0.1, 0, 1)
    assert len(moved) == len(positions)
    in_order = moved[np.argsort(positions, kind="stable")]
    assert (np.diff(in_order) >= 0.1 - 1e-9).all()
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)


def test_what_is_apart_already_stays():
    assert spread([0.9, 0.1, 0.5], 0.2).tolist() == pytest.approx([0.9, 0.1, 0.5])
    assert spread([0.5, 0.5], 0.2).tolist() == pytest.approx([0.4, 0.6])


def differences() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    means = {"good": 0.9, "fair": 0.89, "threshold": 0.2}
    rows = [
        {"structure": structure, "system": name, "patient": n, "dice": mean + rng.normal(0, 0.03)}
        for structure in ("liver", "tumor")
        for name, mean in means.items()
        for n in range(8)
    ]
    rows[0]["dice"] = np.nan
    return compare_systems(pd.DataFrame(rows), "threshold")


def test_a_forest_has_a_line_a_pair_and_colours_what_is_shown():
    table = differences()
    figure = paired_differences(table)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:2] == ["liver, against the baseline", "tumour, against the baseline"]
    names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert names == [f"{name} − threshold" for name in table[table.structure == "tumor"]["first"][:2]]
    drawn = [line for line in figure.axes[1].lines if len(line.get_xdata()) == 2][1:]  # the first is zero
    assert {line.get_color() for line in drawn} == {BLUE}
    among = [line for line in figure.axes[3].lines if len(line.get_xdata()) == 2][1:]
    assert {line.get_color() for line in among} == {GREY}
    unsure = paired_differences(table.assign(difference_low=-0.5)).axes[1]  # p alone shows nothing
    assert {line.get_color() for line in unsure.lines if len(line.get_xdata()) == 2} == {GREY}
    assert any("1 left out" in text for text in texts(figure.axes[0]))
    figure.draw_without_rendering()


def costs(**changes) -> pd.DataFrame:
    row = {"dice": 0.9, "dice_low": 0.85, "dice_high": 0.93, "seconds": 240.0, "remark": ""}
    row |= {"structure": "liver", "parameters": 2e6, "peak_memory_mb": 2048.0}
    return pd.DataFrame([row | {"system": "small"}, row | {"system": "large", "parameters": 3e7} | changes])


def test_the_area_grows_with_the_parameters_and_another_budget_is_hollow():
    figure = cost_against_dice(costs(remark="slices_seen 10, not 20"))
    small, large = figure.axes[0].collections
    assert large.get_sizes()[0] > small.get_sizes()[0]
    assert large.get_facecolor()[0].tolist() == [1, 1, 1, 1] and small.get_facecolor()[0].tolist() != [
        1,
        1,
        1,
        1,
    ]
    assert {"large*", "30 M", "2.0 GB"} <= set(texts(figure.axes[1]))


def test_unknown_memory_is_a_dash_and_the_axis_counts_seconds_in_words():
    figure = cost_against_dice(costs(peak_memory_mb=np.nan, seconds=3600.0))
    assert "–" in texts(figure.axes[1])
    figure.draw_without_rendering()
    assert "10 min" in [label.get_text() for label in figure.axes[0].get_xticklabels()]


def test_a_baseline_is_a_line_or_said_to_lie_below():
    assert "baseline 0.840" in texts(cost_against_dice(costs(), {"liver": 0.84}).axes[0])
    assert "baseline 0.300, below this panel" in texts(cost_against_dice(costs(), {"liver": 0.3}).axes[0])
    assert not [t for t in texts(cost_against_dice(costs(), {"tumor": 0.3}).axes[0]) if "baseline" in t]
