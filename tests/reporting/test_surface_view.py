"""Surfaces in 3D: in the right place, of the right size, and no tumour lost."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.reporting.surface_view import MAX_TRIANGLES, MAX_TUMORS, surface_figure

SPACING = (4.0, 0.8, 0.8)
SHAPE = (40, 180, 200)


def ball(centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    z, y, x = (
        (np.arange(size) + 0.5) * step - middle
        for size, step, middle in zip(SHAPE, SPACING, centre_mm, strict=True)
    )
    return z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2 <= radius_mm**2


def labels_with(*tumors: np.ndarray) -> np.ndarray:
    labels = ball((80, 70, 80), 60).astype(np.uint8)
    for tumor in tumors:
        labels[tumor] = 2
    return labels


def volume_ml(trace) -> float:
    """Of a closed surface, by the divergence theorem."""
    points = np.stack([trace.x, trace.y, trace.z], axis=1).astype(float)
    a, b, c = (points[np.asarray(trace[corner])] for corner in "ijk")
    return abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6000


def test_a_ball_lies_where_it_is_and_is_as_large():
    figure = surface_figure({"truth": labels_with(ball((90, 60, 100), 15))}, SPACING)
    liver, tumors = figure.data
    assert (liver.name, tumors.name) == ("Liver, truth", "Tumours, truth")
    for axis, middle in zip("xyz", (100, 60, 90), strict=True):  # columns, rows, slices
        assert np.mean([tumors[axis].min(), tumors[axis].max()]) == pytest.approx(middle, abs=2)
        assert np.ptp(tumors[axis]) == pytest.approx(30, abs=4)
    assert volume_ml(liver) == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.06)
    assert volume_ml(tumors) == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.15)


def test_the_smallest_tumour_keeps_a_surface():
    speck = np.zeros(SHAPE, bool)
    speck[20, 90, 100] = True
    (_, tumors) = surface_figure({"truth": labels_with(speck)}, SPACING).data
    assert tumors.x.mean() == pytest.approx(100.5 * 0.8, abs=1.5) and len(tumors.i) > 0


def test_only_truth_and_the_first_prediction_are_on_and_the_rest_waits_in_the_legend():
    one = labels_with(ball((90, 60, 100), 12))
    figure = surface_figure({"truth": one, "a": one, "b": one}, SPACING)
    shown = [trace.name for trace in figure.data if trace.visible is True]
    assert shown == ["Liver, truth", "Tumours, truth", "Tumours, a"]
    assert len(figure.data) == 6 and len({trace.color for trace in figure.data}) == 4


def test_many_specks_are_cut_to_the_largest_and_that_is_said():
    labels = labels_with()
    labels[20, 60:120:4, 60:140:4] = 2
    labels[20, 60:62, 60:62] = 2
    (_, tumors) = surface_figure({"truth": labels}, SPACING).data
    assert tumors.name.endswith(f"({MAX_TUMORS} largest of 300)".replace("(", "(the "))
    assert len(tumors.i) <= MAX_TRIANGLES


def test_nothing_outlined_gives_an_empty_figure():
    assert not surface_figure({"truth": np.zeros(SHAPE, np.uint8)}, SPACING).data


def test_pictures_without_spacing_are_refused():
    with pytest.raises(InputError, match="spacing_mm"):
        surface_figure({"truth": labels_with()}, (np.nan,) * 3)
