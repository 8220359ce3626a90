"""LiTS as pictures of slices."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from layouts import stretched, write_kaggle_case, write_picture
from PIL import Image

from livseg_lib.datasets import find_cases, kaggle_slices
from livseg_lib.datasets.pictures import read_grey
from livseg_lib.errors import InputError


def test_volumes_and_slices_in_numeric_order(tmp_path):
    write_kaggle_case(tmp_path, 10)
    write_kaggle_case(tmp_path, 2)
    for folder, end in (("train_images", ".jpg"), ("train_masks", "_mask.jpg")):
        source = tmp_path / folder / f"volume-2_slice_5{end}"
        source.rename(source.with_name(f"volume-2_slice_340{end}"))
    assert kaggle_slices.recognises(tmp_path)
    dataset = find_cases(tmp_path)
    assert dataset.name == "kaggle"
    assert [case.case_id for case in dataset.cases] == ["volume-2", "volume-10"]
    assert dataset.cases[0].slice_numbers == (0, 1, 2, 3, 4, 340)
    assert dataset.cases[0].patient == "2"


def test_png_case_reads_what_was_written(tmp_path):
    grey, labels = write_kaggle_case(tmp_path, 3, suffix=".png")
    (case,) = find_cases(tmp_path).cases
    case = pickle.loads(pickle.dumps(case))
    volume = case.read_volume()
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, grey)
    assert np.isnan(volume.spacing_mm).all()
    assert volume.native is None
    decoded = case.read_labels(volume)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, labels)


def test_jpeg_case_keeps_the_class_of_every_slice(tmp_path):
    _, labels = write_kaggle_case(tmp_path, 3)
    (case,) = find_cases(tmp_path).cases
    decoded = case.read_labels(case.read_volume())
    assert [plane.max() for plane in decoded] == [plane.max() for plane in labels] == [0, 1, 2, 2, 1, 0]
    assert ((decoded >= 1) == (labels >= 1)).mean() > 0.99


def test_slices_without_mask_are_left_out_and_listed(tmp_path):
    write_kaggle_case(tmp_path, 1)
    (tmp_path / "train_masks" / "volume-1_slice_2_mask.jpg").unlink()
    (tmp_path / "train_images" / "volume-1_slice_4.jpg").unlink()
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    assert case.slice_numbers == (0, 1, 3, 5)
    assert case.unmasked == (tmp_path / "train_images" / "volume-1_slice_2.jpg",)
    assert dataset.unpaired == (tmp_path / "train_masks" / "volume-1_slice_4_mask.jpg",)
    assert len(case.read_volume().voxels) == len(case.read_labels(case.read_volume())) == 4


def test_volume_without_any_mask_is_an_unlabelled_case(tmp_path):
    write_kaggle_case(tmp_path, 1)
    for path in (tmp_path / "train_masks").iterdir():
        path.unlink()
    (case,) = find_cases(tmp_path).cases
    assert case.read_labels is None
    assert case.slice_numbers == (0, 1, 2, 3, 4, 5)
    assert case.unmasked == ()


@pytest.mark.parametrize(
    "which", ["train_images/volume-1_slice_3.png", "train_masks/volume-1_slice_3_mask.png"]
)
def test_another_size_is_refused_by_name(tmp_path, which):
    write_kaggle_case(tmp_path, 1, suffix=".png")
    write_picture(tmp_path / which, np.zeros((64, 48), np.uint8))
    (case,) = find_cases(tmp_path).cases
    with pytest.raises(InputError, match=r"slice_3.*64 x 48") as caught:
        case.read_labels(case.read_volume())
    assert caught.value.code == "shape-mismatch"


def test_jpeg_and_png_of_one_slice_are_refused(tmp_path):
    write_kaggle_case(tmp_path, 1, suffix=".jpg")
    write_kaggle_case(tmp_path, 1, suffix=".png")
    with pytest.raises(InputError, match="same number"):
        find_cases(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text"]
)
def test_unreadable_picture_is_named(tmp_path, suffix, damage):
    rng = np.random.default_rng(0)
    path = write_picture(
        tmp_path / f"volume-0_slice_0{suffix}", rng.integers(0, 256, (64, 64), dtype=np.uint8)
    )
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=path.name):
        read_grey(path)


def test_sixteen_bit_and_giant_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="8-bit"):
        read_grey(tmp_path / "deep.png")
    Image.new("1", (8192, 8192)).save(tmp_path / "giant.png")
    with pytest.raises(InputError, match="8192 x 8192"):
        read_grey(tmp_path / "giant.png")


def test_colour_of_equal_channels_is_grey(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "colour.png"), grey)


def test_stretching_is_undone_slice_by_slice(tmp_path):
    """A lone liver is written as 255, beside a tumour as 127: both must come back as 1."""
    lone, beside = np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8)
    lone[4:28, 4:28] = beside[4:28, 4:28] = 1
    beside[10:16, 10:16] = 2
    for k, labels in enumerate((lone, beside)):
        write_picture(tmp_path / f"volume-0_slice_{k}.png", np.zeros((32, 32), np.uint8))
        write_picture(tmp_path / f"volume-0_slice_{k}_mask.png", stretched(labels))
    (case,) = find_cases(tmp_path).cases
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), np.stack([lone, beside]))


def test_real_slices(real_ct):
    dataset = find_cases(real_ct / "lits_slices")
    assert (dataset.name, len(dataset.cases)) == ("kaggle", 98)
    assert sum(len(case.slice_numbers) for case in dataset.cases) == 511
    assert not dataset.unpaired and not any(case.unmasked for case in dataset.cases)
    volume = dataset.cases[0].read_volume()
    labels = dataset.cases[0].read_labels(volume)
    assert volume.voxels.shape == labels.shape == (4, 256, 256)
    assert set(np.unique(labels)) == {0, 1}
