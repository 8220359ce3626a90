"""Why a result may be worse than promised."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from toy_system import toy_predictor

from livseg_lib.application.patient import cautions
from livseg_lib.application.scan import Scan
from livseg_lib.nifti import new_grid
from livseg_lib.preprocessing.recipe import picture_code
from livseg_lib.volumes import Volume


def scan_of(liver_hu: int = 105, spacing_mm=(2.5, 0.75, 0.75), depth: int = 20) -> tuple[Scan, np.ndarray]:
    """A scan of a liver in air, and its labels."""
    labels = np.zeros((depth, 12, 10), np.uint8)
    labels[2:-2, 3:9, 3:8] = 1
    voxels = np.where(labels == 1, liver_hu, -1000).astype(np.int16)
    affine = np.diag([*spacing_mm[::-1], 1.0])
    grid = new_grid(voxels.shape[::-1], affine, np.dtype(np.int16))
    return Scan(Volume(voxels, spacing_mm, grid)), labels


def test_a_portal_venous_scan_of_usual_spacing_needs_none():
    assert cautions(*scan_of(), toy_predictor()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"liver_hu": 45}, "without contrast medium"),
        ({"liver_hu": 180}, "another phase"),
        ({"spacing_mm": (7.5, 0.75, 0.75)}, "7.50 mm apart"),
        ({"spacing_mm": (2.5, 3.0, 3.0)}, "3.00 mm wide"),
        ({"spacing_mm": (1.0, 1.0, 1.0)}, "identity"),
        ({"depth": 9}, "9 slices"),
    ],
)
def test_what_is_far_from_the_usual_is_told(changes, words):
    found = cautions(*scan_of(**changes), toy_predictor())
    assert len(found) == 1 and words in found[0]


def test_a_liver_that_was_not_looked_for_has_no_phase():
    assert cautions(*scan_of(liver_hu=45), toy_predictor(structures=("tumor",))) == []


def test_an_empty_mask_is_told():
    scan, labels = scan_of()
    assert cautions(scan, np.zeros_like(labels), toy_predictor()) == ["Nothing was found: the mask is empty."]


def test_systems_trained_on_phantoms_say_so(monkeypatch):
    monkeypatch.setattr("livseg_lib.application.patient.training_runs", lambda system: ["phantom-quick"])
    (found,) = cautions(*scan_of(), toy_predictor())
    assert "synthetic phantoms (run phantom-quick)" in found


def test_pixels_of_the_benchmark_s_own_bounds_are_usual():
    for side in (0.56, 1.0):
        scan, labels = scan_of(spacing_mm=(2.0, side, side))
        assert cautions(replace(scan), labels, toy_predictor()) == []


@pytest.mark.parametrize("code, told", [(picture_code(), False), ("0" * 16, True)])
def test_a_system_whose_pictures_were_made_by_other_code_says_so(monkeypatch, code, told):
    trained = SimpleNamespace(system="unet", training={"picture_code": code})
    monkeypatch.setattr("livseg_lib.application.patient.networks_of", lambda system: [trained])
    found = cautions(*scan_of(), toy_predictor())
    assert bool(found) == told and all("unet was trained with" in each for each in found)
