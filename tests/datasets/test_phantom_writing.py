"""The phantom's folder: LiTS's layout, stored orientations, resumption, honest tables."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from isal import igzip

from livseg_lib import files as atomic
from livseg_lib.datasets.phantom import lesions, writing
from livseg_lib.datasets.phantom.patient import PhantomPatient, make_phantom_patient
from livseg_lib.datasets.phantom.scanner import SITES
from livseg_lib.datasets.phantom.writing import write_phantom
from livseg_lib.errors import InputError
from livseg_lib.volumes import load_segmentation, load_volume

SEED = 5


def write(folder, n_patients=2, seed=SEED, workers=1, site="tiny"):
    return write_phantom(folder, n_patients, seed, workers, site)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("phantom"))


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_layout_is_that_of_lits(written):
    names = set(contents(written))
    cases = {f"{kind}-{n}.nii.gz" for kind in ("volume", "segmentation") for n in range(2)}
    assert cases <= names
    assert names - cases == {
        "phantom.json", "patients.csv", "lesions.csv", "case-0.json", "case-1.json",
    }  # fmt: skip


def test_files_hold_the_patient_in_the_stored_orientation(written):
    patient = make_phantom_patient(SEED, 1, "tiny")
    for name, truth in (("volume", patient.voxels), ("segmentation", patient.labels)):
        image = nibabel.load(written / f"{name}-1.nii.gz")
        assert "".join(nibabel.aff2axcodes(image.affine)) == SITES["tiny"].orientation == "RAS"
        assert image.get_data_dtype() == truth.dtype
        stored = np.asarray(image.dataobj)
        assert (stored == truth.transpose(2, 1, 0)[::-1, ::-1]).all()  # left-right and front-back turned
        assert image.header.get_zooms() == pytest.approx(patient.spacing_mm[::-1])
        assert int(image.header["sform_code"]) > 0
        assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-3)


def test_reading_gives_the_patient_back(written):
    patient = make_phantom_patient(SEED, 0, "tiny")
    volume = load_volume(written / "volume-0.nii.gz")
    assert (volume.voxels == patient.voxels).all()
    assert volume.spacing_mm == pytest.approx(patient.spacing_mm)
    assert (load_segmentation(written / "segmentation-0.nii.gz", like=volume) == patient.labels).all()


@pytest.mark.parametrize("site", ["A", "B", "C"])
def test_every_site_stores_the_same_places_in_its_own_order(tmp_path, site):
    """A world coordinate means the same voxel, whatever the orientation."""
    voxels = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    labels = np.zeros(voxels.shape, np.uint8)
    patient = PhantomPatient(voxels, labels, labels, (5.0, 0.7, 0.7), SITES[site], "native", ())
    writing._write_nifti(tmp_path / "x.nii.gz", voxels, patient)
    image = nibabel.load(tmp_path / "x.nii.gz")
    assert "".join(nibabel.aff2axcodes(image.affine)) == SITES[site].orientation
    for (k, row, column), value in np.ndenumerate(voxels):
        world = [-0.7 * column, -0.7 * row, 5.0 * k, 1]  # left is -x, back is -y in RAS
        index = np.rint(np.linalg.inv(image.affine) @ world)[:3].astype(int)
        assert image.dataobj[tuple(index)] == value


def test_tables_agree_with_the_files(written):
    patients, lesions = pd.read_csv(written / "patients.csv"), pd.read_csv(written / "lesions.csv")
    assert list(patients["case"]) == ["volume-0", "volume-1"]
    for n, row in enumerate(patients.itertuples()):
        image = nibabel.load(written / f"segmentation-{n}.nii.gz")
        labels, voxel_ml = np.asarray(image.dataobj), np.prod(image.header.get_zooms()) / 1000
        assert row.liver_ml == pytest.approx((labels > 0).sum() * voxel_ml, abs=0.01)
        assert row.tumor_ml == pytest.approx((labels == 2).sum() * voxel_ml, abs=0.01)
        assert row.slices == labels.shape[2]
        mine = lesions[lesions["case"] == row.case]
        assert row.n_tumors == (mine["kind"] == "tumor").sum()
        assert row.n_cysts == (mine["kind"] == "cyst").sum()


def test_lesions_lie_where_the_table_says(written):
    lesions = pd.read_csv(written / "lesions.csv")
    tumors = lesions[lesions["kind"] == "tumor"]
    assert len(tumors)
    for row in tumors.itertuples():
        n = row.case.removeprefix("volume-")
        image = nibabel.as_closest_canonical(nibabel.load(written / f"segmentation-{n}.nii.gz"))
        labels = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
        centre = [row.center_d_mm, row.center_h_mm, row.center_w_mm]
        index = np.rint(np.array(centre) / np.array(image.header.get_zooms())[::-1]).astype(int)
        around = tuple(slice(max(i - 1, 0), i + 2) for i in index)
        assert (labels[around] == 2).any()


def test_workers_do_not_change_a_byte(written, tmp_path):
    assert contents(write(tmp_path / "two", workers=2)) == contents(written)


def test_a_killed_run_goes_on_where_it_stopped(written, tmp_path, monkeypatch):
    folder, compress, files = tmp_path / "phantom", igzip.compress, []

    def compress_and_die(content, **options):
        if len(files) == 2:
            raise KeyboardInterrupt
        files.append(len(content))
        return compress(content, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(igzip, "compress", compress_and_die)
        write(folder)
    first = (folder / "volume-0.nii.gz").stat().st_mtime_ns
    assert not (folder / "patients.csv").exists()  # nothing looks finished
    (folder / "volume-1.nii.gz").write_bytes(b"half")  # what a kill between the two files leaves
    left = f".segmentation-1.partial-{atomic._HERE}-{2**22 + 1}-00000000.nii.gz"  # of no process that runs
    (folder / left).write_bytes(b"half")
    assert contents(write(folder)) == contents(written)
    assert (folder / "volume-0.nii.gz").stat().st_mtime_ns == first


def test_a_phantom_of_other_code_is_made_anew_and_the_reason_is_said(tmp_path, monkeypatch, capsys):
    before = contents(write(tmp_path))
    write(tmp_path)
    assert "anew" not in capsys.readouterr().out
    monkeypatch.setattr(lesions, "FIRST_TUMOR_MM", 30.0)
    assert contents(write(tmp_path)) != before
    assert "made anew, changed since: the phantom" in capsys.readouterr().out
    monkeypatch.undo()
    assert contents(write(tmp_path)) == before


def test_finished_cases_are_kept_and_more_can_be_added(written, tmp_path):
    folder = tmp_path / "phantom"
    shutil.copytree(written, folder)
    for name in ("case-1.json", "volume-1.nii.gz", "segmentation-1.nii.gz", "patients.csv", "lesions.csv"):
        (folder / name).unlink()  # as if one patient had been asked for
    before = (folder / "volume-0.nii.gz").stat().st_mtime_ns
    assert contents(write(folder)) == contents(written)
    assert (folder / "volume-0.nii.gz").stat().st_mtime_ns == before


def test_other_settings_or_fewer_patients_are_refused(written):
    before = contents(written)
    with pytest.raises(InputError, match="with settings") as refused:
        write(written, seed=SEED + 1)
    assert "another folder" in refused.value.remedy
    with pytest.raises(InputError, match="1 patients beyond"):
        write(written, 1)
    assert contents(written) == before


def test_a_set_without_lesions_has_an_empty_lesion_table(tmp_path):
    writing._write_table(tmp_path / "lesions.csv", [])
    assert list(pd.read_csv(tmp_path / "lesions.csv").columns)[:3] == ["case", "lesion", "kind"]


def test_settings_are_recorded(written):
    assert json.loads((written / "phantom.json").read_text())["seed"] == SEED
