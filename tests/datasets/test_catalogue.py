"""Every layout is told and read, and every finding is made on a file damaged for it."""

import os
import pickle
import shutil
import weakref
from pathlib import Path

import nibabel
import numpy as np
import pytest
from layouts import (
    SPACING_MM,
    lps_affine,
    replace_by_zip,
    small_ct,
    write_dicom_series,
    write_ircadb_case,
    write_kaggle_case,
    write_lits_case,
    write_msd,
    write_nifti,
    write_picture,
)
from nibabel.spatialimages import HeaderDataError

from livseg_lib.application.inputs import find_inputs
from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.catalogue import (
    ADAPTERS,
    CASE_COLUMNS,
    MOST_NO_LIVER,
    NO_LIVER_HU,
    check_case,
    check_dataset,
    data_checksum,
    find_cases,
    label_findings,
    liver_hu_findings,
    volume_findings,
)
from livseg_lib.datasets.phantom.patient import make_phantom_patient
from livseg_lib.errors import InputError
from livseg_lib.postprocessing.measures import measure_liver
from livseg_lib.volumes import Volume, load_segmentation, load_volume

WRITERS = {
    "lits": lambda folder: write_lits_case(folder, 1),
    "msd": lambda folder: write_msd(folder, (1,)),
    "kaggle": lambda folder: write_kaggle_case(folder, 1),
    "ircadb": write_ircadb_case,
    "dicom": lambda folder: write_dicom_series(folder, small_ct()[0]),
    "nifti": lambda folder: write_nifti(folder / "scan.nii.gz", small_ct()[0]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_is_recognised(tmp_path, name):
    WRITERS[name](tmp_path)
    assert find_cases(tmp_path).name == name
    assert find_cases(str(tmp_path), dataset=name).name == name
    assert name != "lits" or find_cases(tmp_path, dataset="nifti").name == "nifti", "a name forces it"
    assert set(ADAPTERS) == set(WRITERS)


LABELLED = {
    # writes a case, its id, its patient, its scan, its labels
    "lits": (write_lits_case, "volume-{}", "{}", "volume-{}.nii.gz", "segmentation-{}.nii.gz"),
    "msd": (
        lambda folder, number: write_msd(folder, (number,)),
        *("liver_{}", "liver_{}", "imagesTr/liver_{}.nii.gz", "labelsTr/liver_{}.nii.gz"),
    ),
    "ircadb": (
        lambda folder, number: write_ircadb_case(folder / f"3Dircadb1.{number}", seed=number),
        *("3Dircadb1.{}", "3Dircadb1.{}", "3Dircadb1.{}/PATIENT_DICOM", "3Dircadb1.{}/MASKS_DICOM"),
    ),
}


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("nested", ["", "below"])
def test_cases_come_in_natural_order_and_read_what_was_written(tmp_path, name, nested):
    write, case_id, patient, *_ = LABELLED[name]
    for number in (10, 2):
        write(tmp_path / nested, number)
    dataset = find_cases(tmp_path)
    assert dataset.name == name
    for number, case in zip((2, 10), dataset.cases, strict=True):
        assert (case.case_id, case.patient) == (case_id.format(number), patient.format(number))
        case = pickle.loads(pickle.dumps(case))  # cases travel to worker processes
        volume, (voxels, labels) = case.read_volume(), small_ct(number)
        np.testing.assert_array_equal(volume.voxels, voxels)
        np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, rtol=1e-6)
        np.testing.assert_array_equal(case.read_labels(volume), labels)


@pytest.mark.parametrize("name", LABELLED)
def test_missing_partners_are_kept_and_told(tmp_path, name):
    write, case_id, _, scan, labels = LABELLED[name]
    for number, lost in ((1, labels), (2, scan)):
        write(tmp_path, number)
        path = tmp_path / lost.format(number)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    assert (case.case_id, case.read_labels) == (case_id.format(1), None)
    assert dataset.unpaired == (tmp_path / labels.format(2),)


def test_previews_beside_volumes_are_told_and_so_is_what_to_do_with_tiff(tmp_path):
    for number in (1, 2):
        write_lits_case(tmp_path, number)
    for name in ("volume-1_10.png", "slice.tif"):
        write_picture(tmp_path / name, np.zeros((9, 9), np.uint8))
    dataset = find_cases(tmp_path)
    assert dataset.name == "lits" and len(dataset.cases) == 2
    assert [("PNG" in note.message, "(1)" in note.message) for note in dataset.notes] == [
        (True, True),
        (False, True),
    ]


def test_a_label_map_alone_is_no_scan_and_what_lies_beside_is_told(tmp_path):
    write_dicom_series(tmp_path / "dicom", small_ct()[0])
    write_nifti(tmp_path / "example_seg.nii.gz", small_ct()[1])
    for k in range(5):
        write_picture(tmp_path / "masks" / f"{k}.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "notes.txt").write_text("no data")
    dataset = find_cases(tmp_path)
    assert dataset.name == "dicom"
    (case,) = dataset.cases
    np.testing.assert_array_equal(case.read_volume().voxels, small_ct()[0])
    (note,) = dataset.notes
    assert (note.code, note.severity) == ("passed-over", "warning")
    assert "7 passed over: not a DICOM file (example_seg.nii.gz" in note.message


@pytest.mark.parametrize("name", ["lits", "msd", "nifti", "kaggle"])
def test_dicom_that_another_layout_leaves_is_told_and_so_are_zips_and_pipes(tmp_path, name):
    WRITERS[name](tmp_path)
    assert find_cases(tmp_path).notes == ()
    write_dicom_series(tmp_path / "series", small_ct()[0])
    replace_by_zip(write_dicom_series(tmp_path / "other", small_ct()[0]))
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "lost.nii.gz").symlink_to("nowhere")
    (tmp_path / "lost.txt").symlink_to("nowhere")
    (tmp_path / "._twin.nii.gz").write_bytes(b"Mac OS X")
    others = ["volume-7.nii.zst", "volume-8.nrrd", "volume-9.nii.gz.part", "mask.gif"]  # a kind each
    for other in others:
        (tmp_path / other).write_bytes(b"data")
    dataset = find_cases(tmp_path)
    assert dataset.name == name
    severities = {note.where.name: note.severity for note in dataset.notes}
    lost = {} if name == "nifti" else {"lost.nii.gz": "error"}  # there it is a case, and its reading fails
    expected = dict.fromkeys(["image_0", "other.zip", "pipe.nii", "lost.txt", *others[1:]], "warning")
    assert severities == expected | lost
    told = " ".join(note.message for note in dataset.notes)
    assert "(2): other.zip, volume-7.nii.zst. Unpack them." in told and "Convert them to .nii.gz." in told
    assert name != "nifti" or "lost" in [case.case_id for case in dataset.cases]


def test_label_maps_alone_are_no_data_set(tmp_path):
    write_nifti(tmp_path / "seg.nii.gz", small_ct()[1])
    for name, words in (("auto", "no data set in it"), ("nifti", "no case")):
        with pytest.raises(InputError, match=rf"{words}.*seg.nii.gz.*label map without its scan"):
            find_cases(tmp_path, name)


def test_single_files(tmp_path):
    voxels = small_ct()[0]
    nifti = write_nifti(tmp_path / "scan.nii.gz", voxels)
    archive = replace_by_zip(write_dicom_series(tmp_path / "series", voxels))
    for source, name, case_id in ((nifti, "nifti", "scan"), (archive, "dicom", "series")):
        dataset = find_cases(source)
        (case,) = dataset.cases
        found = (dataset.name, dataset.folder, case.case_id, case.files)
        assert found == (name, tmp_path, case_id, (source,))
        np.testing.assert_array_equal(case.read_volume().voxels, voxels)


def test_two_series_of_one_folder_share_a_patient(tmp_path):
    for name in ("arterial", "portal"):
        write_dicom_series(tmp_path / "scan" / name, small_ct()[0])
    cases = find_cases(tmp_path / "scan").cases
    assert [case.case_id for case in cases] == ["scan_series-1", "scan_series-2"]
    assert {case.patient for case in cases} == {"scan"}
    assert cases[0].read_volume().voxels.shape == (6, 24, 32)
    assert not set(cases[0].files) & set(cases[1].files)


def test_folder_without_any_layout_lists_what_was_looked_for_and_what_was_seen(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "lost").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"leads to nothing.*a pipe") as caught:
        find_cases(tmp_path)
    for name, adapter in ADAPTERS.items():
        assert f"{name}: {adapter.LOOKS_FOR}" in str(caught.value)


