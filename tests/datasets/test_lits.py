"""LiTS volumes as the challenge and Kaggle ship them."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest
from layouts import SPACING_MM, small_ct, write_lits_case

from livseg_lib.datasets import find_cases, lits
from livseg_lib.errors import InputError


def test_pairs_in_any_folders_in_natural_order(tmp_path):
    for number, folder in ((10, "volume_pt2"), (2, "Training Batch 1"), (0, "volume_pt1")):
        segmentation = write_lits_case(tmp_path / folder, number)[1]
        (tmp_path / "segmentations").mkdir(exist_ok=True)
        segmentation.rename(tmp_path / "segmentations" / segmentation.name)
    assert lits.recognises(tmp_path)
    dataset = find_cases(tmp_path)
    assert dataset.name == "lits"
    assert [case.case_id for case in dataset.cases] == ["volume-0", "volume-2", "volume-10"]
    assert [case.patient for case in dataset.cases] == ["0", "2", "10"]
    assert dataset.cases[2].files == (
        tmp_path / "volume_pt2" / "volume-10.nii.gz",
        tmp_path / "segmentations" / "segmentation-10.nii.gz",
    )


def test_case_reads_what_was_written(tmp_path):
    write_lits_case(tmp_path, 7)
    (case,) = find_cases(tmp_path).cases
    case = pickle.loads(pickle.dumps(case))  # cases travel to worker processes
    voxels, labels = small_ct(7)
    volume = case.read_volume()
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, rtol=1e-6)
    np.testing.assert_array_equal(case.read_labels(volume), labels)


def test_uncompressed_volume_with_compressed_segmentation(tmp_path):
    volume, _ = write_lits_case(tmp_path, 1)
    volume.with_suffix("").write_bytes(gzip.decompress(volume.read_bytes()))
    volume.unlink()
    (case,) = find_cases(tmp_path).cases
    assert [path.name for path in case.files] == ["volume-1.nii", "segmentation-1.nii.gz"]
    assert case.read_labels(case.read_volume()).max() == 2


def test_missing_partners_are_kept_and_told(tmp_path):
    write_lits_case(tmp_path, 1)[1].unlink()
    write_lits_case(tmp_path, 2)[0].unlink()
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    assert case.case_id == "volume-1"
    assert case.read_labels is None
    assert dataset.unpaired == (tmp_path / "segmentation-2.nii.gz",)


def test_other_names_are_no_volumes(tmp_path):
    volume, _ = write_lits_case(tmp_path, 3)
    for name in ("test-volume-3.nii.gz", "._volume-4.nii.gz", "volume-5.nii.gz.part", "my_volume-6.nii"):
        (tmp_path / name).write_bytes(volume.read_bytes())
    (tmp_path / "volume-8.nii").mkdir()
    assert [case.case_id for case in find_cases(tmp_path).cases] == ["volume-3"]


def test_one_number_twice_is_refused(tmp_path):
    write_lits_case(tmp_path / "a", 3)
    write_lits_case(tmp_path / "b", 3)
    with pytest.raises(InputError, match="same number"):
        find_cases(tmp_path)
