"""Medical Segmentation Decathlon, Task03."""

import json

import numpy as np
import pytest
from layouts import small_ct, write_msd, write_nifti

from livseg_lib.datasets.catalogue import check_dataset, find_cases
from livseg_lib.errors import InputError

LIVER_JSON = {"labels": {"0": "background", "1": "liver", "2": "cancer"}}


@pytest.mark.parametrize(
    "labels, liver, tumor",
    [
        ({"0": "background", "1": "liver"}, (1,), ()),
        ({"background": 0, "tumor": 1, "liver": 2}, (2,), (1,)),
        ({"background": 0, "spleen": 1, "liver": 6, "liver_tumor": 7, "hepatic vessel": 9}, (6,), (7,)),
        ({"background": 0, "liver": 5, "pancreas": 7, "cancer": 8}, (5,), ()),
        ({"1": "Liver", "2": "Mass", "3": "Portal vein", "4": "Abdominal aorta"}, (1,), (2,)),
        ({"liver": [1, 2], "liver tumor": 2, "spleen": 3}, (1,), (2,)),
        ({"whole liver": [1, 2, 4], "lesion": [2, 4], "necrosis": 4}, (1,), (2, 4)),
        ({"liver": "1", "tumor": "2", "portal vein": "3"}, (1,), (2,)),
        ({"1": "liver", "2": "HCC", "3": "ICC", "4": "Metastases", "5": "spleen"}, (1,), (2, 3)),
        ({"3": "liver", "4": "hepatic nodule", "5": "kidney tumor", "6": "kidney"}, (3,), (4,)),
        ({"background": 0, "liver": 1, "spleen": 2, "liver_mets": 3}, (1,), (3,)),
        ({"background": 0, "liver_segment_1": 1, "liver_segment_2": 2, "liver_tumour": 3}, (1, 2), (3,)),
        ({"1": "non-liver", "2": "liver", "3": "tumor", "4": "non_liver_tumor"}, (2,), (3,)),
        ({"1": "not liver", "2": "liver, outside the tumour", "3": "lesion"}, (2,), (3,)),
        ({"0": "background", "1": "liver", "2": "cyst", "3": "neoplasm", "4": "liver vessels"}, (1,), (3,)),
        ({"1": "liver", "2": "cancer", "3": "abscess", "4": "PV thrombus", "5": "calcification"}, (1,), (2,)),
    ],
)
def test_the_liver_is_where_the_list_says(tmp_path, labels, liver, tumor):
    write_msd(tmp_path, (1,))
    values = np.arange(6 * 24 * 32, dtype=np.int16).reshape(6, 24, 32) % 10
    write_nifti(tmp_path / "labelsTr" / "liver_1.nii.gz", values)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    (case,) = find_cases(tmp_path).cases
    truth = np.select([np.isin(values, tumor), np.isin(values, liver)], [2, 1], 0)
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), truth)
    assert case.files[1] == tmp_path / "dataset.json", "another list is another truth"


@pytest.mark.parametrize("names", [("volume-1", "segmentation-1"), ("images/a", "labels/a"), ("a", "a_seg")])
def test_the_list_is_read_beside_other_names_as_well(tmp_path, names):
    truth = small_ct(1)[1]
    write_nifti(tmp_path / f"{names[0]}.nii", small_ct(1)[0])
    write_nifti(tmp_path / f"{names[1]}.nii", np.array([0, 2, 1], np.uint8)[truth])
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "tumor": 1, "liver": 2}}')
    (case,) = (dataset := find_cases(tmp_path)).cases
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), truth)
    assert [note.code for note in dataset.notes] == ["label-names"]
    (tmp_path / "dataset.json").write_text('{"name": "of another program"}')
    assert len(find_cases(tmp_path).cases) == 1


@pytest.mark.parametrize("names", [("Task01_Brain", "Task03_Liver"), ("Dataset001_BTCV", "Dataset003_LIVER")])
def test_of_several_sets_that_of_livers_is_read_and_the_others_are_told(tmp_path, names):
    for name in names:
        write_msd(tmp_path / name, (1,))
    (tmp_path / names[0] / "dataset.json").write_text('{"labels": {"0": "background", "1": "edema"}}')
    dataset = find_cases(tmp_path)
    assert dataset.cases[0].files[0] == tmp_path / names[1] / "imagesTr" / "liver_1.nii.gz"
    assert [note.code for note in dataset.notes] == ["passed-over"] * 2


def test_labels_of_another_name_are_found_by_their_number(tmp_path):
    for number in (2, 10):
        write_nifti(tmp_path / "imagesTr" / f"im{number}.nii.gz", small_ct(number)[0])
        write_nifti(tmp_path / "labelsTr" / f"lb{number:03}.nii.gz", small_ct()[1] * (number > 2))
    dataset = find_cases(tmp_path)
    assert [case.read_labels(case.read_volume()).max() for case in dataset.cases] == [0, 2]
    assert [note.code for note in dataset.notes] == ["paired-by-number"] and not dataset.unpaired
    (tmp_path / "labelsTr" / "other.nii").touch()
    assert len(find_cases(tmp_path).unpaired) == 3


