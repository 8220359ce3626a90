"""The phantom in a magnet: the same bodies, other contrast, no scale, many organs in the label files."""

from __future__ import annotations

import hashlib
import json

import nibabel
import numpy as np
import pytest

from livseg_lib.datasets.catalogue import find_cases
from livseg_lib.datasets.check import check_dataset
from livseg_lib.datasets.phantom.body import CODE, Organ
from livseg_lib.datasets.phantom.patient import make_phantom_patient
from livseg_lib.datasets.phantom.scanner import mean_signal
from livseg_lib.datasets.phantom.writing import write_phantom
from livseg_lib.preprocessing.recipe import Recipe, prepare_slices
from livseg_lib.preprocessing.windows import choose_windows
from livseg_lib.volumes import Volume

SEED = 5
SHOWN = (Organ.AIR, Organ.FAT, Organ.LIVER, Organ.SPLEEN)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("mr"), 3, SEED, workers=1, site="tiny mr")


@pytest.fixture(scope="module")
def patients():
    return [make_phantom_patient(SEED, index, "tiny mr") for index in range(3)]


def test_signals_follow_ernsts_equation_and_order_as_in_t1_weighting():
    signal = dict(zip(CODE, mean_signal(), strict=True))
    assert signal["liver"] == pytest.approx(1000)
    order = ["fat", "liver", "muscle", "spleen", "aorta", "gallbladder", "air"]
    assert sorted(order, key=lambda name: -signal[name]) == order

    def ernst(t1: float) -> float:
        decay, angle = np.exp(-150 / t1), np.deg2rad(70)
        return np.sin(angle) * (1 - decay) / (1 - np.cos(angle) * decay)

    assert signal["kidney cortex"] == pytest.approx(1000 * ernst(966) / ernst(586))


def test_ct_is_what_it_was_to_the_bit():
    """GENERATOR 1: the sums were taken before there was a magnet."""
    patient = make_phantom_patient(2026, 1, "tiny")
    digest = hashlib.sha256(patient.voxels.tobytes() + patient.labels.tobytes()).hexdigest()
    assert digest == "a400298ac80353b44b5cbac271976fe79e36e3eae45313ffce23975040c2b206"


def test_contrast_is_mr_and_its_scale_differs_between_patients(patients):
    medians = []
    for patient in patients:
        assert patient.voxels.min() >= 0, "no HU"
        medians.append([np.median(patient.voxels[patient.organs == organ]) for organ in SHOWN])
    scale = np.array(medians)[:, SHOWN.index(Organ.LIVER)]
    assert scale.max() > 1.5 * scale.min()
    air, fat, liver, spleen = np.mean(medians / scale[:, None], axis=0)
    assert fat > liver > spleen > 3 * air


def test_noise_of_the_air_is_rayleighs(patients):
    """Magnitudes of two channels: mean over standard deviation is sqrt(pi / (4 - pi)) = 1.91."""
    air = patients[0].voxels[:, :10, :10].astype(float)
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.1)


def test_the_same_patient_comes_again(patients):
    again = make_phantom_patient(SEED, 1, "tiny mr")
    assert (again.voxels == patients[1].voxels).all() and (again.organs == patients[1].organs).all()


def test_label_files_hold_organs_and_are_read_as_liver_and_tumour(written, patients):
    stored = np.asarray(nibabel.load(written / "segmentation-0.nii.gz").dataobj)
    assert {Organ.SPLEEN, Organ.KIDNEY, Organ.STOMACH} <= set(np.unique(stored).tolist())
    for case, patient in zip(find_cases(written).cases, patients, strict=True):
        np.testing.assert_array_equal(case.read_labels(case.read_volume()), patient.labels)


def test_another_organ_is_a_line_in_labels_json(written, patients, tmp_path):
    for path in written.iterdir():
        (tmp_path / path.name).hardlink_to(path)
    (tmp_path / "labels.json").unlink()
    (tmp_path / "labels.json").write_text(json.dumps({"liver": int(Organ.SPLEEN)}))
    case = find_cases(tmp_path).cases[0]
    labels = case.read_labels(case.read_volume())
    np.testing.assert_array_equal(labels, patients[0].organs == Organ.SPLEEN)


def test_checks_ask_mr_scans_for_no_hu(written):
    dataset = find_cases(written)
    as_mr = check_dataset(dataset, progress=False, modality="mr").findings
    assert set(as_mr.code) == {"ok", "label-lost-in-liver"}  # a gallbladder, half wrapped by the liver
    as_ct = check_dataset(dataset, progress=False).findings
    assert set(as_ct.code) == {"implausible-hu", "label-lost-in-liver"}


def test_pictures_of_patients_with_other_scales_are_alike(patients):
    recipe = Recipe(windows=choose_windows("auto", of_pictures=False, modality="mr"), size=128)
    greys = []
    for patient in patients:
        pictures = np.stack(list(prepare_slices(Volume(patient.voxels, patient.spacing_mm), recipe)))
        greys.append(np.median(pictures[patient.labels == 1], axis=0))
    assert np.ptp(greys, axis=0).max() < 60, "of 255; what is left is the uneven field"
    assert np.min(greys) > 60 and np.max(greys) < 220
