"""Phantom scans against real CT (brightness, noise, how hard they are), and the phantom in a magnet."""

from __future__ import annotations

import hashlib

import cv2
import nibabel
import numpy as np
import pytest

from livseg_lib.datasets.phantom.body import CODE, MEASURED, Organ
from livseg_lib.datasets.phantom.patient import make_phantom_patient
from livseg_lib.datasets.phantom.scanner import mean_signal
from livseg_lib.preprocessing.recipe import Recipe, prepare_slices
from livseg_lib.preprocessing.windows import choose_windows
from livseg_lib.volumes import Volume

SEED = 2026
INDICES = (3, 4, 7, 8, 9)
"""Sites B, A, C, A, B; portal venous three times, then arterial and native; all with tumours."""


@pytest.fixture(scope="module")
def patients():
    return [make_phantom_patient(SEED, index) for index in INDICES]


def _core(mask: np.ndarray, pixels: int = 3) -> np.ndarray:
    """The mask without its rim in each slice."""
    kernel = np.ones((2 * pixels + 1,) * 2, np.uint8)
    return np.stack([cv2.erode(m, kernel) for m in mask.astype(np.uint8)]) > 0


def _mean_hu(patients, organ: Organ, phase: str) -> float:
    return float(
        np.mean([np.median(p.voxels[_core(p.organs == organ)]) for p in patients if p.phase == phase])
    )


def test_phases_sites_and_spacing_are_those_of_clinical_scans(patients):
    assert {patient.phase for patient in patients} == {"native", "arterial", "portal venous"}
    assert {patient.site.name for patient in patients} == {"A", "B", "C"}
    for patient in patients:
        slice_mm, row_mm, column_mm = patient.spacing_mm
        assert 0.6 <= row_mm == column_mm <= 0.9 and 1 <= slice_mm <= 5
        assert patient.voxels.shape[1] in (448, 512) and 30 <= len(patient.voxels) <= 200


VENOUS = {
    **{"liver": Organ.LIVER, "spleen": Organ.SPLEEN, "aorta": Organ.AORTA, "vena cava": Organ.VENA_CAVA},
    **{"portal vein": Organ.PORTAL_VEIN, "muscle": Organ.MUSCLE, "pancreas": Organ.PANCREAS},
}


@pytest.mark.parametrize("name", VENOUS)
def test_brightness_lies_near_that_of_real_scans(patients, name):
    """25 HU around the range of the real portal venous scans: three patients, each with its own timing."""
    real = [hu for source, hu in MEASURED[name].items() if "native" not in source]
    assert min(real) - 25 <= _mean_hu(patients, VENOUS[name], "portal venous") <= max(real) + 25
    if name in ("liver", "spleen", "aorta"):
        native = _mean_hu(patients, VENOUS[name], "native")
        assert native == pytest.approx(MEASURED[name]["totalseg native"], abs=18)


def test_vessels_follow_the_phase_and_fat_and_lung_do_not(patients):
    aorta = [_mean_hu(patients, Organ.AORTA, phase) for phase in ("native", "portal venous", "arterial")]
    assert aorta == sorted(aorta) and aorta[0] < 70
    assert _mean_hu(patients, Organ.LIVER, "portal venous") > _mean_hu(patients, Organ.LIVER, "arterial")
    for phase in ("native", "portal venous", "arterial"):
        assert _mean_hu(patients, Organ.FAT, phase) == pytest.approx(-103, abs=12)
        assert _mean_hu(patients, Organ.LUNG, phase) == pytest.approx(-860, abs=40)


def test_noise_is_that_of_the_site_and_correlated(patients):
    for patient in patients:
        liver = _core(patient.organs == Organ.LIVER, 5)
        k = int(liver.sum((1, 2)).argmax())
        picture = patient.voxels[k].astype(np.float32)
        noise, inside = picture - cv2.GaussianBlur(picture, (0, 0), 3), liver[k]
        low, high = patient.site.noise_hu
        assert 0.7 * low <= noise[inside].std() <= 1.2 * high
        neighbours = inside[:, 1:] & inside[:, :-1]
        correlation = np.corrcoef(noise[:, 1:][neighbours], noise[:, :-1][neighbours])[0, 1]
        assert 0.15 < correlation < 0.5  # real CT: 0.25 to 0.40