def test_unknown_names_and_empty_and_missing_folders_are_refused(tmp_path):
    for name in WRITERS:
        with pytest.raises(InputError):
            find_cases(tmp_path, dataset=name)
    with pytest.raises(InputError, match="Choose auto or one of lits, msd, kaggle"):
        find_cases(tmp_path, dataset="brats")
    with pytest.raises(InputError, match="no such file or folder"):
        find_cases(tmp_path / "nowhere")


CT, LABELS = small_ct(1)
VOLUME, SEGMENTATION = "volume-1.nii.gz", "segmentation-1.nii.gz"


def check(folder: Path):
    return check_dataset(find_cases(folder), progress=False)


def only_finding(folder: Path):
    """The one finding of the one case in `folder`, and whether the case may be used."""
    report = check(folder)
    assert len(report.findings) == len(report.cases) == 1, report.findings.to_string()
    return report.findings.iloc[0], bool(report.cases["usable"].iloc[0])


@pytest.fixture
def case(tmp_path) -> Path:
    """Folder with one sound LiTS case, to be damaged."""
    write_lits_case(tmp_path, 1)
    return tmp_path


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def with_region(value: int | float, dtype=np.uint8) -> np.ndarray:
    labels = LABELS.astype(dtype)
    labels[2, 7, 6:9] = value
    return labels


