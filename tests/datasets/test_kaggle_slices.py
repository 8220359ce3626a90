"""LiTS as pictures of slices."""

from __future__ import annotations

import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest
from layouts import stretched, write_kaggle_case, write_picture
from PIL import Image

from livseg_lib.datasets import kaggle_slices
from livseg_lib.datasets.catalogue import find_cases
from livseg_lib.datasets.check import check_dataset
from livseg_lib.datasets.pictures import read_picture
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.extraction import extraction_request
from livseg_lib.preprocessing.recipe import Recipe


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


def test_jpeg_and_png_of_one_slice_exclude_its_volume_alone(tmp_path):
    write_kaggle_case(tmp_path, 1, suffix=".jpg")
    write_kaggle_case(tmp_path, 2, suffix=".jpg")
    write_kaggle_case(tmp_path, 1, suffix=".png")
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.cases["usable"].tolist() == [False, True]
    assert "same number" in report.findings["message"].iloc[0]


GREY, LABELS = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
GREY[3:17, 4:26] = 120
LABELS[6:12, 8:20] = 1


@pytest.mark.parametrize(
    "names, cases",
    [
        ({"images/a_1.png": "masks/a_1.png", "images/a_02.PNG": "masks/a_02.PNG"}, {"a": (1, 2)}),
        (
            {"images/a_1.png": "masks/a_1_mask.png", "images/b_1.png": "masks/b_1_mask.png"},
            {"a": (1,), "b": (1,)},
        ),
        (
            {"train/images/7.png": "train/masks/7.png", "test/images/8.JPG": "test/masks/8.png"},
            {"pictures": (7, 8)},
        ),
        (
            {"anna/images/3.png": "anna/masks/3.png", "bert/images/3.png": "bert/masks/3.png"},
            {"anna": (3,), "bert": (3,)},
        ),
        ({"anna/slice_3.png": "anna/slice_3_mask.png"}, {"anna": (3,)}),
        ({"anna/img_3.png": "anna/mask_3.png"}, {"anna": (3,)}),
        ({"CT_images/volume-2_slice_5.png": "CT_labels/volume-2_slice_5.png"}, {"volume-2": (5,)}),
        ({"my_masks/images/p.png": "my_masks/p_mask.png"}, {"p": (0,)}),
    ],
)
def test_pairs_are_told_by_names_or_by_folders(tmp_path, names, cases):
    for number, (picture, mask) in enumerate(names.items()):
        write_picture(tmp_path / picture, GREY + number)
        write_picture(tmp_path / mask, LABELS)
        for path in (picture, mask):  # a Mac's twins
            (tmp_path / path).with_name("._" + (tmp_path / path).name).write_bytes(b"\0\5\x16\7")
    dataset = find_cases(tmp_path)
    assert {case.case_id: case.slice_numbers for case in dataset.cases} == cases
    assert dataset.name == "kaggle" and not dataset.unpaired and not dataset.notes
    for case in dataset.cases:
        volume = case.read_volume()
        assert abs(volume.voxels[:, 10, 10].astype(int) - 120).max() < 4
        np.testing.assert_array_equal(case.read_labels(volume), [LABELS] * len(case.slice_numbers))


def test_pictures_without_any_mask_are_no_set_of_slices(tmp_path):
    write_picture(tmp_path / "images" / "a_1.png", GREY)
    write_picture(tmp_path / "masks" / "b_1.png", LABELS)
    assert not kaggle_slices.recognises(tmp_path)


def test_labels_json_says_what_levels_mean(tmp_path):
    write_picture(tmp_path / "images" / "a_1.png", GREY)
    write_picture(
        tmp_path / "masks" / "a_1.png",
        np.array([0, 90, 180, 250], np.uint8)[LABELS * 3 - (GREY > 0) * LABELS],
    )
    (tmp_path / "labels.json").write_text('{"liver": 180}')
    (case,) = find_cases(tmp_path).cases
    assert tmp_path / "labels.json" in case.files
    np.testing.assert_array_equal(case.read_labels(case.read_volume())[0], LABELS)


