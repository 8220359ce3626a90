"""Agreement of models in pictures and sentences: how far they agree, and whether that tells what is right."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.evaluation.statistics import SIGNIFICANT, verdict
from livseg_lib.reporting.pictures import draw_outlines, legend, overlay, overlay_keys, zoom
from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    WIDTH,
    new_figure,
    structure_name,
    styled,
)


@styled
def agreement_against_errors(patients: pd.DataFrame, lesions: pd.DataFrame) -> Figure:
    """Left: each patient's pairwise tumour Dice against that of the vote. Right: each tumour of the vote.

    `patients` and `lesions` as `studies.agreement` gives them. Hollow: no tumours.
    """
    fig = new_figure(WIDTH, 3.8)
    left, right = fig.subplots(1, 2)
    _patients(left, patients[patients.structure == "tumor"].dropna(subset="pairwise_dice"))
    _lesions(right, lesions)
    return fig


def _patients(ax: Axes, tumors: pd.DataFrame) -> None:
    filled = np.where(tumors.reference_ml > 0, BLUE, "none")
    ax.scatter(tumors.pairwise_dice, tumors.vote_dice, s=46, color=filled, edgecolor=BLUE, clip_on=False)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title="Patients")
    ax.set(xlabel="mean Dice of two models' tumours", ylabel="tumour Dice of the vote")


def _lesions(ax: Axes, lesions: pd.DataFrame) -> None:
    for line, is_true in enumerate((True, False)):
        values = lesions.agreement[lesions.is_true.astype(bool) == is_true]
        spread = line + 0.22 * np.sin(2.4 * np.arange(len(values)))  # the same in every run
        ax.scatter(values, spread, s=30, color=(VERMILLION, BLUE)[is_true], alpha=0.6, linewidth=0)
        text = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 9, "color": GREY}
        ax.text(1.02, line, f"n = {len(values)}", **text)
    ax.set_yticks([0, 1], ["true tumours", "false alarms"], color=BLACK)
    ax.set(xlim=(0.49, 1.01), ylim=(1.6, -0.6), title="Tumours of the vote")
    ax.set_xlabel("mean share of models that agree")
    ax.grid(axis="y", visible=False)


@styled
def agreement_volumes(patients: pd.DataFrame) -> Figure:
    """Volumes in ml, a panel a structure, a line a case: the models' mean and deviation, and the truth."""
    structures = list(patients.structure.unique())
    fig = new_figure(WIDTH, 1.3 + 0.28 * patients.case.nunique())
    panels = fig.subplots(1, len(structures), sharey=True, squeeze=False)[0]
    for ax, structure in zip(panels, structures, strict=True):
        _volumes(ax, patients[patients.structure == structure])
        ax.set_title(structure_name(structure))
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return fig


def _volumes(ax: Axes, rows: pd.DataFrame) -> None:
    lines = range(len(rows))
    spread = {"fmt": "o", "color": BLUE, "markersize": 5, "elinewidth": 2}
    ax.errorbar(rows.volume_ml, lines, xerr=rows.volume_ml_std, label="models, mean ± deviation", **spread)
    ax.plot(rows.reference_ml, lines, "|", color=BLACK, markersize=13, markeredgewidth=2.4, label="truth")
    ax.set_yticks(lines, rows.case, color=BLACK)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("ml")
    ax.grid(axis="y", visible=False)


@styled
def uncertainty_map(
    grey: np.ndarray, disagreement: np.ndarray, reference: np.ndarray, vote: np.ndarray
) -> Figure:
    """One slice twice: truth and vote outlined, and the models' disagreement as heat with the truth outlined.

    `grey` uint8, `disagreement` float32 0 to 0.5, `reference` and `vote` labels 0/1/2, all (H, W).
    """
    fig = new_figure(WIDTH, WIDTH / 2 + 0.4)
    left, right = fig.subplots(1, 2)
    overlay(grey, reference, vote, left, legend=False)
    left.set_title("truth and majority vote")
    overlay(grey, None, None, right, legend=False)
    heat = right.imshow(
        np.ma.masked_equal(disagreement, 0), vmin=0, vmax=0.5, cmap="inferno", interpolation="nearest"
    )
    draw_outlines(right, reference, "solid")
    right.set_title("models in the minority about tumours")
    fig.colorbar(heat, ax=right, shrink=0.8, format=lambda share, _: f"{share:.0%}")
    for ax in (left, right):
        zoom(ax, reference, vote, (disagreement > 0).astype(np.uint8))
    legend(fig, overlay_keys(reference, vote))
    return fig


def conclude_agreement(
    patients: pd.DataFrame, lesions: pd.DataFrame, summary: pd.DataFrame, differences: pd.DataFrame
) -> list[str]:
    """What may be said of the vote and of disagreement as a warning, a sentence each.

    `summary` as `summarize_agreement` gives it; `differences`: structure and `compare_pairs` of the vote
    (first) against each member.
    """
    return [
        *(
            _against_members(structure, rows)
            for structure, rows in differences.groupby("structure", sort=False)
        ),
        *(
            _volumes_in_words(structure, rows)
            for structure, rows in patients.groupby("structure", sort=False)
        ),
        _patients_in_words(summary.set_index("level").loc["patient"]),
        _lesions_in_words(summary.set_index("level").loc["lesion"], lesions),
    ]


def _against_members(structure: str, rows: pd.DataFrame) -> str:
    better, worse = (rows[verdict(rows) == side] for side in (1, -1))
    found = [
        f"{word} {', '.join(group.second)}"
        for word, group in (("better than", better), ("worse than", worse))
        if len(group)
    ]
    shown = " and ".join(found) or "no difference from any member is shown"
    hopeless = (rows.smallest_p_holm >= SIGNIFICANT).all()
    bound = "; with so few patients and so many members no p could have been small" if hopeless else ""
    what = f"Majority vote, {structure_name(structure)}, against {len(rows)} members one by one"
    return f"{what}: {shown} (Holm{bound})."


def _volumes_in_words(structure: str, rows: pd.DataFrame) -> str:
    inside = (rows.reference_ml - rows.volume_ml).abs() <= rows.volume_ml_std
    return (
        f"The true {structure_name(structure)} volume lies within one standard deviation of the models' mean "
        f"in {inside.sum()} of {len(rows)} cases."
    )


def _patients_in_words(row: pd.Series) -> str:
    if pd.isna(row.value):
        return "Whether patients on whom models agree have the better vote is undefined here."
    tells = row.p < SIGNIFICANT
    said = "Disagreement tells" if tells and row.value > 0 else "It is not shown that disagreement tells"
    return (
        f"Rank correlation of the models' agreement with the tumour Dice of the vote: {row.value:+.2f} "
        f"(p {row.p:.2g}, {row.n} patients). {said} on whom the vote is wrong."
    )


def _lesions_in_words(row: pd.Series, lesions: pd.DataFrame) -> str:
    true = lesions.is_true.astype(bool)
    counts = f"{int(true.sum())} true tumours and {int((~true).sum())} false alarms in the vote"
    if pd.isna(row.value):
        return f"{counts}: whether agreement tells them apart is undefined."
    means = lesions.agreement[true].mean(), lesions.agreement[~true].mean()
    return (
        f"{counts}: the models agree to {means[0]:.0%} on the former and {means[1]:.0%} on the latter, "
        f"ROC-AUC {row.value:.2f} (0.5 is chance; orientation only, as tumours of one patient are alike)."
    )
