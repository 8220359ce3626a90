"""Explanations drawn as they were measured, and no more said than is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from livseg_lib.reporting.studies.explain import (
    Explained,
    explanation_maps,
    level_maps,
    occlusion_map,
    warning_maps,
)
from livseg_lib.reporting.studies.explain_charts import (
    conclude_pointing,
    conclude_sanity,
    conclude_warnings,
    pointing_chart,
    sanity_curves,
    warning_chart,
)

GREY = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
LABELS = np.zeros((40, 40), np.uint8)
LABELS[10:30, 10:30] = 1
LABELS[15:20, 15:20] = 2
HEAT = np.random.default_rng(1).random((40, 40), np.float32)
NOTHING = np.zeros((40, 40), np.float32)


def titles(figure: Figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]


def test_every_network_has_its_tile_beside_the_slice():
    tiles = [Explained("unet", HEAT, LABELS), Explained("manet: empty map", NOTHING, LABELS * 0)]
    figure = explanation_maps(GREY, LABELS, tiles)
    assert titles(figure) == ["slice and truth", "unet", "manet: empty map"]
    np.testing.assert_array_equal(figure.axes[1].images[1].get_array(), HEAT)
    figure.draw_without_rendering()


def test_levels_and_warnings_keep_their_order():
    assert titles(level_maps(GREY, LABELS, {"fine": HEAT, "coarse": NOTHING})) == ["fine", "coarse"]
    figure = warning_maps(GREY, LABELS, LABELS * 0, LABELS == 2, {"one answer, entropy": HEAT})
    assert titles(figure) == ["truth and prediction", "wrong pixels", "one answer, entropy"]


@pytest.mark.parametrize("drops", [HEAT - 0.5, NOTHING], ids=["some", "none"])
def test_occlusion_has_zero_in_the_middle_of_its_colours(drops):
    figure = occlusion_map(GREY, LABELS, LABELS, drops)
    low, high = figure.axes[1].images[1].get_clim()
    assert low == -high and high >= np.abs(drops).max()
    figure.draw_without_rendering()


def sanity(first: float = -1.0, last: float = 0.3) -> pd.DataFrame:
    rows = [
        ("unet", 0, 1.0, 1.0, 1.0, 0),
        ("unet", 1, first, abs(first), 0.1, 0),
        ("unet", 20, last, abs(last), 0.2, 0),
        ("manet", 0, 1.0, 1.0, 1.0, 0),
        ("manet", 1, 0.2, 0.2, 0.3, 0),
        ("manet", 20, np.nan, np.nan, np.nan, 5),
    ]
    names = ["system", "randomized_layers", "rank_correlation", "absolute_correlation", "similarity"]
    return pd.DataFrame(rows, columns=[*names, "n_undefined"]).assign(layers=20, n_pictures=5)


def test_curves_leave_out_what_is_undefined():
    figure = sanity_curves(sanity())
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [3, 3]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 0.05, 1]
    figure.draw_without_rendering()


def test_maps_that_react_are_said_to_and_those_that_do_not_are_named():
    said = conclude_sanity(sanity())
    assert (
        "correlation of 0.30 in size with their own (mean of networks: 1)" in said[0] and "react" in said[0]
    )
    assert "turns the maps of unet upside down" in said[1]
    assert "5 of 30 comparisons are undefined" in said[-1]
    assert "show the picture alone" in conclude_sanity(sanity(last=0.95))[0]
    assert any("hardly changes the maps of unet" in each for each in conclude_sanity(sanity(first=0.97)))


def pointing(low: float = 0.1) -> pd.DataFrame:
    kinds = ("as trained", "random weights", "edges of the picture", "the same everywhere")
    rows = [("unet", kind, share) for kind, share in zip(kinds, (0.2, 0.04, 0.03, 0.05), strict=True)]
    rows += [("manet", kind, np.nan) for kind in kinds]
    table = pd.DataFrame(rows, columns=["system", "kind", "energy_share"])
    is_unet = table.system == "unet"
    return table.assign(
        structure="tumor",
        energy_share_low=np.where(is_unet, low, np.nan),
        energy_share_high=np.where(is_unet, 0.3, np.nan),
        pointing_hit=np.where(is_unet, 0.5, np.nan),
        n_pictures=6,
        n_undefined=np.where(is_unet, 0, 6),
    )


def test_only_intervals_above_all_rivals_count_as_shown():
    said = conclude_pointing(pointing())
    assert "maps of unet (1 of 1 networks)" in said[0] and "At most 20%" in said[1] and "50%" in said[1]
    assert conclude_pointing(pointing(low=0.049))[0].startswith("No network's map lies")
    rare = pointing()
    rare.loc[rare.kind == "random weights", ["energy_share", "n_undefined"]] = 0.9, 5
    assert "maps of unet" in conclude_pointing(rare)[0]  # of one picture out of six
    assert "No map at the bottleneck" in conclude_pointing(pointing().assign(energy_share=np.nan))[1]
    pointing_chart(pointing()).draw_without_rendering()


def warnings(low: float) -> pd.DataFrame:
    rows = [("variants", "entropy", 0.9, low, 0.95, 8, 0), ("outline", "nearness", 0.85, 0.8, 0.9, 8, 0)]
    ends = ["roc_auc", "roc_auc_low", "roc_auc_high", "n_patients", "n_undefined"]
    return pd.DataFrame(rows, columns=["source", "measure", *ends])


def test_uncertainty_has_to_beat_the_nearness_to_the_outline():
    assert "Intervals above it: entropy of variants." in conclude_warnings(warnings(0.86))[1]
    assert "No uncertainty has its interval above it." in conclude_warnings(warnings(0.84))[1]
    assert "undefined" in conclude_warnings(warnings(0.86).assign(roc_auc=np.nan))[0]


def test_each_case_is_a_dot():
    rows = pd.DataFrame(
        {"source": ["variants"] * 3 + ["outline"], "measure": ["entropy"] * 3 + ["nearness"]}
    ).assign(roc_auc=[0.8, np.nan, 0.9, 0.85])
    figure = warning_chart(rows, warnings(0.86))
    assert [len(dots.get_offsets()) for dots in figure.axes[0].collections] == [2, 1]
    figure.draw_without_rendering()