def test_another_meaning_of_levels_is_another_extraction(tmp_path):
    """Masks that come later may show what the levels of the earlier ones mean."""
    requests = []
    for number, levels in ((1, (0, 100, 100)), (2, (0, 100, 200))):
        write_picture(tmp_path / f"volume-{number}_slice_1.png", GREY)
        labels = LABELS.copy()
        labels[8:10, 12:15] = 2
        write_picture(tmp_path / f"volume-{number}_slice_1_mask.png", np.array(levels, np.uint8)[labels])
        cases = find_cases(tmp_path).cases
        requests.append(extraction_request(cases[0], Recipe(), write_png=False))
    assert requests[0] != requests[1]


def test_a_mask_turned_otherwise_than_its_picture_and_colours_are_told(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.dstack([GREY, GREY, 0 * GREY])).save(tmp_path / "volume-1_slice_1.png", exif=exif)
    write_picture(tmp_path / "volume-1_slice_1_mask.png", LABELS)
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.findings["code"].tolist() == ["in-colour", "orientation"]
    assert "orientation 3, its mask by 1" in report.findings["message"].iloc[1]


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
        read_picture(path)


def test_sixteen_bit_and_giant_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="8-bit"):
        read_picture(tmp_path / "deep.png")
    Image.new("1", (8192, 8192)).save(tmp_path / "giant.png")
    with pytest.raises(InputError, match="8192 x 8192"):
        read_picture(tmp_path / "giant.png")


def png_that_claims(width: int, height: int) -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(99))),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in (*chunks, (b"IEND", b""))
    )


@pytest.mark.parametrize("side", [5000, 12000, 20000, 2**31 - 1])
def test_a_picture_that_claims_too_much_excludes_its_volume_alone(tmp_path, side):
    for volume in (1, 2, 3):
        write_kaggle_case(tmp_path, volume, suffix=".png")
    (tmp_path / "train_images" / "volume-2_slice_3.png").write_bytes(png_that_claims(side, side))
    (tmp_path / "train_masks" / "volume-3_slice_3_mask.png").write_bytes(png_that_claims(side, side))
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.cases["usable"].tolist() == [True, False, False]
    assert "4096 x 4096" in report.findings["message"].iloc[1]


def test_one_changed_bit_of_a_png_is_told(tmp_path):
    rng = np.random.default_rng(1)
    path = write_picture(tmp_path / "noise.png", rng.integers(0, 256, (40, 40), dtype=np.uint8))
    whole = path.read_bytes()
    for place in range(60, len(whole) - 20, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"noise\.png"):
            read_picture(path)


def test_animations_and_other_formats_are_refused(tmp_path):
    frames = [Image.fromarray(np.full((9, 9), level, np.uint8)) for level in (0, 90)]
    frames[0].save(tmp_path / "moves.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="2 pictures"):
        read_picture(tmp_path / "moves.png")
    for kind in ("GIF", "TIFF", "BMP", "EPS"):
        frames[0].save(tmp_path / "other.png", kind)
        with pytest.raises(InputError, match="as PNG or JPEG"):
            read_picture(tmp_path / "other.png")


def test_sixteen_bits_a_colour_are_refused(tmp_path):
    """Pillow would drop the lower byte of each, and labels 1 and 2 with it."""
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 8, 3), 2, np.uint16))
    with pytest.raises(InputError, match="16 bits"):
        read_picture(tmp_path / "deep.png", sixteen_bit=True)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_and_masks_lie_as_a_viewer_shows_them(tmp_path, orientation, suffix):
    grey, labels = np.zeros((32, 48), np.uint8), np.zeros((32, 48), np.uint8)
    grey[:8, :16], labels[8:24, 8:40] = 200, 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, picture in (("volume-1_slice_1", grey), ("volume-1_slice_1_mask", labels)):
        Image.fromarray(picture).save(tmp_path / f"{name}{suffix}", exif=exif)
    as_shown = cv2.imread(str(tmp_path / f"volume-1_slice_1{suffix}"), cv2.IMREAD_GRAYSCALE)
    (case,) = find_cases(tmp_path).cases
    volume = case.read_volume()
    np.testing.assert_array_equal(volume.voxels[0] > 100, as_shown > 100)
    shown_mask = cv2.imread(str(tmp_path / f"volume-1_slice_1_mask{suffix}"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(case.read_labels(volume)[0], shown_mask > 127)


def test_colour_of_equal_channels_is_grey(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "colour.png").grey, grey)


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