def lone_tumor() -> np.ndarray:
    labels = LABELS.copy()
    labels[4, 19:21, 25:27] = 2
    return labels


SHIFTED = lps_affine() + np.outer([0, 0, 1, 0], [0, 0, 0, 40])
SWAPPED = lps_affine((SPACING_MM[0], SPACING_MM[2], SPACING_MM[1]))
ERRORS = {
    "truncated": ("unreadable", lambda f: (f / VOLUME).write_bytes((f / VOLUME).read_bytes()[:-200])),
    "bit flip in labels": ("unreadable", lambda f: flip_bit(f / SEGMENTATION, -6)),
    "shape": ("shape-mismatch", lambda f: write_nifti(f / SEGMENTATION, LABELS[:-1])),
    "shifted affine": ("affine-mismatch", lambda f: write_nifti(f / SEGMENTATION, LABELS, SHIFTED)),
    "swapped affine": ("affine-mismatch", lambda f: write_nifti(f / SEGMENTATION, LABELS, SWAPPED)),
    "label 3": ("label-values", lambda f: write_nifti(f / SEGMENTATION, with_region(3))),
    "label 0.5": (
        "non-integer-labels",
        lambda f: write_nifti(f / SEGMENTATION, with_region(0.5, np.float32)),
    ),
    "labels for a scan": ("label-map", lambda f: write_nifti(f / VOLUME, LABELS)),
    "no liver": ("empty-liver", lambda f: write_nifti(f / SEGMENTATION, LABELS * 0)),
}
WARNINGS = {
    "no labels": ("unlabelled", lambda f: (f / SEGMENTATION).unlink()),
    "lone tumour": ("tumor-outside-liver", lambda f: write_nifti(f / SEGMENTATION, lone_tumor())),
    "clipped to a window": ("implausible-hu", lambda f: write_nifti(f / VOLUME, CT.clip(-100, 240))),
    "metal beyond any scale": (
        "implausible-hu",
        lambda f: write_nifti(f / VOLUME, np.where(CT[2, 5, 4] == CT, 30000, CT).astype(np.int16)),
    ),
    "labels beside the liver": (
        "implausible-hu",
        lambda f: write_nifti(f / VOLUME, np.where(LABELS > 0, -900, CT).astype(np.int16)),
    ),
    "thick slices": ("suspicious-spacing", lambda f: with_affine(f, lps_affine((12.0, 0.8, 0.7)))),
    "fine pixels": ("suspicious-spacing", lambda f: with_affine(f, lps_affine((2.5, 0.1, 0.1)))),
    "identity affine": ("suspicious-spacing", lambda f: with_affine(f, np.eye(4))),
    "no affine": ("no-directions", lambda f: [without_affine(f / name) for name in (VOLUME, SEGMENTATION)]),
}


def without_affine(path: Path) -> None:
    image = nibabel.load(path)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(nibabel.Nifti1Image(image.get_fdata().astype(np.int16), None, image.header), path)


