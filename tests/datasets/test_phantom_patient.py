"""Phantom patients: the same from the same numbers, and anatomically in order."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid
from livseg_lib.datasets.phantom.body import CODE, Organ, labels_of_organs
from livseg_lib.datasets.phantom.patient import (
    WITHOUT_TUMOR,
    Lesion,
    _spread,
    make_phantom_follow_up,
    make_phantom_patient,
    paint_lesions,
)
from livseg_lib.datasets.phantom.scanner import SITES, site_of
from livseg_lib.errors import InputError

SEED = 2026


DIGESTS = {
    "tiny": "4034c141370d8ff3c65d55200a8f1978bff1beb3bbb89b4e91b26d8a8b5336ac",
    "tiny mr": "007af0d77678b41aae5f6bd8e8442d9c19584c6c4ec53cf3325e916638d419d7",
}


@pytest.mark.parametrize("site", DIGESTS)
def test_a_patient_and_his_second_scan_are_what_they_were_to_the_bit(site):
    """Alone, not after others. The sums were taken when livers became as uneven as real ones."""
    new = [Lesion("tumor", 15.0, -30.0, diffuse=True)]
    scans = make_phantom_patient(SEED, 8, site), make_phantom_follow_up(SEED, 8, {1: 1.3}, new, site)
    arrays = [array for scan in scans for array in (scan.voxels, scan.labels, scan.organs)]
    assert hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest() == DIGESTS[site]


@pytest.fixture(scope="module")
def patients():
    """Seven patients at low resolution, with and without tumours and cysts."""
    return [make_phantom_patient(SEED, index, "tiny") for index in range(7)]


def test_every_patient_is_an_adult_with_the_liver_where_it_belongs(patients):
    for patient in patients:
        assert patient.voxels.dtype == np.int16
        assert patient.labels.dtype == patient.organs.dtype == np.uint8
        assert patient.voxels.shape == patient.labels.shape == patient.organs.shape
        assert patient.voxels.min() >= -1024 and patient.voxels.max() > 300
        liver, lung = patient.labels > 0, patient.organs == Organ.LUNG
        assert 1000 <= liver.sum() * np.prod(patient.spacing_mm) / 1000 <= 2200
        assert np.nonzero(liver)[2].mean() < 0.47 * liver.shape[2]  # columns run from right to left
        assert np.nonzero(lung)[0].mean() > np.nonzero(liver)[0].mean()  # slices run from feet to head
        spine = np.nonzero(patient.organs == Organ.SPINAL_CANAL)[1]
        assert spine.mean() > np.nonzero(liver)[1].mean()  # rows run from front to back
        assert not liver[0].any() and not liver[-1].any()
        components, _ = ndimage.label(liver)
        assert np.bincount(components.ravel())[1:].max() > 0.98 * liver.sum(), "one piece"


def test_organs_labels_and_lesions_tell_the_same(patients):
    assert set().union(*(np.unique(patient.organs) for patient in patients)) == set(Organ)
    for patient in patients:
        assert {Organ.LIVER, Organ.SPLEEN, Organ.KIDNEY, Organ.AORTA, Organ.BONE} <= set(patient.organs.flat)
        assert ((patient.labels == 2) == (patient.organs == Organ.TUMOR)).all()
        for organ in (Organ.CYST, Organ.LIVER_VESSEL):
            assert (patient.labels[patient.organs == organ] == 1).all()
        around = ndimage.binary_dilation(patient.labels == 2) & (patient.labels != 2)
        assert not around.any() or (patient.labels[around] == 1).mean() > 0.5, "tumours lie in the liver"
        for kind, organ in (("tumor", Organ.TUMOR), ("cyst", Organ.CYST)):
            listed = [lesion for lesion in patient.lesions if lesion.kind == kind]
            painted = (patient.organs == organ).sum() * np.prod(patient.spacing_mm) / 1000
            assert bool(listed) == bool(painted)
            assert painted <= sum(lesion.volume_ml for lesion in listed) + 1e-6
    assert labels_of_organs(np.array([Organ.SPLEEN, Organ.CYST, Organ.TUMOR])).tolist() == [0, 1, 2]


def test_some_patients_have_no_tumor():
    """Only the drawing, for a hundred patients: between a fifth and a quarter are free of tumours."""
    free = [_spread(seed, index, 2) < WITHOUT_TUMOR for seed in range(5) for index in range(100)]
    assert 0.2 <= np.mean(free) <= 0.25
    assert all(any(free[first : first + 8]) for first in range(492))


@pytest.mark.parametrize("diffuse", [False, True])
def test_a_painted_tumor_has_its_size_place_and_contrast(diffuse):
    grid = Grid(64, 1.0, np.arange(48) * 1.0)
    tissues = np.full((48, 64, 64), CODE["liver"], np.uint8)
    flat = np.zeros(tissues.shape, np.float32)
    anatomy = Anatomy(tissues, flat, flat + 20)
    wanted = Lesion("tumor", 16.0, -40.0, diffuse)
    (lesion,), added = paint_lesions(np.random.default_rng(3), [wanted], anatomy, grid)
    tumor = tissues == CODE["tumor"]
    assert lesion.volume_ml == pytest.approx(tumor.sum() / 1000)
    assert lesion.volume_ml == pytest.approx(np.pi / 6 * 16**3 / 1000, rel=0.01)
    assert added[tuple(int(c) for c in lesion.center_mm)] == pytest.approx(-40, abs=1)
    rim = (np.abs(added) > 4) & (np.abs(added) < 36)
    assert (rim.sum() > 0.6 * tumor.sum()) == diffuse


def test_patients_go_round_sites_that_store_otherwise():
    assert {site_of(index).name for index in range(24)} == {"A", "B", "C"}
    assert len({SITES[name].orientation for name in "ABC"}) == 3


# --- the second scan

STILL = (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def first():
    return make_phantom_patient(SEED, 8, "tiny")


def again(growth, new=(), moved_mm=STILL):
    return make_phantom_follow_up(SEED, 8, growth, new, "tiny", moved_mm)


def test_planted_growth_is_what_the_labels_show(first):
    numbers = [n for n, lesion in enumerate(first.lesions, start=1) if lesion.kind == "tumor"]
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


def test_an_unknown_site_growth_of_nothing_and_a_tumour_larger_than_the_liver_are_refused():
    with pytest.raises(InputError, match="no site 'Z'"):
        make_phantom_patient(SEED, 0, "Z")
    for growth in ({99: 1.2}, {0: 1.2}, {1: -0.5}):
        with pytest.raises(InputError, match="no growth of a patient"):
            again(growth)
    with pytest.raises(InputError, match="no room"):
        again({}, [Lesion("tumor", 400.0, -40.0, diffuse=False)])