def _tumor_contrasts(patient) -> list[tuple[float, float]]:
    """Diameter and measured contrast in HU (middle against the liver) of each tumour."""
    liver_hu = np.median(patient.voxels[patient.organs == Organ.LIVER])
    places = [np.arange(n) * s for n, s in zip(patient.voxels.shape, patient.spacing_mm, strict=True)]
    found = []
    for lesion in (lesion for lesion in patient.lesions if lesion.kind == "tumor"):
        reach = lesion.diameter_mm / 4
        box = tuple(
            slice(*np.searchsorted(axis, (c - reach, c + reach)))
            for axis, c in zip(places, lesion.center_mm, strict=True)
        )
        found.append((lesion.diameter_mm, float(patient.voxels[box].mean() - liver_hu)))
    return found


def test_tumors_of_a_centimetre_can_be_seen(patients):
    contrasts = [hu for patient in patients for mm, hu in _tumor_contrasts(patient) if mm >= 10]
    assert len(contrasts) >= 8
    assert np.mean(np.abs(contrasts) > 8) >= 0.9
    assert np.median(contrasts) == pytest.approx(-30, abs=15)  # real: -13 to -46


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def _smooth(patient) -> tuple[np.ndarray, np.ndarray]:
    """Scan averaged, and labels picked, over about 3 mm in each slice."""
    shape = (128, 128)
    voxels = [cv2.resize(s.astype(np.float32), shape, interpolation=cv2.INTER_AREA) for s in patient.voxels]
    labels = [cv2.resize(s, shape, interpolation=cv2.INTER_NEAREST) for s in patient.labels]
    return np.stack(voxels), np.stack(labels)


def test_no_threshold_finds_tumors_even_inside_the_true_liver(patients):
    smooth = [_smooth(patient) for patient in patients]
    thresholds = range(-20, 160, 5)
    scores = [
        [_dice(voxels[labels > 0] < t, labels[labels > 0] == 2) for t in thresholds]
        for voxels, labels in smooth
    ]
    assert np.mean(scores, 0).max() < 0.5  # one threshold for all, chosen with the truth
    assert np.max(scores, 1).mean() < 0.6  # the best for each patient, chosen with the truth


def test_measured_values_are_those_of_the_real_scans(real_ct):
    folder = real_ct / "ircadb17"

    def read(name: str) -> np.ndarray:
        return np.asarray(nibabel.load(folder / f"{name}.nii.gz").dataobj).transpose(2, 1, 0)

    ct, liver = read("ct"), read("mask_liver") > 0
    tumors = [read(f"mask_livertumor{n}") > 0 for n in (1, 2)]
    vessels = [read(f"mask_{name}") > 0 for name in ("portalvein", "venoussystem", "artery")]
    liver_hu = ct[_core(liver & ~np.any(tumors + vessels, axis=0))].mean()
    assert liver_hu == pytest.approx(MEASURED["liver"]["ircad17"], abs=2)
    assert ct[_core(vessels[0], 1)].mean() == pytest.approx(MEASURED["portal vein"]["ircad17"], abs=3)
    for n, tumor in enumerate(tumors, 1):
        difference = ct[_core(tumor, 2)].mean() - liver_hu
        assert difference == pytest.approx(MEASURED["tumour minus liver"][f"ircad17 {n}"], abs=4)


# --- the same bodies in a magnet: other contrast, no scale

MR_SEED = 5
SHOWN = (Organ.AIR, Organ.FAT, Organ.LIVER, Organ.SPLEEN)


@pytest.fixture(scope="module")
def mr_patients():
    return [make_phantom_patient(MR_SEED, index, "tiny mr") for index in range(3)]


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


def test_contrast_is_mr_and_its_scale_differs_between_patients(mr_patients):
    medians = []
    for patient in mr_patients:
        assert patient.voxels.min() >= 0, "no HU"
        medians.append([np.median(patient.voxels[patient.organs == organ]) for organ in SHOWN])
    scale = np.array(medians)[:, SHOWN.index(Organ.LIVER)]
    assert scale.max() > 1.5 * scale.min()
    air, fat, liver, spleen = np.mean(medians / scale[:, None], axis=0)
    assert fat > liver > spleen > 3 * air


def test_noise_of_the_air_is_rayleighs(mr_patients):
    """Magnitudes of two channels: mean over standard deviation is sqrt(pi / (4 - pi)) = 1.91."""
    air = mr_patients[0].voxels[:, :10, :10].astype(float)
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.1)


def test_pictures_of_patients_with_other_scales_are_alike(mr_patients):
    recipe = Recipe(windows=choose_windows("auto", of_pictures=False, modality="mr"), size=128)
    greys = []
    for patient in mr_patients:
        pictures = np.stack(list(prepare_slices(Volume(patient.voxels, patient.spacing_mm), recipe)))
        greys.append(np.median(pictures[patient.labels == 1], axis=0))
    assert np.ptp(greys, axis=0).max() < 60, "of 255; what is left is the uneven field"
    assert np.min(greys) > 60 and np.max(greys) < 220
