"""Finishing and test-time augmentation: drawn and told as they were measured."""

from __future__ import annotations

import pandas as pd
import pytest

from livseg_lib.reporting.studies.finishing import (
    conclude_choice,
    conclude_test,
    conclude_variants,
    finishing_changes,
)
from livseg_lib.reporting.style import BLUE, GREY, VERMILLION

REASONS = {"fill_liver": "helps", "fill_tumors": "changes nothing", "drop_small_tumors": "harms"}
CHANGES = {"fill_liver": 0.02, "fill_tumors": 0.0, "drop_small_tumors": -0.01}


def choice(*systems: str) -> pd.DataFrame:
    rows = [
        {
            "system": system,
            "finish": finish,
            "structure": structure,
            "change": CHANGES[finish],
            "reason": reason,
        }
        for system in systems
        for finish, reason in REASONS.items()
        for structure in ("liver", "tumor")
    ]
    return pd.DataFrame(rows).assign(kept=lambda table: table.reason == "helps")


def test_a_line_a_system_and_finish_coloured_by_its_reason():
    panels = finishing_changes(choice("unet", "unet3d")).axes
    assert [ax.get_title(loc="left") for ax in panels] == ["liver", "tumour"]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names[2:4] == ["unet: drop small tumours", "unet3d: fill liver"]
    points = [line for line in panels[1].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == list(CHANGES.values()) * 2
    assert [line.get_color() for line in points[:3]] == [BLUE, GREY, VERMILLION]


def test_what_is_kept_and_why_is_said_of_each_system():
    [first, second] = conclude_choice(
        pd.concat([choice("unet"), choice("unet3d").assign(kept=False, reason="changes nothing")])
    )
    assert first == (
        "unet keeps fill liver. Tried: fill liver (helps); fill tumours (changes nothing); "
        "drop small tumours (harms)."
    )
    assert second.startswith("unet3d keeps nothing.") and "harms" not in second


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (0.001, 0.003, 0.01, "It helps."),
        (-0.003, -0.001, 0.01, "It harms."),
        (-0.001, 0.003, 0.04, "No difference is shown (p 0.04 after correction)."),
        (0.001, 0.003, 0.078, "No difference is shown (p 0.078 after correction)."),
        (0.0, 0.0, 1.0, "Nothing changed."),
        (float("nan"), float("nan"), float("nan"), "One patient has no interval."),
    ],
)
def test_test_patients_are_judged_by_interval_and_p(low, high, p, verdict):
    row = {"system": "unet", "structure": "tumor", "n_patients": 8, "dice_before": 0.5, "dice_after": 0.502}
    row |= {"difference": (low + high) / 2, "difference_low": low, "difference_high": high, "p_holm": p}
    [sentence] = conclude_test(pd.DataFrame([row]))
    assert sentence.startswith("unet, tumour: Dice 0.5000 before, 0.5020 after") and sentence.endswith(
        verdict
    )


@pytest.mark.parametrize(
    ("verdicts", "gain", "end"),
    [
        (("better", "no difference shown"), 0.01, ". Worth its seconds on 4 patients."),
        (("better", "better"), 0.004, ". Gains too little to be worth its seconds on 4 patients."),
        (("better", "worse"), 0.01, "Not shown to be worth its seconds on 4 patients."),
        (("no difference shown",) * 2, 0.01, "Not shown to be worth its seconds on 4 patients."),
    ],
)
def test_a_variant_is_worth_its_seconds_where_it_gains_and_loses_nothing(verdicts, gain, end):
    rows = [
        {"variant": variant, "structure": structure, "times": 3.04, "verdict": verdict, "difference": gain}
        for structure, verdict in zip(("liver", "tumor"), verdicts, strict=True)
        for variant in ("none", "zoom")
    ]
    table = pd.DataFrame(rows).assign(difference_low=0.005, difference_high=0.015, n_patients=4)
    [sentence] = conclude_variants(table)
    assert sentence.startswith("zoom: 3.0 times the seconds; Dice liver +0.0") and sentence.endswith(end)
