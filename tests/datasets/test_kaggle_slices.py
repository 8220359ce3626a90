"""LiTS as pictures of slices, and other pictures with masks."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from layouts import write_kaggle_case, write_picture
from PIL import Image

from livseg_lib.datasets.catalogue import check_dataset, find_cases
from livseg_lib.errors import InputError

GREY, LABELS = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
GREY[3:17, 4:26] = 120
LABELS[6:12, 8:20] = 1


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cases_in_numeric_order_read_what_was_written_png_to_the_voxel(tmp_path, suffix):
    grey, labels = write_kaggle_case(tmp_path, 3, suffix=suffix)
    write_kaggle_case(tmp_path, 10, suffix=suffix)
    for folder, end in (("train_images", suffix), ("train_masks", f"_mask{suffix}")):
        source = tmp_path / folder / f"volume-3_slice_5{end}"
        source.rename(source.with_name(f"volume-3_slice_340{end}"))
    case, other = find_cases(tmp_path).cases
    assert (case.case_id, other.case_id, case.patient) == ("volume-3", "volume-10", "3")
    assert case.slice_numbers == (0, 1, 2, 3, 4, 340)
    case = pickle.loads(pickle.dumps(case))
    volume = case.read_volume()
    decoded = case.read_labels(volume)
    assert (volume.voxels.dtype, decoded.dtype, volume.native) == (np.int16, np.uint8, None)
    assert np.isnan(volume.spacing_mm).all()
    assert [plane.max() for plane in decoded] == [plane.max() for plane in labels] == [0, 1, 2, 2, 1, 0]
    assert ((decoded >= 1) == (labels >= 1)).mean() > 0.99
    if suffix == ".png":
        np.testing.assert_array_equal(volume.voxels, grey)
        np.testing.assert_array_equal(decoded, labels)


def test_slices_without_mask_are_left_out_unless_there_is_no_mask_at_all(tmp_path):
    write_kaggle_case(tmp_path, 1)
    (tmp_path / "train_masks" / "volume-1_slice_2_mask.jpg").unlink()
    (tmp_path / "train_images" / "volume-1_slice_4.jpg").unlink()
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    assert case.slice_numbers == (0, 1, 3, 5)
    assert case.unmasked == (tmp_path / "train_images" / "volume-1_slice_2.jpg",)
    assert dataset.unpaired == (tmp_path / "train_masks" / "volume-1_slice_4_mask.jpg",)
    assert len(case.read_volume().voxels) == len(case.read_labels(case.read_volume())) == 4
    for path in (tmp_path / "train_masks").iterdir():
        path.unlink()
    (case,) = find_cases(tmp_path).cases
    assert (case.read_labels, case.slice_numbers, case.unmasked) == (None, (0, 1, 2, 3, 5), ())


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
    for volume, suffix in ((1, ".jpg"), (2, ".jpg"), (1, ".png")):
        write_kaggle_case(tmp_path, volume, suffix=suffix)
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.cases["usable"].tolist() == [False, True]
    assert "same number" in report.findings["message"].iloc[0]


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
        ({"volume-3/png/slice_002.png": "volume-3/png/slice_002_mask.png"}, {"volume-3": (2,)}),
        ({"anna/img_3.png": "anna/mask_3.png"}, {"anna": (3,)}),
        ({"anna_3.png": "mask_anna_3.png"}, {"anna": (3,)}),
        ({"CT/a_3.png": "seg/a_3.png", "Scans/b_3.png": "liver_masks/b_3.png"}, {"a": (3,), "b": (3,)}),
        (
            {"imagesTr/a_3.png": "labelsTr/a_3.png", "images_val/b_3.png": "gt_val/b_3.png"},
            {"a": (3,), "b": (3,)},
        ),
        ({"CT_images/volume-2_slice_5.png": "CT_labels/volume-2_slice_5.png"}, {"volume-2": (5,)}),
        ({"my_masks/images/p.png": "my_masks/p_mask.png"}, {"p": (0,)}),
        ({"two\nlines_4.png": "two\nlines_4_mask.png"}, {"two_lines": (4,)}),
        ({"png/volume-3_slice_7.png": "png/segmentation-3_slice_7.png"}, {"volume-3": (7,)}),
        ({"png/volume-3_7.png": "png/segmentation-3_livermask_7.png"}, {"volume-3": (7,)}),
        ({f"images/a ({n}).png": f"masks/a ({n}).png" for n in (1, 2)}, {"a": (1, 2)}),  # as Windows does
        ({"images/Jose\u0301_4.png": "masks/Jos\u00e9_4.png"}, {"Jos\u00e9": (4,)}),
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


@pytest.mark.parametrize(
    ("names", "patients", "said"),
    [
        (
            ["0_axial", "1_axial", "2_axial"],
            {"0_axial", "1_axial", "2_axial"},
            "3 pictures count as a case each",
        ),
        (
            ["anna/2020/a_1", "anna/2021/a_1", "bert/a_1", "a_1"],
            {"anna", "bert", "a"},
            "in one folder count as",
        ),
        (["anna/artery_1", "anna/portal_1", "bert/portal_1"], {"anna", "bert"}, "in one folder count as"),
        (["set/anna/1", "set/anna/old/1", "set/bert/1"], {"anna", "bert"}, "in one folder count as"),
        (["p1_1", "p1_flip_1", "p2_1"], {"p1", "p2"}, "count as one patient's"),
        (["3dc8ab", "b2991a"], {"3dc8ab", "b2991a"}, "2 pictures count as a case each"),
        (["p1_1_1", "p1_2_1", "p2_3_1"], {"p1_1", "p1_2", "p2_3"}, "A split separates p1_1 and p1_2"),
    ],
)
def test_what_lies_in_a_patients_folder_stays_together_and_guesses_are_told(tmp_path, names, patients, said):
    for n, name in enumerate(names):
        write_picture(tmp_path / "images" / f"{name}.png", GREY + n)
        write_picture(tmp_path / "masks" / f"{name}.png", LABELS * 255)
    dataset = find_cases(tmp_path)
    (note,) = dataset.notes
    assert {case.patient for case in dataset.cases} == patients and said in note.message


def test_changed_copies_of_slices_stay_with_their_volume(tmp_path):
    for n, name in enumerate(("volume-3_slice_7", "volume-3_slice_7_flip", "flip_volume-3_slice_7")):
        write_picture(tmp_path / f"{name}.png", GREY + n)
        write_picture(tmp_path / f"{name}_mask.png", LABELS * 255)
    dataset = find_cases(tmp_path)
    assert [case.patient for case in dataset.cases] == ["3"] * 3 and not dataset.notes


@pytest.mark.parametrize(
    "folder", ["tumor_masks", "lesion masks", "train/Tumour_labels", "liver set/tumor_masks"]
)
def test_masks_of_tumours_alone_are_no_livers_unless_that_is_said(tmp_path, folder):
    images, patient = (tmp_path / folder).with_name("images"), "" if "liver" in folder else "anna"
    write_picture(images / patient / "1.png", GREY)
    write_picture(tmp_path / folder / patient / "1.png", LABELS * 255)
    assert check_dataset(find_cases(tmp_path), progress=False).findings.code.tolist() == ["no-liver-mask"]
    (tmp_path / "labels.json").write_text('{"liver": 255}')
    assert check_dataset(find_cases(tmp_path), progress=False).exit_code == 0


@pytest.mark.parametrize(
    "of",
    [
        *("{}_masks/{}.png", "masks/{}/{}.png", "masks/{1}_{0}.png", "images/{1}_{0}_mask.png"),
        *("images/{1}_{0}mask.png", "{}masks/{}.png", "{}/{}.png"),
        *("masks_{}/{}.jpg", "masks/{}/anna/{}.png", "masks/anna/{}/{}.png"),
    ],
)
def test_masks_of_tumours_are_laid_over_those_of_livers(tmp_path, of):
    tumor = LABELS * (np.arange(30) > 15).astype(np.uint8)
    for n in (1, 2):
        write_picture(tmp_path / "images" / ("anna" * ("anna" in of)) / f"liver_{n}.png", GREY + n)
        write_picture(tmp_path / of.format("liver", f"liver_{n}"), LABELS * 255)
    write_picture(tmp_path / of.format("tumor", "liver_2"), tumor * 200)
    (case,) = find_cases(tmp_path).cases
    truth = case.read_labels(case.read_volume())
    np.testing.assert_array_equal(truth, [LABELS, LABELS + tumor])
    (tmp_path / of.format("liver", "liver_2")).unlink()
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.findings.query("severity == 'error'").code.tolist() == ["no-liver-mask"]


def test_labels_json_says_what_levels_mean(tmp_path):
    write_picture(tmp_path / "images" / "a_1.png", GREY)
    levels = np.array([0, 90, 180, 250], np.uint8)
    write_picture(tmp_path / "masks" / "a_1.png", levels[LABELS * 3 - (GREY > 0) * LABELS])
    (tmp_path / "labels.json").write_text('{"liver": 180}')
    (case,) = find_cases(tmp_path).cases
    assert tmp_path / "labels.json" in case.files
    np.testing.assert_array_equal(case.read_labels(case.read_volume())[0], LABELS)
    (tmp_path / "labels.json").write_text('{"liver": 180, "tumor": 90}')
    assert find_cases(tmp_path).cases[0].decided != case.decided, "extracted anew"


def test_a_mask_turned_otherwise_than_its_picture_and_colours_are_told(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.dstack([GREY, GREY, 0 * GREY])).save(tmp_path / "volume-1_slice_1.png", exif=exif)
    write_picture(tmp_path / "volume-1_slice_1_mask.png", LABELS)
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.findings["code"].tolist() == ["in-colour", "orientation"]
    assert "orientation 3, its mask by 1" in report.findings["message"].iloc[1]


@pytest.mark.parametrize(("orientation", "suffix"), zip(range(1, 9), [".png", ".jpg"] * 4, strict=True))
def test_pictures_and_masks_lie_as_a_viewer_shows_them(tmp_path, orientation, suffix):
    grey, labels = np.zeros((32, 48), np.uint8), np.zeros((32, 48), np.uint8)
    grey[:8, :16], labels[8:24, 8:40] = 200, 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = []
    for name, picture in (("volume-1_slice_1", grey), ("volume-1_slice_1_mask", labels)):
        Image.fromarray(picture).save(tmp_path / f"{name}{suffix}", exif=exif)
        shown.append(cv2.imread(str(tmp_path / f"{name}{suffix}"), cv2.IMREAD_GRAYSCALE))
    (case,) = find_cases(tmp_path).cases
    volume = case.read_volume()
    np.testing.assert_array_equal(volume.voxels[0] > 100, shown[0] > 100)
    np.testing.assert_array_equal(case.read_labels(volume)[0], shown[1] > 127)


def test_real_slices(real_ct):
    dataset = find_cases(real_ct / "lits_slices")
    assert (dataset.name, len(dataset.cases)) == ("kaggle", 98)
    assert sum(len(case.slice_numbers) for case in dataset.cases) == 511
    assert not dataset.unpaired and not any(case.unmasked for case in dataset.cases)
    report = check_dataset(dataset.only(case.case_id for case in dataset.cases[:8]), progress=False)
    assert report.findings["severity"].tolist() == ["ok"] * 8
    assert report.cases["liver_voxels"].min() > 0 and report.cases["tumor_voxels"].eq(0).all()
