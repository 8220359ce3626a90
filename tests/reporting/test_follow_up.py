"""A follow-up drawn and told as it was measured."""

from __future__ import annotations

import numpy as np

from livseg_lib.evaluation.follow_up import TimePoint, compare_scans
from livseg_lib.reporting.patient_page import conclude_follow_up, follow_up_changes


def scan(*columns: tuple[int, int]) -> TimePoint:
    labels = np.zeros((5, 60, 70), np.uint8)
    labels[1:4, 5:55, 5:65] = 1
    for number, (start, length) in enumerate(columns):
        labels[2, 10 + 12 * number, start : start + length] = 2
    return TimePoint(labels, (1.0, 1.0, 1.0))


def test_a_follow_up_draws_every_group_and_its_targets_bold():
    found = compare_scans(scan((20, 20), (20, 5), (40, 8)), scan((20, 10), (20, 5)))
    nothing = compare_scans(scan(), scan())
    panels = follow_up_changes({"truth": found, "net": nothing}).axes
    assert panels[0].get_title(loc="left") == "truth\npartial response"
    assert [line.get_linewidth() for line in panels[0].lines] == [2.4, 1.2, 1.2]
    assert [text.get_text() for text in panels[0].texts] == ["−51 %", "0 %", "vanished"]
    assert not panels[1].lines
    tumors, livers = conclude_follow_up("truth", found)
    assert "2 matched, 1 vanished" in tumors and "partial response" in tumors and "(-51%)" in tumors
    assert "Dice 1.00" in livers
    assert "no tumour" in conclude_follow_up("net", nothing)[0]
