"""Tumour or not, for a whole scan, and why a result may be worse than promised."""

from types import SimpleNamespace

import numpy as np
import pytest
from toy_system import toy_predictor

from livseg_lib.application.predictor import SMALLEST_SHARE, cautions, presence_from_planes
from livseg_lib.application.scan import Scan
from livseg_lib.nifti import new_grid
from livseg_lib.preprocessing.recipe import picture_code
from livseg_lib.provenance import made_with
from livseg_lib.volumes import Volume

BOTH = ("liver", "tumor")


def scan_of(liver_hu: int = 105, spacing_mm=(2.5, 0.75, 0.75), depth: int = 20) -> tuple[Scan, np.ndarray]:
    """A scan of a liver in air, and its labels."""
    labels = np.zeros((depth, 12, 10), np.uint8)
    labels[2:-2, 3:9, 3:8] = 1
    voxels = np.where(labels == 1, liver_hu, -1000).astype(np.int16)
    affine = np.diag([*spacing_mm[::-1], 1.0])
    grid = new_grid(voxels.shape[::-1], affine, np.dtype(np.int16))
    return Scan(Volume(voxels, spacing_mm, grid)), labels


@pytest.mark.parametrize(
    ("changes", "structures", "words"),
    [
        ({}, BOTH, []),
        ({"spacing_mm": (2.0, 0.56, 0.56)}, BOTH, []),  # the benchmark's own bounds
        ({"spacing_mm": (2.0, 1.0, 1.0)}, BOTH, []),
        ({"liver_hu": 45}, BOTH, ["without contrast medium"]),
        ({"liver_hu": 45}, ("tumor",), []),  # a liver that was not looked for has no phase
        ({"liver_hu": 66}, BOTH, []),
        ({"liver_hu": 144}, BOTH, []),
        ({"liver_hu": 180}, BOTH, ["another phase"]),
        ({"spacing_mm": (7.5, 0.75, 0.75)}, BOTH, ["7.50 mm apart"]),
        ({"spacing_mm": (2.5, 3.0, 3.0)}, BOTH, ["3.00 mm wide"]),
        ({"spacing_mm": (1.0, 1.0, 1.0)}, BOTH, ["identity"]),
        ({"depth": 15}, BOTH, ["15 slices"]),
        ({"depth": 16}, BOTH, []),
    ],
)
def test_what_is_far_from_the_usual_is_told(changes, structures, words):
    found = cautions(*scan_of(**changes), toy_predictor(structures=structures))
    assert len(found) == len(words) and all(word in each for word, each in zip(words, found, strict=True))


@pytest.mark.parametrize(
    "ends, words",
    [
        *([(0, 3, 3), "the first slice"], [(-1, 3, 3), "the last"], [([0, -1], 3, 3), "first and the last"]),
        *([np.s_[4, side, 3], "the edge"] for side in (0, -1)),
        *([np.s_[4, 3, side], "the edge"] for side in (0, -1)),
    ],
)
def test_a_liver_that_leaves_the_scan_is_told(ends, words):
    scan, labels = scan_of()
    labels[ends] = 1
    (found,) = cautions(scan, labels, toy_predictor())
    assert words in found and cautions(scan, labels, toy_predictor(structures=("tumor",))) == []


def test_an_empty_mask_and_a_training_on_phantoms_are_told(monkeypatch):
    scan, labels = scan_of()
    assert cautions(scan, labels * 0, toy_predictor()) == ["Nothing was found: the mask is empty."]
    monkeypatch.setattr("livseg_lib.application.predictor.training_runs", lambda system: ["phantom-quick"])
    (found,) = cautions(scan, labels, toy_predictor())
    assert "synthetic phantoms (run phantom-quick)" in found


TODAY, OTHER = made_with()["python"], "3.9"  # whose bytes of the same code are others


@pytest.mark.parametrize(
    "code, python, told",
    [(picture_code(), TODAY, False), ("0" * 16, TODAY, True), ("0" * 16, OTHER, False)],
)
def test_a_system_whose_pictures_were_made_by_other_code_says_so(monkeypatch, code, python, told):
    of_ct = SimpleNamespace(modality="ct")
    training = {"picture_code": code, "made_by": {"libraries": {"python": python}}}
    trained = SimpleNamespace(system="unet", training=training, recipe=of_ct)
    monkeypatch.setattr("livseg_lib.application.predictor.networks_of", lambda system: [trained])
    found = cautions(*scan_of(), toy_predictor())
    assert bool(found) == told and all("unet was trained with" in each for each in found)


SIZE = 64
AREA = round(SIZE * SIZE * SMALLEST_SHARE)
THRESHOLDS = {"liver": 0.5, "tumor": 0.4}


def planes_with(tumor_pixels: int, level: int, liver: bool = True) -> np.ndarray:
    """Three pictures of liver; the second has `tumor_pixels` pixels of tumour at `level`."""
    planes = np.zeros((3, SIZE, SIZE, 2), np.uint8)
    planes[..., 0] = 255 * liver
    planes[1, 10, :tumor_pixels, 1] = level
    return planes


@pytest.mark.parametrize(
    ("pixels", "level", "suspected", "probability"),
    [
        (AREA, 204, True, 0.8),
        (AREA - 1, 255, False, 0.0),  # a speck
        (9, 102, True, 0.4),  # 102 / 255 is the threshold
        (9, 101, False, 101 / 255),
    ],
)
def test_the_probability_is_that_of_the_smallest_area_that_counts(pixels, level, suspected, probability):
    assert AREA == 2
    found = presence_from_planes(planes_with(pixels, level), THRESHOLDS)
    assert found.suspected is suspected and found.probability == pytest.approx(probability)


def test_only_the_liver_counts_the_network_s_own_or_the_one_that_is_known():
    outside = planes_with(9, 255, liver=False)
    assert not presence_from_planes(outside, THRESHOLDS).suspected
    known = np.ones(outside.shape[:3], bool)
    found = presence_from_planes(outside, THRESHOLDS, known)
    assert found.suspected and "inside the liver" in found.how
    assert not presence_from_planes(outside, THRESHOLDS, ~known).suspected
    for_tumors_alone = presence_from_planes(outside[..., 1:], {"tumor": 0.5})
    assert for_tumors_alone.suspected and "inside the liver" not in for_tumors_alone.how
    for_livers = presence_from_planes(outside[..., :1], {"liver": 0.5})
    assert for_livers.suspected is None and np.isnan(for_livers.probability)
