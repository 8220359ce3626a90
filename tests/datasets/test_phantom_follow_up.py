"""A phantom patient's second scan: the same patient, with just what was planted changed."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.datasets.phantom.body import Organ
from livseg_lib.datasets.phantom.lesions import Lesion
from livseg_lib.datasets.phantom.patient import make_phantom_follow_up, make_phantom_patient
from livseg_lib.errors import InputError

SEED, INDEX, SITE = 2026, 8, "tiny"
STILL = (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def first():
    return make_phantom_patient(SEED, INDEX, SITE)


def again(growth, new=(), moved_mm=STILL):
    return make_phantom_follow_up(SEED, INDEX, growth, new, SITE, moved_mm)


def tumor_numbers(patient) -> list[int]:
    return [n for n, lesion in enumerate(patient.lesions, start=1) if lesion.kind == "tumor"]


def test_without_growth_only_the_noise_is_new(first):
    second = again({})
    np.testing.assert_array_equal(second.organs, first.organs)
    assert second.lesions == first.lesions
    difference = second.voxels.astype(int) - first.voxels
    inside = first.labels > 0
    assert difference[inside].std() > 3 and abs(difference[inside].mean()) < 0.5


def test_planted_growth_is_what_the_labels_show(first):
    numbers = tumor_numbers(first)
    grown, gone = numbers[0], numbers[-1]
    assert grown != gone
    second = again({grown: 1.3, gone: 0.0})
    assert len(second.lesions) == len(first.lesions) - 1
    before, after = first.lesions[grown - 1], second.lesions[grown - 1]
    assert after.center_mm == before.center_mm
    assert after.volume_ml == pytest.approx(1.3**3 * before.volume_ml, rel=0.1)
    centre = np.rint(np.divide(first.lesions[gone - 1].center_mm, first.spacing_mm)).astype(int)
    assert first.labels[tuple(centre)] == 2 and second.labels[tuple(centre)] == 1
    others = ~np.isin(first.organs, [Organ.LIVER, Organ.TUMOR, Organ.LIVER_VESSEL])
    np.testing.assert_array_equal(second.organs[others], first.organs[others])


def test_a_new_tumour_lies_clear_of_those_that_were_there(first):
    second = again({}, [Lesion("tumor", 18.0, -40.0, diffuse=False)])
    added = (second.labels == 2) & (first.labels != 2)
    assert second.lesions[-1].volume_ml == pytest.approx(added.sum() * np.prod(first.spacing_mm) / 1000)
    for other in first.lesions:
        apart = np.linalg.norm(np.subtract(second.lesions[-1].center_mm, other.center_mm))
        assert apart > (18 + other.diameter_mm) / 2 + 3


def test_the_patient_lies_elsewhere_by_whole_voxels(first):
    spacing = first.spacing_mm
    second = again({}, moved_mm=(spacing[0], -2 * spacing[1], 3 * spacing[2]))
    np.testing.assert_array_equal(second.labels[1:, :-2, 3:], first.labels[:-1, 2:, :-3])
    assert (second.voxels[0] == -1024).all() and (second.organs[:, -2:] == Organ.AIR).all()


@pytest.mark.parametrize("growth", [{99: 1.2}, {0: 1.2}, {1: -0.5}])
def test_growth_of_nothing_is_refused(growth):
    with pytest.raises(InputError, match="no growth of a patient"):
        again(growth)


def test_a_tumour_larger_than_the_liver_finds_no_place():
    with pytest.raises(InputError, match="no room"):
        again({}, [Lesion("tumor", 400.0, -40.0, diffuse=False)])


def test_the_second_scan_of_an_mr_phantom_is_an_mr_scan():
    first = make_phantom_patient(5, 0, site="tiny mr")
    second = make_phantom_follow_up(5, 0, growth={}, site="tiny mr", moved_mm=(0, 0, 0))
    assert second.voxels.min() >= 0
    assert np.corrcoef(first.voxels.ravel(), second.voxels.ravel())[0, 1] > 0.9