def with_affine(folder: Path, affine: np.ndarray) -> None:
    write_nifti(folder / VOLUME, CT, affine)
    write_nifti(folder / SEGMENTATION, LABELS, affine)


def test_sound_case_is_ok_and_measured(case):
    report = check(case)
    assert report.findings[["case", "severity", "code"]].values.tolist() == [["volume-1", "ok", "ok"]]
    assert report.exit_code == 0
    row = report.cases.iloc[0]
    assert tuple(report.cases.columns) == CASE_COLUMNS
    assert (row["patient"], row["shape"], row["hu_low"], row["hu_high"]) == ("1", CT.shape, -1000, 110)
    assert (row["liver_voxels"], row["tumor_voxels"], row["n_tumors"]) == (480, 32, 1)
    assert row["tumor_ml"] == pytest.approx(32 * 2.5 * 0.8 * 0.7 / 1000)
    assert row["usable"]


@pytest.mark.parametrize("seed", range(3))
def test_tumours_are_counted_as_they_are_measured(case, seed):
    specks = np.random.default_rng(seed).random(LABELS.shape) < 0.3
    labels = np.where((LABELS > 0) & specks, 2, LABELS)
    write_nifti(case / SEGMENTATION, labels)
    row, measured = check(case).cases.iloc[0], measure_liver(None, labels, SPACING_MM)
    names = ["liver_ml", "tumor_ml", "n_tumors"]
    assert row[names].tolist() == pytest.approx([measured[name] for name in names])


DAMAGE = [(True, *each) for each in ERRORS.values()] + [(False, *each) for each in WARNINGS.values()]


@pytest.mark.parametrize(("is_error", "code", "damage"), DAMAGE, ids=[*ERRORS, *WARNINGS])
def test_an_error_excludes_the_case_and_a_warning_does_not(case, is_error, code, damage):
    damage(case)
    finding, usable = only_finding(case)
    severity = "error" if is_error else "warning"
    assert (finding["severity"], finding["code"]) == (severity, code), finding["message"]
    assert Path(finding["file"]).name in (VOLUME, SEGMENTATION) and finding["message"].endswith((".", "?"))
    report = check(case)
    assert usable is not is_error and report.exit_code == is_error
    assert len(report.usable(find_cases(case)).cases) == 1 - is_error


def test_a_tilted_gantry_is_told_and_volumes_are_those_of_its_voxels(case):
    rise = 5 * np.tan(np.radians(20))
    tilted = np.array([[-3.0, 0, 0, 95], [0, -3, rise, 90], [0, 0, 5, -60], [0, 0, 0, 1]])
    with_affine(case, tilted)
    finding, usable = only_finding(case)
    assert (finding["severity"], finding["code"], usable) == ("warning", "sheared-grid", True)
    assert "20.0 degrees" in finding["message"] and "tilt" in finding["message"]
    row = check(case).cases.iloc[0]
    assert row["spacing_mm"] == pytest.approx((5.0, 3.0, 3.0), rel=1e-6)
    assert (row["liver_ml"], row["tumor_ml"]) == pytest.approx((480 * 0.045, 32 * 0.045), rel=1e-6)


def test_a_scan_that_is_upside_down_or_was_rescaled_twice_is_told_from_one_that_is_not():
    patient = make_phantom_patient(2026, 0, site="tiny")
    hu = patient.voxels
    scans = (hu, hu[:, ::-1], hu[:, :, ::-1], hu - np.int16(1024))
    found = [list(volume_findings(Volume(voxels, patient.spacing_mm))) for voxels in scans]
    told = [[note.code for note in notes] for notes in found]
    assert told == [[], ["upside-down"], [], ["implausible-hu"]]
    assert "hardly a body" in found[-1][0].message


def test_a_spacing_in_metres_is_told_to_its_digits():
    (note,) = volume_findings(Volume(small_ct()[0], (0.0025, 0.0008, 0.0007)))
    assert note.code == "suspicious-spacing" and "0.0025 x 0.0008" in note.message


def test_labels_that_are_mirrored_against_their_scan_are_told():
    patient = make_phantom_patient(2026, 0, site="tiny")
    volume, labels = Volume(patient.voxels, patient.spacing_mm), patient.labels
    for mirrored in (labels[::-1], labels[:, ::-1], labels[..., ::-1]):
        (note,) = liver_hu_findings(volume, mirrored)
        assert note.code == "implausible-hu"
    assert not list(liver_hu_findings(volume, labels))


