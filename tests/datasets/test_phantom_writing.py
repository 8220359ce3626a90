"""The phantom's folder: LiTS's layout, stored orientations, resumption, honest tables."""

import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from isal import igzip

from livseg_lib import files as atomic
from livseg_lib.datasets.catalogue import check_dataset, find_cases
from livseg_lib.datasets.phantom import patient as lesions
from livseg_lib.datasets.phantom import writing
from livseg_lib.datasets.phantom.body import Organ, labels_of_organs
from livseg_lib.datasets.phantom.patient import PhantomPatient, make_phantom_patient
from livseg_lib.datasets.phantom.scanner import SITES
from livseg_lib.datasets.phantom.writing import is_phantom, painted_lesions, remake_organs, write_phantom
from livseg_lib.errors import InputError

SEED = 5


def write(folder, n_patients=2, seed=SEED, workers=1, site="tiny"):
    return write_phantom(folder, n_patients, seed, workers, site)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("phantom"))


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("site", ["A", "B", "C", "tiny"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_every_site_stores_the_same_places_in_its_own_order(tmp_path, site, dtype):
    """A world coordinate means the same voxel, whatever the orientation."""
    voxels = np.arange(2 * 3 * 4, dtype=dtype).reshape(2, 3, 4)
    patient = PhantomPatient(voxels, voxels, voxels, (5.0, 0.7, 0.7), SITES[site], "native", ())
    writing._write_nifti(tmp_path / "x.nii.gz", voxels, patient)
    image = nibabel.load(tmp_path / "x.nii.gz")
    assert "".join(nibabel.aff2axcodes(image.affine)) == SITES[site].orientation
    assert image.get_data_dtype() == dtype and image.header["sform_code"] > 0
    assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-3)
    for (k, row, column), value in np.ndenumerate(voxels):
        world = [-0.7 * column, -0.7 * row, 5.0 * k, 1]  # left is -x, back is -y in RAS
        index = np.rint(np.linalg.inv(image.affine) @ world)[:3].astype(int)
        assert image.dataobj[tuple(index)] == value


def test_tables_agree_with_the_files_and_the_layout_is_that_of_lits(written):
    names = {f"{kind}-{n}.nii.gz" for kind in ("volume", "segmentation") for n in range(2)}
    names |= {"phantom.json", "patients.csv", "lesions.csv", "case-0.json", "case-1.json"}
    assert set(contents(written)) == names
    patients, lesions = pd.read_csv(written / "patients.csv"), pd.read_csv(written / "lesions.csv")
    assert list(patients["case"]) == ["volume-0", "volume-1"] and (lesions["kind"] == "tumor").any()
    for n, row in enumerate(patients.itertuples()):
        image = nibabel.as_closest_canonical(nibabel.load(written / f"segmentation-{n}.nii.gz"))
        labels = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
        sides_mm = np.array(image.header.get_zooms())[::-1]
        voxel_ml = np.prod(sides_mm) / 1000
        assert row.liver_ml == pytest.approx((labels > 0).sum() * voxel_ml, abs=0.01)
        assert row.tumor_ml == pytest.approx((labels == 2).sum() * voxel_ml, abs=0.01)
        assert (row.slices, row.slice_spacing_mm) == (len(labels), pytest.approx(sides_mm[0]))
        mine = painted_lesions(written, row.case)
        assert [tuple(each) for each in mine[["kind", "diffuse"]].values] == [
            (each.kind, each.diffuse) for each in make_phantom_patient(SEED, n, "tiny").lesions
        ]
        tumors = mine[mine["kind"] == "tumor"]
        assert (row.n_tumors, row.n_cysts) == (len(tumors), (mine["kind"] == "cyst").sum())
        for centre in tumors[["center_d_mm", "center_h_mm", "center_w_mm"]].to_numpy():
            index = np.rint(centre / sides_mm).astype(int)
            assert (labels[tuple(slice(max(i - 1, 0), i + 2) for i in index)] == 2).any()


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


def test_finished_cases_are_kept_and_more_can_be_added_by_any_number_of_workers(written, tmp_path):
    folder = tmp_path / "phantom"
    shutil.copytree(written, folder)
    for name in ("case-1.json", "volume-1.nii.gz", "segmentation-1.nii.gz", "patients.csv", "lesions.csv"):
        (folder / name).unlink()  # as if one patient had been asked for
    before = (folder / "volume-0.nii.gz").stat().st_mtime_ns
    assert contents(write(folder)) == contents(written)
    assert (folder / "volume-0.nii.gz").stat().st_mtime_ns == before
    (folder / "case-0.json").unlink()
    (folder / "case-1.json").unlink()
    assert contents(write(folder, workers=2)) == contents(written)


def test_other_settings_or_fewer_patients_are_refused(written):
    before = contents(written)
    assert json.loads(before["phantom.json"])["seed"] == SEED
    with pytest.raises(InputError, match="with settings") as refused:
        write(written, seed=SEED + 1)
    assert "another folder" in refused.value.remedy
    with pytest.raises(InputError, match="1 patients beyond"):
        write(written, 1)
    assert contents(written) == before


# --- what the seed brings back


def test_remade_organs_lie_on_the_grid_of_the_files(written):
    for index, case in enumerate(find_cases(written, "lits").cases):
        organs, patient = remake_organs(written, case.case_id), make_phantom_patient(SEED, index, "tiny")
        assert (organs == patient.organs).all()
        volume = case.read_volume()
        assert (volume.voxels == patient.voxels).all()
        assert volume.spacing_mm == pytest.approx(patient.spacing_mm)
        assert (labels_of_organs(organs) == case.read_labels(volume)).all()
        bone = volume.voxels[organs == Organ.BONE].mean()
        assert bone > 100 > volume.voxels[organs == Organ.FAT].mean()


def test_what_is_no_phantom_cannot_be_made_again(written, tmp_path):
    assert is_phantom(written) and not is_phantom(tmp_path)
    with pytest.raises(InputError, match="no phantom"):
        remake_organs(tmp_path, "volume-0")
    for name in ("volume-7", "scan", "volume-0.nii"):
        with pytest.raises(InputError, match="no case"):
            remake_organs(written, name)
    (tmp_path / "phantom.json").write_text(json.dumps({"phantom": 0, "seed": 1, "site": None}))
    with pytest.raises(InputError, match="changed since: the phantom"):
        remake_organs(tmp_path, "volume-0")


# --- sets with many organs in their label files


@pytest.fixture(scope="module")
def mr(tmp_path_factory):
    return write(tmp_path_factory.mktemp("mr"), 3, site="tiny mr")


def test_label_files_hold_organs_and_are_read_as_liver_and_tumour(mr):
    stored = np.asarray(nibabel.load(mr / "segmentation-0.nii.gz").dataobj)
    assert {Organ.SPLEEN, Organ.KIDNEY, Organ.STOMACH} <= set(np.unique(stored).tolist())
    for index, case in enumerate(find_cases(mr).cases):
        patient = make_phantom_patient(SEED, index, "tiny mr")
        np.testing.assert_array_equal(case.read_labels(case.read_volume()), patient.labels)


def test_checks_ask_mr_scans_for_no_hu(mr):
    dataset = find_cases(mr)
    as_mr = check_dataset(dataset, progress=False, modality="mr").findings
    assert set(as_mr.code) == {"ok", "label-lost-in-liver"}  # a gallbladder, half wrapped by the liver
    as_ct = check_dataset(dataset, progress=False).findings
    assert set(as_ct.code) == {"implausible-hu", "label-lost-in-liver"}
