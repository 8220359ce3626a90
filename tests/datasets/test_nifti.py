"""NIfTI files in folders of any shape, and which label map belongs to which scan."""

import numpy as np
import pytest
from layouts import small_ct, write_nifti

from livseg_lib.datasets import nifti
from livseg_lib.datasets.catalogue import check_dataset, find_cases

CT, LABELS = small_ct()
ORGANS = np.where(LABELS == 2, 5, LABELS)


def write(folder, *names):
    """A scan for each name, a label map where the name says so."""
    for number, name in enumerate(names):
        said = any(word in name for word in ("seg", "mask", "label", "liver"))
        write_nifti(folder / name, LABELS if said else small_ct(number)[0])


def summary(folder):
    def labels(case):
        return case.files[-1].relative_to(folder).as_posix() if case.read_labels else None

    return [(case.case_id, case.patient, labels(case)) for case in find_cases(folder).cases]


def test_a_label_map_beside_its_scan_is_its_label(tmp_path):
    write(tmp_path, "pat1.nii.gz", "pat1_seg.nii.gz", "pat2_ct.nii", "pat2_mask.nii.gz", "pat3.nii.gz")
    write(tmp_path, "Jos\u00e9.nii", "Jose\u0301_seg.nii", "sub-01_ct.nii", "sub-01_ct_dseg.nii")
    assert summary(tmp_path) == [
        ("Jos\u00e9", "Jos\u00e9", "Jose\u0301_seg.nii"),  # as another system writes it
        ("pat1", "pat1", "pat1_seg.nii.gz"),
        ("pat2_ct", "pat2_ct", "pat2_mask.nii.gz"),
        ("pat3", "pat3", None),
        ("sub-01_ct", "sub-01_ct", "sub-01_ct_dseg.nii"),
    ]
    case = find_cases(tmp_path).cases[1]
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), LABELS)


@pytest.mark.parametrize(
    "names",
    [
        *(
            ("ct.nii.gz", "seg.nii.gz"),
            ("CT.NII.GZ", "liver.nii"),
            ("scan.nii/scan.nii", "mask.nii/mask.nii"),
        ),
        ("scan.nii", "labels/seg.nii"),
        *(("ct/scan.nii", "seg/mask.nii"), ("ct/scan.nii", "masks/liver.nii")),
    ],
)
def test_a_folder_a_patient(tmp_path, names):
    for patient in ("anna", "bela"):
        for name, array in zip(names, (CT, LABELS), strict=True):
            path = write_nifti(tmp_path / patient / name.lower(), array)
            path.rename(tmp_path / patient / name)
    below = "_ct" if names[0] == "ct/scan.nii" else ""
    assert [row[:2] for row in summary(tmp_path)] == [(f"{each}{below}", each) for each in ("anna", "bela")]
    for case in find_cases(tmp_path).cases:
        np.testing.assert_array_equal(case.read_labels(case.read_volume()), LABELS)


def test_ids_stay_apart_whatever_folders_and_files_are_called(tmp_path):
    write(tmp_path, "a/b.nii", "a/c.nii", "a_b.nii", "D/e.nii", "d/e.nii")
    assert [row[0] for row in summary(tmp_path)] == ["D", "a_b", "a_b-2", "a_c", "d-2"]


def test_several_scans_of_a_patient_are_never_separated(tmp_path):
    write(tmp_path / "anna", "arterial.nii", "portal.nii", "arterial_seg.nii")
    write(tmp_path / "bela" / "2020", "portal.nii")
    assert summary(tmp_path) == [
        ("anna_arterial", "anna", "anna/arterial_seg.nii"),
        ("anna_portal", "anna", None),
        ("bela_2020", "bela", None),
    ]
    (note,) = find_cases(tmp_path).notes
    assert note.code == "patients"


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (["1_pre", "1_flip", "2_pre"], ["1", "1", "2_pre"]),
        (["set/s1/ct", "set/s2/ct", "set/s3/old/ct"], ["s1", "s2", "s3"]),  # the folder above was given
        (["train/s1/ct", "train/s2/ct", "test/s1/ct"], ["s1", "s1", "s2"]),
        (
            [f"{year}/pat{n}" for n in range(4) for year in ("first", "later")],
            [f"pat{n}" for n in "00112233"],
        ),
        (["old/s1/ct", "old/s2/ct", "new/s3/ct"], ["new", "old", "old"]),
    ],
)
def test_whose_a_scan_is_is_told_by_folders_and_names(tmp_path, names, patients):
    write(tmp_path, *(f"{name}.nii" for name in names))
    assert sorted(case.patient for case in find_cases(tmp_path).cases) == patients


