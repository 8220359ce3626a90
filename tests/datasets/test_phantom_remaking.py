"""What the seed brings back of a written phantom."""

from __future__ import annotations

import json

import pytest

from livseg_lib.datasets.catalogue import find_cases
from livseg_lib.datasets.phantom.body import Organ, labels_of_organs
from livseg_lib.datasets.phantom.patient import make_phantom_organs, make_phantom_patient
from livseg_lib.datasets.phantom.writing import is_phantom, painted_lesions, remake_organs, write_phantom
from livseg_lib.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom"), 2, seed=11, workers=1, site="tiny")


def test_organs_without_a_scan_are_those_of_the_scan():
    patient = make_phantom_patient(11, 0, "tiny")
    assert (make_phantom_organs(11, 0, "tiny") == patient.organs).all()


def test_remade_organs_lie_on_the_grid_of_the_files(folder):
    [*cases] = find_cases(folder, "lits").cases
    for case in cases:
        organs = remake_organs(folder, case.case_id)
        volume = case.read_volume()
        assert (labels_of_organs(organs) == case.read_labels(volume)).all()
        bone = volume.voxels[organs == Organ.BONE].mean()
        assert bone > 100 > volume.voxels[organs == Organ.FAT].mean()


def test_painted_lesions_are_of_one_case(folder):
    for index in (0, 1):
        lesions = make_phantom_patient(11, index, "tiny").lesions
        rows = painted_lesions(folder, f"volume-{index}")
        assert list(rows.kind) == [each.kind for each in lesions]
        assert list(rows.diffuse) == [each.diffuse for each in lesions]


def test_what_is_no_phantom_cannot_be_made_again(folder, tmp_path):
    assert is_phantom(folder) and not is_phantom(tmp_path)
    with pytest.raises(InputError, match="no phantom"):
        remake_organs(tmp_path, "volume-0")
    for name in ("volume-7", "scan", "volume-0.nii"):
        with pytest.raises(InputError, match="no case"):
            remake_organs(folder, name)
    (tmp_path / "phantom.json").write_text(json.dumps({"phantom": 0, "seed": 1, "site": None}))
    with pytest.raises(InputError, match="changed since: the phantom"):
        remake_organs(tmp_path, "volume-0")
