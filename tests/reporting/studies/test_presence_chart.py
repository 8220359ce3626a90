from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.reporting.studies.presence import presence_by_threshold

PROBABILITY, TRUTH = np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False])


def test_lines_are_what_each_threshold_would_answer():
    ax = presence_by_threshold(PROBABILITY, TRUTH, 0.5, {"commoner answer": 0.5}).axes[0]
    accuracy, sensitivity, specificity, _ = (line.get_ydata() for line in ax.lines[:4])
    at = {threshold: round(threshold * 255) for threshold in (0.0, 0.2, 0.5, 0.7, 1.0)}
    assert [accuracy[i] for i in at.values()] == [0.5, 0.75, 0.5, 0.75, 0.5]
    assert [sensitivity[i] for i in at.values()] == [1, 1, 0.5, 0.5, 0]
    assert [specificity[i] for i in at.values()] == [0, 0.5, 0.5, 1, 1]
    assert list(ax.lines[4].get_ydata()) == [0.5, 0.5]


@pytest.mark.parametrize("truth", [TRUTH & False, TRUTH | True])
def test_pictures_of_one_kind_leave_out_what_is_undefined(truth):
    figure = presence_by_threshold(PROBABILITY, truth, 0.5, {})
    figure.canvas.draw()
    assert len(figure.axes[0].lines) == 3  # accuracy, the one that is defined, the threshold in use