def test_names_that_may_be_of_one_person_are_told(tmp_path):
    write(tmp_path / "imagesTr", *(f"site{site}_{n}.nii" for site in (1, 2) for n in range(3)))
    dataset = find_cases(tmp_path)
    (note,) = dataset.notes
    assert note.code == "patients" and "separates site1_0 and site1_1" in note.message
    assert len({case.patient for case in dataset.cases}) == 6


def test_folders_of_many_scans_are_no_patients_and_labels_may_lie_in_their_own(tmp_path):
    write(tmp_path / "images", *(f"case_{n}.nii" for n in range(5)))
    for n in range(5):
        write_nifti(tmp_path / "truth" / f"case_{n}.nii.gz", LABELS)
    assert summary(tmp_path) == [(f"case_{n}", f"case_{n}", f"truth/case_{n}.nii.gz") for n in range(5)]


@pytest.mark.parametrize("name", ["space-orig_dseg", "dseg", "label-liver_dseg"])
def test_labels_of_bids_lie_among_the_derivatives(tmp_path, name):
    for scan in ("sub-01/anat/sub-01", "sub-02/ses-1/ct/sub-02_ses-1"):
        write(tmp_path, f"{scan}_ct.nii", f"derivatives/manual/{scan}_{name}.nii")
    for case in find_cases(tmp_path).cases:
        np.testing.assert_array_equal(case.read_labels(case.read_volume()), LABELS)


@pytest.mark.parametrize("labels", ["{}/labels/1.nii", "{}/masks/1_seg.nii"])
def test_labels_beside_the_folder_of_their_scan_go_before_those_of_another_part(tmp_path, labels):
    for part in ("train", "test"):
        write(tmp_path, f"{part}/images/1.nii", labels.format(part))
    assert [row[2] for row in summary(tmp_path)] == [labels.format(part) for part in ("test", "train")]


def test_which_of_several_label_maps_is_meant_is_not_guessed(tmp_path):
    write(tmp_path / "set", "scan_ct.nii", "mask_a.nii", "mask_b.nii")
    dataset = find_cases(tmp_path / "set")
    (case,) = dataset.cases
    assert case.read_labels is None
    (note,) = case.notes
    assert note.code == "ambiguous-labels" and "set/mask_a.nii, set/mask_b.nii" in note.message


def test_labels_of_all_organs_are_not_taken_for_liver_and_tumour_unless_a_file_says_which(tmp_path):
    write_nifti(tmp_path / "scan.nii", CT)
    write_nifti(tmp_path / "scan_seg.nii", ORGANS)
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.cases["usable"].tolist() == [True]
    assert report.findings["code"].tolist() == ["label-values", "unlabelled"]
    (tmp_path / "labels.json").write_text('{"liver": [1], "tumor": 5}')
    (case,) = find_cases(tmp_path).cases
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), LABELS)


def test_labels_that_cannot_be_read_stay_labels_by_their_name(tmp_path):
    write(tmp_path, "pat1.nii.gz", "pat1_seg.nii.gz")
    path = tmp_path / "pat1_seg.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.cases[["case", "usable"]].values.tolist() == [["pat1", False]]


def test_one_file_is_a_case_whatever_it_holds(tmp_path):
    (case,) = find_cases(write_nifti(tmp_path / "seg.nii.gz", LABELS)).cases
    assert case.case_id == "seg"


def test_a_file_that_breaks_the_reader_ends_nothing(tmp_path, monkeypatch):
    write(tmp_path, "pat1.nii.gz", "pat2.nii.gz")

    def break_down(path):
        raise ZeroDivisionError(path)

    monkeypatch.setattr(nifti, "label_values", break_down)
    assert [case.case_id for case in find_cases(tmp_path).cases] == ["pat1", "pat2"]


