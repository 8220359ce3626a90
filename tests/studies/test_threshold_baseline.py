"""The baseline without a network: its numbers, its scores, its rows."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from solids import dice, labelled

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.inference.evaluate import evaluate_labels
from livseg_lib.studies import threshold_baseline
from livseg_lib.studies.threshold_baseline import Baseline, fit_baseline
from livseg_lib.volumes import Volume


def scan(seed: int, has_tumor: bool = True, spacing_mm=(3.0, 2.0, 2.0)) -> tuple[Volume, np.ndarray]:
    """A liver of 90 to 120 HU in fat, with a spleen beside it, and a tumour 40 HU darker."""
    generator = np.random.default_rng(seed)
    tumors = [np.s_[2:6, 30:42, 28:40]] if has_tumor else []
    labels = labelled((8, 80, 90), *tumors, liver=np.s_[1:7, 15:60, 10:60])
    liver_hu = 90 + 10 * (seed % 4)
    hu = np.choose(labels, [-50, liver_hu, liver_hu - 40]).astype(float)
    hu[1:7, 30:45, 66:80] = liver_hu
    return Volume((hu + generator.normal(0, 5, hu.shape)).astype(np.int16), spacing_mm), labels


def patient(number: int, has_tumor: bool = True, spacing_mm=(3.0, 2.0, 2.0)) -> Case:
    volume, labels = scan(number, has_tumor, spacing_mm)
    return Case(f"case-{number}", f"p{number}", (), lambda: volume, lambda _: labels)


def patients(numbers, spacing_mm=(3.0, 2.0, 2.0), without_tumor=()) -> list[Case]:
    return [patient(number, number not in without_tumor, spacing_mm) for number in numbers]


@pytest.fixture(scope="module")
def fitted() -> Baseline:
    return fit_baseline(patients(range(4), without_tumor=(3,)), ("liver", "tumor"), "relative")


def test_the_chosen_rules_outline_other_patients(fitted, tmp_path):
    assert fitted.training["n_train_patients"] == 4 and fitted.training["liver_dice"] > 0.9
    found = evaluate_labels(fitted, fitted.predict, patients((8, 9)), tmp_path)
    scores = pd.DataFrame(found.patients).set_index(["structure", "patient"]).dice
    assert (scores["liver"] > 0.9).all() and (scores["tumor"] > 0.6).all()


def test_the_relative_cut_beats_the_fixed_one_where_contrast_differs(fitted):
    fixed = fit_baseline(patients(range(4), without_tumor=(3,)), ("liver", "tumor"), "fixed")
    assert not fixed.tumor_rule.is_relative and fixed.tumor_rule.cut_hu > 0
    assert (fixed.system, fitted.system) == ("threshold", "threshold_relative")
    assert fixed.parameters == fitted.parameters == 5
    assert fixed.training["tumor_dice"] < fitted.training["tumor_dice"]


def test_a_liver_alone_and_pictures_without_spacing():
    baseline = fit_baseline(patients(range(3), (np.nan,) * 3), ("liver",))
    assert baseline.tumor_rule is None and baseline.parameters == 3
    volume, truth = scan(5, spacing_mm=(np.nan,) * 3)
    assert dice(baseline.predict(None, volume) >= 1, truth >= 1) > 0.8


def test_no_more_patients_are_read_than_allowed():
    read = []

    def read_and_note(case):
        read.append(case.case_id)
        return case.read_volume()

    cases = [replace(case, read_volume=partial(read_and_note, case)) for case in patients(range(9))]
    fit_baseline(cases, ("liver",), most_cases=3)
    assert set(read) == {"case-0", "case-4", "case-8"}


def test_settings_that_cannot_be_used():
    with pytest.raises(InputError, match="tumor_cut"):
        fit_baseline(patients((1,)), ("liver",), "otsu")
    blind = [replace(patient(0), read_labels=lambda volume: volume.voxels * 0)]
    with pytest.raises(InputError, match="show no liver"):
        fit_baseline(blind, ("liver",))


def read_mr(scale: float, seed: int) -> Volume:
    """The scan of patient `seed` as a magnet might store it: no air, nothing below 0, any scale."""
    volume = scan(seed)[0]
    voxels = np.rint((volume.voxels + 300.0) * scale).astype(np.int16)
    return Volume(voxels, volume.spacing_mm)


@pytest.mark.parametrize("scale", [0.5, 15.0])
def test_for_mr_it_looks_at_a_patients_own_range_of_intensities(scale):
    cases = [replace(patient(n), read_volume=partial(read_mr, scale, n)) for n in (1, 5)]
    baseline = fit_baseline(cases, ("liver", "tumor"), "relative", modality="mr")
    assert baseline.training["liver_dice"] > 0.9 and baseline.training["tumor_dice"] > 0.6
    labels = [baseline.predict(cases[0], read_mr(other, 1)) for other in (scale, 3 * scale)]
    assert (labels[0] != labels[1]).mean() < 0.01 and (labels[0] == 2).any()


LIVER, TUMOR = threshold_baseline.LiverRule(80, 120, 8), threshold_baseline.TumorRule(-30, 4)
SPACING_MM = (3.0, 1.0, 1.0)


def abdomen(noise_hu: float = 0.0) -> tuple[Volume, np.ndarray]:
    """HU and labels: a liver with a tumour, a thin wall of the same HU, a small organ of the same HU."""
    hu = np.full((12, 160, 180), -50.0)
    labels = labelled(hu.shape, np.s_[4:8, 60:80, 50:70], liver=np.s_[2:10, 30:110, 20:100])
    hu[labels == 1], hu[labels == 2] = 100, 50
    hu[:, 10:20, :], hu[2:10, 20:30, 60:68] = 100, 100  # the wall, and a bridge to it
    hu[2:10, 30:60, 130:160] = 100
    hu += np.random.default_rng(0).normal(0, noise_hu, hu.shape)
    return Volume(hu.astype(np.int16), SPACING_MM), labels


@pytest.mark.parametrize("noise_hu", [0, 15])
def test_finds_the_liver_without_its_neighbours_and_the_tumour_in_it(noise_hu):
    volume, truth = abdomen(noise_hu)
    labels = threshold_baseline.outline_by_hu(volume, LIVER, TUMOR)
    assert labels.shape == truth.shape and labels.dtype == np.uint8
    assert dice(labels >= 1, truth >= 1) > 0.93 and dice(labels == 2, truth == 2) > 0.8
    assert not labels[:, :20].any() and not labels[:, :, 125:].any()
    unopened = threshold_baseline.outline_by_hu(volume, threshold_baseline.LiverRule(80, 120, 0))
    assert unopened[:, 12:18].any()  # the opening cut the wall off


def test_no_rule_for_tumours_gives_a_whole_liver():
    volume, truth = abdomen()
    labels = threshold_baseline.outline_by_hu(volume, LIVER)
    assert set(np.unique(labels)) == {0, 1} and labels[truth == 2].all()
    air = Volume(np.full((3, 20, 20), -1000, np.int16), SPACING_MM)
    assert not threshold_baseline.outline_by_hu(air, LIVER, TUMOR).any()


@pytest.mark.parametrize("is_relative", [True, False])
def test_a_relative_cut_follows_the_contrast_and_a_fixed_one_does_not(is_relative):
    volume, _ = abdomen()
    rule = threshold_baseline.TumorRule(-30 if is_relative else 70, 4, is_relative)
    brighter = Volume(volume.voxels + 40, SPACING_MM)
    scans = (volume, LIVER), (brighter, threshold_baseline.LiverRule(120, 160, 8))
    found = [threshold_baseline.outline_by_hu(*each, rule) for each in scans]
    assert [bool((labels == 2).any()) for labels in found] == [True, is_relative]


def test_specks_under_a_millilitre_are_no_tumours():
    volume, _ = abdomen()
    scan = threshold_baseline.smooth_scan(volume)
    liver = np.zeros(scan.planes.shape, bool)
    liver[2:10, 15:55, 10:50] = True
    scan.planes[liver] = 100
    scan.planes[5, 30, 20:42] = 0  # 22 voxels of 12 mm3
    scan.planes[8, 20:30, 20:29] = 0  # 90 of them: 1.08 ml
    found = threshold_baseline.find_tumors(scan, liver, TUMOR)
    assert not found[5].any() and found[8].sum() == 90


def test_pictures_are_taken_one_by_one():
    volume, _ = abdomen()
    apart = np.stack([volume.voxels[5], np.roll(volume.voxels[5], 60, axis=1)])
    unknown = (np.nan,) * 3
    # As one volume the two livers would overlap, and the larger part of both be one component.
    together = threshold_baseline.outline_by_hu(Volume(apart, unknown), LIVER)
    alone = [threshold_baseline.outline_by_hu(Volume(picture[None], unknown), LIVER)[0] for picture in apart]
    np.testing.assert_array_equal(together, np.stack(alone))
    assert all(labels.any() for labels in alone)


def test_scans_of_any_pixel_size_look_alike_to_the_rules():
    volume, _ = abdomen()
    coarse = Volume(np.ascontiguousarray(volume.voxels[:, ::2, ::2]), (3.0, 2.0, 2.0))
    scans = [threshold_baseline.smooth_scan(each) for each in (volume, coarse)]
    assert scans[0].planes.shape == scans[1].planes.shape == (12, 80, 90)
    assert [scan.voxel_volume_ml for scan in scans] == pytest.approx([0.012, 0.012])
    assert [scan.is_contiguous for scan in scans] == [True, True]


def test_the_margin_keeps_off_the_blurred_edge():
    volume, truth = abdomen()
    scan = threshold_baseline.smooth_scan(volume)
    liver = threshold_baseline._resized(truth >= 1, scan.planes.shape[1:])
    ring = liver & ~threshold_baseline._by_plane(liver, threshold_baseline.cv2.MORPH_ERODE, 8)
    for margin, touches in ((8, False), (0, True)):
        found = threshold_baseline.find_tumors(scan, liver, threshold_baseline.TumorRule(-5, margin))
        assert (found & ring).any() == touches