def test_in_a_real_scan_air_and_fat_tell_mirrored_labels_by_far(real_ct):
    volume = load_volume(real_ct / "ircadb17" / "ct.nii.gz")
    liver = load_segmentation(real_ct / "ircadb17" / "mask_liver.nii.gz", volume) == 1
    mirrored = liver[::-1], liver[:, ::-1], liver[..., ::-1]
    fits, *others = (np.mean(volume.voxels[mask] < NO_LIVER_HU) for mask in (liver, *mirrored))
    assert fits < 0.002 and min(others) > 0.05
    assert fits < MOST_NO_LIVER < min(others)


def test_later_copies_of_a_volume_are_excluded(tmp_path):
    for number, seed in ((1, 5), (2, 6), (3, 5), (10, 5)):
        write_lits_case(tmp_path, number, seed)
    report = check(tmp_path)
    assert report.cases["case"].tolist() == ["volume-1", "volume-2", "volume-3", "volume-10"]
    assert report.cases["usable"].tolist() == [True, True, False, False]
    copies = report.findings[report.findings["code"] == "duplicate"]
    assert copies["severity"].eq("error").all()
    assert copies["message"].eq("Its voxels are exactly those of volume-1.").all()


@pytest.mark.parametrize(
    ("copy", "step", "severity"),
    [("bela/ct", -1, "error"), ("anna/mirrored", -1, "warning"), ("anna/again", 1, "error")],
)
def test_a_copy_is_excluded_but_a_mirrored_one_of_the_same_patient(tmp_path, copy, step, severity):
    for name, voxels in (("anna/ct", CT), (copy, CT[:, :, ::step]), ("carl/ct", small_ct(3)[0])):
        write_nifti(tmp_path / f"{name}.nii.gz", voxels)
    findings = check(tmp_path).findings
    found = findings[findings["code"] == "duplicate"]
    assert found["severity"].tolist() == [severity]
    assert found["message"].str.contains("mirrored").tolist() == [step < 0]


def test_missing_dicom_slice(tmp_path):
    write_dicom_series(tmp_path / "series", CT)
    (tmp_path / "series" / "image_2").unlink()
    report = check(tmp_path / "series")
    assert report.findings["code"].tolist() == ["unlabelled", "missing-slices"]
    assert report.exit_code == 1
    assert np.isnan(report.cases["hu_low"].iloc[0]), "what was not measured is not 0"


def test_ircadb_mask_of_another_scan(tmp_path):
    write_ircadb_case(tmp_path)
    assert only_finding(tmp_path)[0]["code"] == "ok"
    shutil.rmtree(tmp_path / "MASKS_DICOM" / "liver")
    assert only_finding(tmp_path)[0]["code"] == "missing-mask"
    write_dicom_series(tmp_path / "MASKS_DICOM" / "liver", (LABELS[:-1] > 0) * np.int16(255), intercept=0)
    assert only_finding(tmp_path)[0]["code"] == "shape-mismatch"


def slice_with(folder: Path, number: int, levels: np.ndarray) -> None:
    """A picture and its mask, of these levels."""
    write_picture(folder / f"volume-0_slice_{number}.png", np.zeros((40, 40), np.uint8))
    write_picture(folder / f"volume-0_slice_{number}_mask.png", levels)


NOTHING, LIVER, BOTH, EXCHANGED = np.zeros((4, 40, 40), np.uint8)
LIVER[5:35, 5:35] = 255
BOTH[5:15, 5:15], BOTH[20:30, 20:30] = 127, 255
EXCHANGED[5:35, 5:35] = 2
EXCHANGED[12:20, 12:20] = 1


@pytest.mark.parametrize(
    ("masks", "code"),
    [
        ((NOTHING,), "empty-liver"),
        ((LIVER, BOTH), "tumor-outside-liver"),  # the next picture's liver is no neighbour in space
        ((EXCHANGED,), "labels-exchanged"),
        ((LIVER, NOTHING), "ok"),  # nor are grey levels judged by HU
    ],
)
def test_masks_of_pictures_are_judged_by_themselves(tmp_path, masks, code):
    for number, mask in enumerate(masks):
        slice_with(tmp_path, number, mask)
    finding, usable = only_finding(tmp_path)
    assert finding["code"] == code and usable


