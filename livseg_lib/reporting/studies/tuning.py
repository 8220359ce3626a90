"""Pictures of cross-validation and of a search for hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from livseg_lib.evaluation.statistics import verdict
from livseg_lib.reporting.charts import Intervals, dice_by_patient
from livseg_lib.reporting.style import BLACK, BLUE, GREY, LIGHT_GREY, VERMILLION, WIDTH, new_figure, styled
from livseg_lib.reporting.wording import p_words

PARAMETER_NAMES = {
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "loss": "loss",
    "positive_weight": "class weight",
}
LOGARITHMIC = ("learning_rate", "positive_weight")
"""Parameters drawn on a logarithmic scale; the others stand at equal distances, in order."""

COMPLETE = {"marker": "o", "s": 42, "facecolor": BLUE, "edgecolor": "white", "linewidth": 0.8}
PRUNED = {"marker": "x", "s": 34, "color": GREY, "linewidth": 1.4}
BEST = {"marker": "o", "s": 80, "facecolor": VERMILLION, "edgecolor": "white", "linewidth": 0.8}
START = {"marker": "D", "s": 90, "facecolor": "none", "edgecolor": BLACK, "linewidth": 1.4}


def dice_by_fold(scores: pd.DataFrame, intervals: Mapping[str, tuple[float, float]]) -> Figure:
    """A dot for every patient held out, a line for each fold, and one for all folds with its interval.

    `scores` has columns `fold`, `patient`, `structure`, `dice`; `intervals` maps a structure to the 95 %
    interval of its mean over all patients.
    """
    folds = scores.assign(system=[f"fold {fold}" for fold in scores["fold"]]).sort_values("fold")
    everyone = scores.assign(system="all folds")
    drawn: Intervals = {("all folds", structure): interval for structure, interval in intervals.items()}
    fig = dice_by_patient(pd.concat([folds, everyone]), drawn)
    fig.axes[0].set_xlabel("Dice of a patient in the fold that was held out")
    return fig


def conclude_tuning(comparison: pd.DataFrame, trials: pd.DataFrame) -> str:
    """What a search has shown and how sure that is, in sentences made from its results alone.

    `comparison` has a row for "searched" and, unless the search used all folds, one for "fresh" folds (column
    `folds`), with `n_patients`, `difference`, `difference_low`, `difference_high`, `p_holm`; `trials` as for
    `tuning_picture`.
    """
    tried = trials[trials["state"].isin(("complete", "pruned"))]
    pruned = int((tried["state"] == "pruned").sum())
    complete = tried[tried["state"] == "complete"]
    if complete.empty:
        return f"None of {len(tried)} trials ran to its end: there is nothing to choose from."
    if complete.loc[complete["dice"].idxmax(), "is_start"]:
        return f"None of {len(tried)} trials ({pruned} pruned) beat the start: its values stand."
    rows = comparison.set_index("folds")
    searched = rows.loc["searched"]
    text = (
        f"The best of {len(tried)} trials ({pruned} pruned) differs from the start by "
        f"{searched.difference:+.3f} Dice on the {searched.n_patients:.0f} patients who chose it; "
        "being the best of several, it is flattered there."
    )
    if "fresh" not in rows.index:
        return f"{text} No fold was left to check it on."
    fresh = rows.loc["fresh"]
    interval = f"{fresh.difference_low:+.3f} to {fresh.difference_high:+.3f}"
    return (
        f"{text} On the {fresh.n_patients:.0f} patients of the other folds the difference is "
        f"{fresh.difference:+.3f} (95 % interval {interval}, {p_words(fresh.p_holm)}): "
        f"{MEANING[verdict(fresh)]}"
    )


MEANING = {
    1: "the gain holds on patients who had no part in the choice.",
    -1: "there it is worse; the gain was a matter of chance, and the start stands.",
    0: "no difference is shown: these patients cannot tell the two apart.",
}
"""What each `verdict` on patients of other folds means for the search."""


@styled
def tuning_picture(trials: pd.DataFrame, importances: Mapping[str, float] | None = None) -> Figure:
    """Above, the trials in order with the best so far; below, each parameter against the value.

    `trials` has a row each: `trial`, `state` ("complete" and "pruned" are drawn), `dice`, `is_start`, and a
    column a parameter, NaN where a trial has none; a parameter that never changed has no panel.
    `importances`, if any, fill a panel of their own.
    """
    drawn = trials[trials["state"].isin(("complete", "pruned")) & trials["dice"].notna()]
    names = [name for name in PARAMETER_NAMES if name in drawn and drawn[name].nunique() > 1]
    fig = new_figure(WIDTH, 6.6 if names else 3.4)
    above, below = fig.subfigures(2, 1) if names else (fig, None)
    widths = (3, 1) if importances else (1,)
    upper = above.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _history(upper[0], drawn)
    if importances:
        _importances(upper[1], importances)
    if names:
        for ax, name in zip(below.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
            _slice(ax, drawn, name)
        below.axes[0].set_ylabel("mean Dice")
    return fig


def _history(ax: Axes, trials: pd.DataFrame) -> None:
    best = trials["dice"].where(trials["state"] == "complete").cummax().ffill()
    ax.step(trials["trial"], best, where="post", color=LIGHT_GREY, label="best so far", zorder=1)
    _marks(ax, trials, trials["trial"])
    ax.set(title="Trials in order", xlabel="trial", ylabel="mean Dice")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=5, handletextpad=0.3, columnspacing=1.2)


def _slice(ax: Axes, trials: pd.DataFrame, name: str) -> None:
    """Value against one parameter, without the trials that have none."""
    having = trials[trials[name].notna()]
    ax.set_title(PARAMETER_NAMES[name])
    if name in LOGARITHMIC:
        _marks(ax, having, having[name])
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        return
    values = sorted(having[name].unique())
    spread = 0.12 * np.sin(2.4 * np.arange(len(having)))  # so that equal choices do not hide each other
    _marks(ax, having, having[name].map(values.index) + spread)
    ax.set_xticks(range(len(values)), [str(value).replace("_", "\n") for value in values])
    ax.set_xlim(-0.5, len(values) - 0.5)


def _marks(ax: Axes, trials: pd.DataFrame, places: pd.Series) -> None:
    """One mark a trial by its state; the best complete one stands out, a diamond is put round the start."""
    complete = trials["state"] == "complete"
    best = trials.index == trials["dice"].where(complete).idxmax() if complete.any() else complete
    groups = {
        "complete": (complete & ~best, COMPLETE),
        "pruned": (trials["state"] == "pruned", PRUNED),
        "best": (complete & best, BEST),
        "start": (trials["is_start"], START),
    }
    for label, (chosen, mark) in groups.items():
        if chosen.any():
            ax.scatter(places[chosen], trials.loc[chosen, "dice"], label=label, zorder=3, **mark)


def _importances(ax: Axes, importances: Mapping[str, float]) -> None:
    lines = np.arange(len(importances))
    ax.barh(lines, list(importances.values()), height=0.6, color=BLUE)
    ax.set_yticks(lines, [PARAMETER_NAMES.get(name, name) for name in importances], color=BLACK)
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.set_title("Importance")
    ax.grid(axis="y", visible=False)