def test_a_usual_list_leaves_other_labels_an_error(tmp_path):
    write_msd(tmp_path, (1,))
    write_nifti(tmp_path / "labelsTr" / "liver_1.nii.gz", np.full((6, 24, 32), 3, np.uint8))
    (tmp_path / "dataset.json").write_text(json.dumps(LIVER_JSON))
    (case,) = find_cases(tmp_path).cases
    with pytest.raises(InputError, match="other than 0, 1, 2"):
        case.read_labels(case.read_volume())


@pytest.mark.parametrize("tumor", [2, [2], "2"])
def test_a_liver_of_regions_is_the_usual_one(tmp_path, tumor):
    write_msd(tmp_path, (1,))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"liver": [1, 2], "tumor": tumor}}))
    dataset = find_cases(tmp_path)
    volume = dataset.cases[0].read_volume()
    np.testing.assert_array_equal(dataset.cases[0].read_labels(volume), small_ct(1)[1])
    assert dataset.notes == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_labels_json_overrules_the_list(tmp_path, encoding):
    write_msd(tmp_path, (1,))
    (tmp_path / "dataset.json").write_text(json.dumps(LIVER_JSON), encoding=encoding)
    assert len(find_cases(tmp_path).cases) == 1
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1": "organ", "2": "lesion"}}))
    (tmp_path / "labels.json").write_text('{"liver": 1, "tumor": 2}', encoding=encoding)
    (case,) = find_cases(tmp_path).cases
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), small_ct(1)[1])
    (tmp_path / "labels.json").write_text('{"liver": 1}')
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.findings["code"].tolist() == ["label-lost-in-liver"]


@pytest.mark.parametrize(
    "text",
    [
        *("{", "null", "", "[]", "\ufffd", "[" * 100_000, '{"label": {"liver": 1}}', '{"labels": ["liver"]}'),
        *('{"labels": {"liver": "one"}}', '{"labels": {"liver": 1.5}}', '{"labels": {"liver": true}}'),
        *('{"labels": {"liver": [1, null]}}', '{"labels": {"liver": {"value": 1}}}'),
        '{"labels": {"0": "background", "1": "pancreas", "2": "cancer"}}',
        '{"labels": {"0": "background", "1": "liver vessel", "2": "liver tumour"}}',
    ],
)
def test_a_dataset_json_that_is_broken_or_names_no_liver_is_told(tmp_path, text):
    write_msd(tmp_path, (1,))
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json"):
        find_cases(tmp_path)


def test_names_of_nnunet_meet_their_labels_and_other_channels_are_told(tmp_path):
    write_msd(tmp_path, (1, 2, 3))
    for number in (1, 2):
        image = tmp_path / "imagesTr" / f"liver_{number}.nii.gz"
        image.with_name(f"liver_{number}_0001.nii.gz").write_bytes(image.read_bytes())
        image.rename(image.with_name(f"liver_{number}_0000.nii.gz"))
    write_nifti(tmp_path / "imagesTr" / "case_0003.nii.gz", small_ct()[0])  # a number, not a channel
    dataset = find_cases(tmp_path)
    labelled = {case.case_id: case.read_labels is not None for case in dataset.cases}
    assert labelled == {"case_0003": False, "liver_1": True, "liver_2": True, "liver_3": True}
    assert dataset.unpaired == ()
    (note,) = dataset.notes
    assert note.code == "passed-over" and "liver_1_0001.nii.gz, liver_2_0001.nii.gz" in note.message


@pytest.mark.parametrize(
    "name, told", [("mystery", "2 (mystery)"), ("portal vein", "2 (portal vein)"), ("mass", "tumour")]
)
def test_no_label_becomes_background_within_the_liver_without_a_word(tmp_path, name, told):
    write_msd(tmp_path, (1,))
    labels = small_ct(1)[1]
    labels[:2, -2:] = 3  # outside of it
    write_nifti(tmp_path / "labelsTr" / "liver_1.nii.gz", labels)
    labels = {"background": 0, "liver": 1, name: 2, "cava": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    report = check_dataset(find_cases(tmp_path), progress=False)
    findings = report.findings.set_index("code")["message"]
    assert told in findings["label-names"]
    lost = findings.get("label-lost-in-liver", "")
    assert ("32 voxels" in lost and told in lost) != (name == "mass")
    assert "cava" not in lost
    assert report.cases["tumor_voxels"].tolist() == [32 if name == "mass" else 0]
    assert report.exit_code == 0