def test_labels_of_nearly_all_of_a_scan_are_told():
    labels = small_ct()[1]
    assert [note.code for note in label_findings(2 - labels, pictures=False)] == ["labels-fill-scan"]
    assert not list(label_findings(labels, pictures=False))


def test_one_bad_case_hides_no_other_and_each_may_be_checked_in_another_process(tmp_path):
    for number in (1, 2, 3):
        write_lits_case(tmp_path, number)
    flip_bit(tmp_path / "volume-2.nii.gz", -6)  # in the checksum
    report, dataset = check(tmp_path), find_cases(tmp_path)
    assert report.findings["code"].tolist() == ["ok", "unreadable", "ok"]
    assert [case.case_id for case in report.usable(dataset).cases] == ["volume-1", "volume-3"]
    for checked in map(check_case, dataset.cases):
        assert pickle.loads(pickle.dumps(checked)) == checked


def test_an_empty_folder_of_slices_hides_no_other_case(tmp_path):
    for number in (1, 2):
        write_ircadb_case(tmp_path / f"batch {number}" / "case", number, tumors=("tumor_1",))
    for path in (tmp_path / "batch 1" / "case" / "PATIENT_DICOM").iterdir():
        path.unlink()
    (tmp_path / "batch 2" / "case" / "PATIENT_DICOM").rename(tmp_path / "batch 2" / "case" / "Patient_DICOM")
    cases = check(tmp_path).cases
    assert cases.case.tolist() == ["batch 1_case", "batch 2_case"] and cases.usable.tolist() == [False, True]
    assert cases.n_tumors.tolist()[1] == 1


@pytest.mark.parametrize("command", [find_cases, find_inputs])
def test_a_folder_that_may_not_be_listed_hides_no_case_beside_it(tmp_path, monkeypatch, command):
    write_nifti(tmp_path / "scan.nii", small_ct()[0])
    (tmp_path / "lost+found").mkdir()
    listed = Path.iterdir

    def refuse(folder):
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert command(tmp_path)


def test_one_case_in_memory_at_a_time():
    alive = []

    def read() -> Volume:
        assert all(reference() is None for reference in alive), "an earlier volume is still in memory"
        volume = Volume(CT + np.int16(len(alive)), SPACING_MM)
        alive.append(weakref.ref(volume.voxels))
        return volume

    cases = tuple(Case(str(n), str(n), (Path("x"),), read, lambda volume: LABELS) for n in range(4))
    report = check_dataset(Dataset("made", Path("."), cases), progress=False)
    assert report.findings["code"].tolist() == ["ok"] * 4


def test_labels_of_an_adapter_of_ones_own_are_checked():
    for labels, code in ((LABELS[:-1], "shape-mismatch"), (LABELS * 100, "label-values")):
        case = Case(
            "a", "a", (Path("a"),), lambda: Volume(CT, SPACING_MM), lambda volume, given=labels: given
        )
        report = check_dataset(Dataset("made", Path("."), (case,)), progress=False)
        assert report.findings["code"].tolist() == [code] and not report.cases["usable"].any()


@pytest.mark.parametrize(
    ("kind", "code"), [(InputError, "odd"), (MemoryError, "unreadable"), (HeaderDataError, "unreadable")]
)
def test_one_case_never_ends_the_check_and_its_text_is_not_repeated(kind, code):
    """What a library says of a header may hold a name: the kind of the error and its place are enough."""
    name = "Doe^Jane 1950"

    def read() -> Volume:
        raise InputError("scan", "Odd.", code="odd") if kind is InputError else kind(name)

    sound = Case("b", "b", (Path("b"),), lambda: Volume(CT, SPACING_MM), lambda volume: LABELS)
    cases = (Case("a", "a", (Path("scan"),), read), sound)
    report = check_dataset(Dataset("made", Path("."), cases), progress=False)
    assert report.findings["code"].tolist() == ["unlabelled", code, "ok"]
    assert report.cases["usable"].tolist() == [False, True]
    assert name not in report.findings.to_string() + report.cases.to_string()
    assert kind is InputError or kind.__name__ in report.findings["message"].iloc[1]


