"""Pictures and sentences of calibration, FROC and groups: what is drawn and said is what was given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.evaluation.froc import Candidates, froc_curve
from livseg_lib.evaluation.probabilities import ReliabilityCurve
from livseg_lib.evaluation.statistics import group_differences, group_means
from livseg_lib.reporting.studies.calibration import (
    Reliability,
    conclude_calibration,
    conclude_thresholds,
    reliability_diagrams,
)
from livseg_lib.reporting.studies.froc import FEWEST, conclude_froc, froc_figure
from livseg_lib.reporting.studies.groups import conclude_groups, group_chart


def curve(*bins: tuple[float, float, int]) -> ReliabilityCurve:
    return ReliabilityCurve(*(np.array(column) for column in zip(*bins, strict=True)))


def test_a_panel_a_system_with_all_patients_and_no_empty_bin():
    together = curve((0.1, 0.2, 90), (np.nan, np.nan, 0), (0.9, 0.5, 10))
    each = Reliability(together, [together, together], (0.06, 0.02, 0.1))
    figure = reliability_diagrams({f"net{number}": each for number in range(5)})
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 5 and len(figure.axes) == 8
    diagonal, first, _, blue = shown[0].lines
    assert blue.get_xydata().tolist() == [[0.1, 0.2], [0.9, 0.5]] == first.get_xydata().tolist()
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert shown[0].get_title(loc="left") == "net0\nECE 0.060 (0.020 to 0.100)"
    figure.canvas.draw()


CALIBRATION = pd.DataFrame(
    [
        ("unet", "tumor", "picture", 0.002, 0.001, 0.003, 0.9, 0.3),
        ("unet", "tumor", "near", 0.02, 0.01, 0.04, 0.8, 0.3),
        ("manet", "tumor", "picture", 0.01, 0.001, 0.03, 0.7, -0.1),
        ("manet", "tumor", "near", 0.04, 0.02, 0.05, 0.6, -0.1),
    ],
    columns=["system", "structure", "region", "ece", "ece_low", "ece_high", "true_when_sure", "brier_skill"],
)


def test_sentences_on_calibration():
    (said,) = conclude_calibration(CALIBRATION)
    assert "0.020 (0.010 to 0.040, unet) to 0.040 (0.020 to 0.050, manet)" in said
    assert "on average 7.0 times" in said and "60% to 80% are tumour" in said
    assert "Brier skill -0.10 to 0.30" in said
    assert conclude_calibration(CALIBRATION.assign(ece=np.nan)) == []


def test_sentences_on_thresholds():
    table = pd.DataFrame(
        {
            "system": ["unet", "manet", "unet++"],
            "structure": "tumor",
            "threshold": [0.3, 0.5, 0.4],
            "gain_low": [0.01, 0.0, 0.01],
            "gain_high": [0.05, 0.0, 0.05],
            "p_holm": [0.01, 1.0, 0.06],
            "regret": [0.0, 0.02, 0.0],
            "hindsight_threshold": [0.3, 0.6, 0.4],
        }
    )
    (said,) = conclude_thresholds(table)
    assert "better than 0.5 for 1 of 3 networks and worse for 0" in said
    assert "at most 0.020 Dice (manet: 0.5 chosen, 0.6 best" in said


PATIENTS = [
    Candidates(np.array([250], np.uint8), np.array([200, 100], np.uint8), 2),
    Candidates(np.array([], np.uint8), np.array([90, 90], np.uint8), 0),
]
FROC = pd.DataFrame(
    {
        "system": ["unet", "vote"],
        "n_patients": 2,
        "n_tumors": 2,
        "froc_score": [0.5, np.nan],
        "froc_score_low": [0.1, np.nan],
        "froc_score_high": [0.9, np.nan],
        "recall_at_1": [0.5, np.nan],
        "recall_at_1_low": [0.0, np.nan],
        "recall_at_1_high": [1.0, np.nan],
        "recall": [0.5, 1.0],
        "false_positives": [0.0, 12.0],
    }
)


def test_froc_has_a_line_a_network_and_a_mark_a_system():
    figure = froc_figure({"unet": froc_curve(PATIENTS)}, FROC)
    left, right = figure.axes
    (line,) = left.lines
    assert line.get_xdata().min() == FEWEST and line.get_xdata().max() == 2.0
    assert line.get_ydata()[-1] == 0.5 and line.get_drawstyle() == "steps-post"
    marks = [each.get_xydata()[0].tolist() for each in right.lines[1:]]
    assert marks == [[FEWEST, 0.5], [12.0, 1.0]], "no false positive stands at the left edge"
    assert [text.get_text() for text in right.texts] == ["vote"]
    assert [text.get_text() for text in left.get_xticklabels()][:4] == ["1/8", "1/4", "1/2", "1"]
    figure.canvas.draw()


def test_sentences_on_froc():
    counted, best, many = conclude_froc(FROC)
    assert counted.startswith("2 tumours of 2 test patients")
    assert "0.50 (0.10 to 0.90), unet" in best and "50% (0% to 100%)" in best
    assert "as they outline: vote." in many
    assert "no tumour" in conclude_froc(FROC.assign(froc_score=np.nan))[0]


NAMES = [f"p{number}" for number in range(9)]
FACTS = pd.DataFrame({"site": list("AAAABBBBC")}, index=NAMES)


def means(scores: pd.DataFrame) -> pd.DataFrame:
    return group_means(scores, FACTS).assign(structure="tumor")


@pytest.fixture
def scores() -> pd.DataFrame:
    values = [0.9, 0.92, 0.94, 0.91, 0.2, 0.21, 0.25, 0.22, 0.5]
    table = pd.DataFrame({"unet": values, "manet": values}, index=NAMES)
    return table.assign(**{"all systems": table.mean(axis=1)})


def test_groups_of_few_are_hollow_and_have_no_interval(scores):
    figure = group_chart(means(scores), "all systems", {"site": "Site"})
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Site", "A", "B", "C"]
    assert [text.get_text() for text in ax.texts] == ["n = 4", "n = 4", "n = 1"]
    intervals = [line for line in ax.lines if len(line.get_xdata()) == 2]
    dots = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [line.get_ydata()[0] for line in intervals] == [1, 2]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, False, True]
    assert dots[0].get_xdata()[0] == pytest.approx(0.9175)
    assert 0 <= ax.get_xlim()[0] + 0.01 < 0.2
    figure.canvas.draw()


def test_sentences_claim_only_what_is_shown(scores):
    table = group_differences(scores["unet"], FACTS)
    said = conclude_groups("tumor", table)
    assert said.startswith("Tumour: A minus B (site) +0.70") and "p 0.029 after Holm" in said
    alike = table.assign(p_holm=0.4)
    assert conclude_groups("tumor", alike).endswith("none of 1 differences between groups is shown (Holm).")
    hopeless = table.assign(p_holm=0.4, smallest_p_holm=0.2)
    assert "none could have been" in conclude_groups("liver", hopeless)
    across_zero = table.assign(difference_low=-0.1)
    assert "none of 1" in conclude_groups("tumor", across_zero)
    assert "nothing can be compared" in conclude_groups("liver", table.iloc[:0])