ONE = {"liver": LABELS > 0, "tumor": LABELS == 2, "first": (LABELS == 2) & (np.arange(6) < 3)[:, None, None]}
ONE["second"], ONE["spleen"], ONE["nothing"] = ONE["tumor"] & ~ONE["first"], CT > 100, LABELS > 2


@pytest.mark.parametrize(
    ("masks", "tumors"),
    [
        ({"segmentations/liver": "liver", "segmentations/spleen": "spleen"}, False),  # TotalSegmentator
        ({"segmentations/liver": "liver", "segmentations/liver_tumor": "tumor"}, True),
        ({"liver": "liver", "liver_lesions": "tumor", "spleen": "spleen"}, True),
        ({"ct_liver_mask": "liver", "ct_livertumor1": "first", "ct_livertumor2": "second"}, True),
        ({"mask_liver": "liver", "mask_tumour": "nothing"}, False),
        ({"../liver/{}": "liver", "../tumor/{}": "tumor", "../spleen/{}": "spleen"}, True),
        ({"../liver_labels/{}_seg": "liver", "../Tumour_labels/{}_seg": "tumor"}, True),
        ({"../masks/liver_{}": "liver", "../masks/tumor_{}": "tumor"}, True),
        ({"liver_{}": "liver", "lesion_{}": "tumor"}, True),
        (
            {"../masks/{}_liver": "liver", "../masks/{}_tumor_1": "first", "../masks/{}_tumor_2": "second"},
            True,
        ),
    ],
)
def test_masks_of_one_structure_each_are_laid_over_each_other(tmp_path, masks, tumors):
    for patient in ("s0001", "s0002"):
        apart = any("{}" in name for name in masks)
        home = tmp_path / ("images" if apart else patient)
        write_nifti(home / f"{patient if apart else 'ct'}.nii.gz", CT)
        for number, (name, structure) in enumerate(masks.items()):
            mask = ONE[structure].astype(np.uint8) * (255 if number else 1)
            write_nifti(home / f"{name.format(patient)}.nii.gz", mask)
    for case in find_cases(tmp_path).cases:
        truth = LABELS if tumors else np.minimum(LABELS, 1)
        np.testing.assert_array_equal(case.read_labels(case.read_volume()), truth)
        assert "structure-masks" in [note.code for note in case.notes]


def test_masks_of_several_scans_of_a_folder_are_known_by_their_names(tmp_path):
    for patient in ("pat1", "pat2"):
        write_nifti(tmp_path / f"{patient}.nii", CT)
        write_nifti(tmp_path / f"{patient}_tumor.nii", ONE["tumor"].astype(np.uint8))
    write_nifti(tmp_path / "pat1_liver.nii", ONE["liver"].astype(np.uint8))
    first, second = find_cases(tmp_path).cases
    np.testing.assert_array_equal(first.read_labels(first.read_volume()), LABELS)
    assert second.read_labels is None and [note.code for note in second.notes] == ["no-liver-mask"]


@pytest.mark.parametrize(
    ("scan", "name", "code"),
    [
        ("ct.nii", "tumor.nii", "no-liver-mask"),
        ("ct.nii", "spleen.nii", "only-label-map"),
        ("ct/1.nii", "tumor_masks/1.nii", "no-liver-mask"),
    ],
)
def test_a_mask_of_something_else_is_not_taken_for_the_liver_without_a_word(tmp_path, scan, name, code):
    write_nifti(tmp_path / scan, CT)
    write_nifti(tmp_path / name, ONE["tumor"].astype(np.uint8))
    (case,) = find_cases(tmp_path).cases
    assert [note.code for note in case.notes] == [code]
    assert (case.read_labels is None) == (code == "no-liver-mask")


def test_numbers_are_told_from_the_words_before_them(tmp_path):
    for n in (1, 2):
        write_nifti(tmp_path / "img" / f"img{n:04}.nii.gz", small_ct(n)[0])
        write_nifti(tmp_path / "label" / f"label{n:04}.nii.gz", LABELS)
    assert summary(tmp_path) == [(f"img000{n}", f"img000{n}", f"label/label000{n}.nii.gz") for n in (1, 2)]
