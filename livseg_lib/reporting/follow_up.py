"""A patient seen twice, in pictures and sentences: what became of each tumour, and of all together."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from livseg_lib.evaluation.follow_up import FollowUp
from livseg_lib.reporting import style

KIND_LOOKS = {
    "matched": (style.BLUE, "o"),
    "merged": (style.PURPLE, "s"),
    "split": (style.PURPLE, "D"),
    "regrouped": (style.PURPLE, "P"),
    "vanished": (style.GREEN, "v"),
    "new": (style.VERMILLION, "^"),
}
NOT_AN_ASSESSMENT = (
    "Arithmetic of RECIST 1.1 on liver tumours of two scans alone; no assessment of a patient, who has other "
    "organs, other lesions and other scans."
)


@style.styled
def follow_up_changes(found: Mapping[str, FollowUp]) -> Figure:
    """Longest diameters before and after, a panel for whoever outlined them, a line a group of tumours."""
    fig = style.new_figure(max(4.5, style.WIDTH * len(found) / 3), 3.9)
    panels = fig.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for ax, (name, each) in zip(panels, found.items(), strict=True):
        _slopes(ax, each.changes)
        ax.set_title(f"{name}\n{each.response.category}")
    panels[0].set_ylabel("longest diameter, of several their sum (mm)")
    kinds = {kind for each in found.values() for kind in each.changes.kind}
    looks = {kind: look for kind, look in KIND_LOOKS.items() if kind in kinds}
    keys = [Line2D([], [], color=colour, marker=mark, label=kind) for kind, (colour, mark) in looks.items()]
    if keys:
        fig.legend(handles=keys, loc="outside lower left", ncols=len(keys))
    return fig


def _slopes(ax: Axes, changes: pd.DataFrame) -> None:
    top = changes[["diameter_before_mm", "diameter_after_mm"]].max(axis=None) if len(changes) else 1.0
    top = max(1.0, top)
    ax.set_ylim(-0.04 * top, max(1.1 * top, ax.get_ylim()[1]))
    for row in changes.itertuples():
        colour, mark = KIND_LOOKS[row.kind]
        ends = [row.diameter_before_mm, row.diameter_after_mm]
        ax.plot([0, 1], ends, color=colour, marker=mark, linewidth=2.4 if row.is_target else 1.2)
    heights = style.spread(list(changes.diameter_after_mm), 0.055 * top)
    for row, height in zip(changes.itertuples(), heights, strict=True):
        change = row.diameter_change_percent
        percent = f"{change:+.0f} %".replace("-", "−") if abs(change) >= 0.5 else "0 %"
        words = row.kind if row.kind in ("new", "vanished") else percent
        ax.text(1.06, height, words, va="center", fontsize=8.5, color=KIND_LOOKS[row.kind][0])
    ax.set_xticks([0, 1], ["before", "after"], color=style.BLACK)
    ax.set_xlim(-0.15, 1.45)


def conclude_follow_up(name: str, found: FollowUp) -> list[str]:
    """What a follow-up found, a sentence on the tumours and one on the alignment."""
    counts = found.changes.kind.value_counts()
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no tumour at either time"
    before, after = found.livers.tumor_ml
    response = found.response
    sums = "no tumour large enough to be a target"
    if response.targets:
        change = f"{response.sum_before_mm:.1f} to {response.sum_after_mm:.1f} mm ({response.change:+.0%})"
        sums = f"sum of {len(response.targets)} target diameters {change}"
    volumes = f"Tumours {before:.1f} ml before, {after:.1f} ml after"
    agreement = f"agree with Dice {found.matching.liver_dice:.2f}"
    return [
        f"{name}: {kinds}. {volumes}; {sums}: {response.category}.",
        f"{name}: the livers, laid over each other by their centres, {agreement}.",
    ]