def test_labels_with_a_foreign_affine_are_taken_where_that_is_asked_for_and_told(case):
    write_nifti(case / SEGMENTATION, LABELS, SHIFTED)
    finding, usable = only_finding(case)
    assert not usable and "--accept-affine-mismatch" in finding["message"]
    report = check_dataset(find_cases(case, accept_affine_mismatch=True), progress=False)
    (finding,) = report.findings.itertuples()
    assert (finding.severity, finding.code) == ("warning", "affine-mismatch") and "40 mm" in finding.message
    assert report.cases[["liver_voxels", "tumor_voxels", "usable"]].values.tolist() == [[480, 32, True]]
    for change, code in ((LABELS[:-1], "shape-mismatch"), (with_region(3), "label-values")):
        write_nifti(case / SEGMENTATION, change, SHIFTED)
        report = check_dataset(find_cases(case, accept_affine_mismatch=True), progress=False)
        assert code in set(report.findings["code"]) and report.exit_code == 1


def test_links_to_nothing_are_errors_of_their_cases_and_keep_the_checksum_going(tmp_path):
    write_lits_case(tmp_path, 1)
    write_lits_case(tmp_path, 2)[1].unlink()
    for name in ("volume-3.nii.gz", "segmentation-3.nii.gz", "segmentation-2.nii.gz"):
        (tmp_path / name).symlink_to("../.git/annex/objects/aa/bb/MD5E-s1--0.nii.gz")
    report = check(tmp_path)
    assert report.cases["usable"].tolist() == [True, False, False]
    errors = report.findings[report.findings["severity"] == "error"]
    assert errors["case"].tolist() == ["volume-2", "volume-3"]
    assert errors["message"].str.contains("leads to nothing").all()
    assert len(data_checksum(find_cases(tmp_path))) == 64


def test_names_that_are_not_utf8_can_be_listed(tmp_path):
    odd = write_lits_case(tmp_path, 1)[1]
    os.rename(odd, os.fsencode(tmp_path) + b"/segmentation-9\xff.nii.gz")
    os.rename(tmp_path / "volume-1.nii.gz", os.fsencode(tmp_path) + b"/M\xfcller.nii.gz")
    report = check_dataset(find_cases(tmp_path, "nifti"), progress=False)
    assert report.findings.to_csv().encode() and report.cases["case"].str.contains("M.ller").any()
    assert data_checksum(find_cases(tmp_path, "nifti"))


def test_checksum_follows_content_and_names_not_place(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    write_lits_case(here, 1)
    shutil.copytree(here, there)
    original = data_checksum(find_cases(here))
    assert len(original) == 64
    assert data_checksum(find_cases(there)) == original
    flip_bit(there / VOLUME, 200)
    assert data_checksum(find_cases(there)) != original
    for path in here.iterdir():
        path.rename(here / path.name.replace("-1", "-2"))
    assert data_checksum(find_cases(here)) != original


def test_slices_without_a_mask_are_listed_and_part_of_the_checksum(tmp_path):
    write_kaggle_case(tmp_path, 1)
    for k in (2, 4):
        (tmp_path / "train_masks" / f"volume-1_slice_{k}_mask.jpg").unlink()
    finding, usable = only_finding(tmp_path)
    assert (finding["severity"], finding["code"], usable) == ("warning", "slice-without-mask", True)
    assert "volume-1_slice_2.jpg, volume-1_slice_4.jpg" in finding["message"]
    before = data_checksum(find_cases(tmp_path))
    flip_bit(tmp_path / "train_images" / "volume-1_slice_2.jpg", 300)
    assert data_checksum(find_cases(tmp_path)) != before


def test_masks_of_a_lost_patient_are_an_error_and_in_the_checksum(tmp_path):
    write_ircadb_case(tmp_path / "one")
    write_ircadb_case(tmp_path / "two", seed=2)
    shutil.rmtree(tmp_path / "two" / "PATIENT_DICOM")
    report = check(tmp_path)
    assert report.findings["code"].tolist() == ["unpaired", "ok"]
    assert report.exit_code == 1 and report.cases["usable"].tolist() == [True], "the other case is sound"
    assert report.findings["file"].iloc[0] == str(tmp_path / "two" / "MASKS_DICOM")
    before = data_checksum(find_cases(tmp_path))
    (tmp_path / "two" / "MASKS_DICOM" / "liver" / "image_0").unlink()
    assert data_checksum(find_cases(tmp_path)) != before
