"""The command line, called as a user calls it."""

import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from layouts import write_kaggle_case, write_lits_case, write_picture

from livseg_lib.cli import _parser, main
from livseg_lib.evaluation.masks import SURFACE_TOLERANCE_MM
from livseg_lib.inference import export as exporting
from livseg_lib.models import build_model
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.sampling.batches import REGIONS
from livseg_lib.training.model_folder import TrainedModel, TrainedSorter, save_model

RECIPE = Recipe(("stored",), size=32)


@pytest.fixture
def lits(tmp_path):
    """Two patients in LiTS layout."""
    for number in range(2):
        write_lits_case(tmp_path / "lits", number)
    return tmp_path / "lits"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network, whose maps lie near 0.05: all that it sees is liver."""
    options = {"filters": 4, "levels": 2}
    network = build_model("unet", (32, 32, 1), 1, **options)
    trained = TrainedModel("unet", "unet", options, network, RECIPE, "liver", {"liver": 0.01})
    return str(save_model(trained, tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def sorter(tmp_path_factory):
    """An untrained slice sorter whose gate lets nothing through."""
    options = {"filters": 4, "levels": 2, "pixels": 32}
    network = build_classifier("slice_sorter", (32, 32, 1), len(REGIONS), **options)
    trained = TrainedSorter("slice_sorter", "slice_sorter", options, network, RECIPE, REGIONS, gate=1.0)
    return str(save_model(trained, tmp_path_factory.mktemp("sorter")))


def test_check_lists_the_cases_and_tells_errors_by_its_exit_code(lits, tmp_path, capsys):
    assert main(["check", str(lits), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert (tmp_path / "out" / "contact_sheet.png").exists()
    content = (lits / "volume-1.nii.gz").read_bytes()
    (lits / "volume-1.nii.gz").write_bytes(content[: len(content) // 2])
    assert main(["check", str(lits), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    findings = pd.read_csv(tmp_path / "out" / "findings.csv")
    assert findings.set_index("case").severity.to_dict() == {"volume-0": "ok", "volume-1": "error"}
    assert "volume-1" in capsys.readouterr().out


def test_extract_leaves_out_and_names_a_broken_case(lits, tmp_path, capsys):
    (lits / "volume-0.nii.gz").write_bytes(b"not a scan")
    arguments = ["extract", str(lits), "--out", str(tmp_path / "s"), "--size", "128", "--workers", "1"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "volume-0" in printed.err and "1 case, 6 slices" in printed.out
    assert np.load(tmp_path / "s" / "volume-1" / "images.npy").shape == (6, 128, 128, 3)


@pytest.mark.parametrize("option", ["--size=31", "--windows=liver,lever", "--noise-filter=mean"])
def test_extract_refuses_an_option_before_it_has_read_all_scans(lits, tmp_path, capsys, option):
    (lits / "volume-0.nii.gz").write_bytes(b"not a scan")
    assert main(["extract", str(lits), "--out", str(tmp_path / "s"), "--workers", "1", option]) == 2
    said = capsys.readouterr().err
    assert option[2:6] in said and "left out" not in said


@pytest.mark.parametrize("command", ["check", "extract"])
def test_of_many_slices_the_broken_one_is_named(tmp_path, capsys, command):
    for volume in (0, 1):
        write_kaggle_case(tmp_path / "slices", volume)
    broken = sorted((tmp_path / "slices").rglob("volume-1_slice_*"))[1]
    broken.write_bytes(b"not a picture")
    arguments = ["--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([command, str(tmp_path / "slices"), *arguments]) == 1
    assert broken.name in "".join(capsys.readouterr())


def test_predict_lists_what_failed_names_its_expectation_and_goes_on(lits, model, sorter, tmp_path, capsys):
    (lits / "volume-1.nii.gz").write_bytes(b"not a scan")
    out = tmp_path / "out"
    arguments = ["predict", str(lits), "--model", model, "--out", str(out)]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "Expected by unet: HU cut to 0 to 255" in printed.out and "volume-0: liver" in printed.out
    assert "volume-1: failed" in printed.err and "1 of 2 cases done" in printed.out
    assert "Not for clinical use" in printed.out
    scan, mask = nibabel.load(lits / "volume-0.nii.gz"), nibabel.load(out / "volume-0" / "mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, scan.affine)
    assert mask.shape == scan.shape and np.asarray(mask.dataobj).any()
    assert main(arguments) == 1
    assert "volume-0: done before" in capsys.readouterr().out
    assert main([*arguments, "--sorter", sorter]) == 1  # that holds all slices back
    printed = capsys.readouterr().out
    assert "liver 0.0 ml" in printed and "another scan" not in printed
    nibabel.save(nibabel.Nifti1Image(scan.get_fdata() + 1, scan.affine), lits / "volume-0.nii.gz")
    assert main(arguments) == 1
    assert "in place of the result of another scan of that name" in capsys.readouterr().out
    assert main([*arguments, "--augment", "shift", "--case-names", "numbered"]) == 1
    assert "case-001: liver" in capsys.readouterr().out
    cases = pd.read_csv(out / "cases.csv").set_index("case")
    assert cases.state.to_dict() == {"case-001": "done", "case-002": "failed"}


def test_sort_lists_each_slice_once_and_draws_those_to_read_first(lits, sorter, tmp_path, capsys):
    out = tmp_path / "sorted"
    assert main(["sort", str(lits), "--model", sorter, "--out", str(out)]) == 0
    order = pd.read_csv(out / "volume-0.csv")
    assert sorted(order.slice) == list(range(6)) and list(order.place) == list(range(1, 7))
    assert (out / "volume-0.png").exists() and "Not for clinical use" in capsys.readouterr().out
    (lits / "volume-0.nii.gz").write_bytes(b"not a scan")
    (out / "volume-1.csv").unlink()
    assert main(["sort", str(lits), "--model", sorter, "--out", str(out)]) == 1
    assert (out / "volume-1.csv").exists() and "volume-0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["volume-1.csv", "volume-1.png", "follow_up.csv"])
def test_sort_and_follow_up_overwrite_nothing_of_a_user(lits, sorter, tmp_path, capsys, name):
    own = write_picture(lits / name, np.zeros((9, 9), np.uint8)) if name.endswith("png") else lits / name
    if own.suffix == ".csv":
        own.write_text("patient;seen\n")
    before, labels = own.read_bytes(), str(lits / "segmentation-0.nii.gz")
    command = ["follow-up", labels, labels] if "follow" in name else ["sort", str(lits), "--model", sorter]
    assert main([*command, "--out", str(lits)]) == 2
    assert f"{name}: is there already" in capsys.readouterr().err and own.read_bytes() == before
    assert not list(lits.glob("volume-0.[cp]*"))


def test_sort_takes_no_labels_for_a_scan(lits, sorter, tmp_path, capsys):
    labels = str(lits / "segmentation-0.nii.gz")
    assert main(["sort", labels, "--model", sorter, "--out", str(tmp_path / "out")]) == 1
    assert "labels, no scan" in capsys.readouterr().err and not list((tmp_path / "out").glob("*.csv"))


@pytest.mark.parametrize("mode", ["intended", "lits_asis"])
def test_evaluate_says_the_scores_and_writes_tables_beside_them(lits, tmp_path, capsys, mode):
    given = ["--reference", str(lits), "--prediction", str(lits), "--mode", mode, "--tolerance-mm", "2"]
    assert main(["evaluate", *given, "--out", str(tmp_path / "out" / "scores.json")]) == 0
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["summary"]["tumor"]["dice_per_case"] == 1.0
    said = capsys.readouterr().out
    assert f"mode {mode}, surface Dice at 2 mm" in said and "HD95" in said and "20 to 50 mm" in said
    names = ("cases", "lesions", "lesions_by_size")
    cases, lesions, sizes = (pd.read_csv(tmp_path / "out" / f"scores_{name}.csv") for name in names)
    assert cases.liver_surface_dice.eq(1).all() and lesions.detected.all()
    assert sizes.n_reference.sum() == cases.n_tumors_reference.sum() > 0
    assert _parser().parse_args(["evaluate", *given[:4]]).tolerance_mm == SURFACE_TOLERANCE_MM
    assert main(["evaluate", *given[:-1], "-1", "--out", str(tmp_path / "s.json")]) == 2
    assert "tolerance_mm" in capsys.readouterr().err
    shutil.copy(next(lits.rglob("segmentation-*")), tmp_path / "lost.nii.gz")
    given[3] = str(tmp_path / "lost.nii.gz")
    assert main(["evaluate", *given, "--out", str(tmp_path / "s.json")]) == 1
    assert f"compared with nothing, as no reference fits: {given[3]}" in capsys.readouterr().err
    before = {path: path.read_bytes() for path in lits.rglob("*") if path.is_file()}
    assert main(["evaluate", *given, "--out", str(next(iter(before)))]) == 2
    assert before == {path: path.read_bytes() for path in before}


def scores_file(path, **dice):
    same = {"tumor_dice": None, "liver_reference_voxels": 9, "tumor_reference_voxels": None}
    cases = [{"case": name, "liver_dice": value} | same for name, value in dice.items()]
    path.write_text(json.dumps({"cases": cases}))
    return str(path)


def test_compare_tells_the_mean_difference_of_shared_cases(tmp_path, capsys):
    first = scores_file(tmp_path / "new.json", a=0.9, b=0.8, c=0.7, extra=0.1)
    second = scores_file(tmp_path / "old.json", a=0.8, b=0.8, c=0.4)
    assert main(["compare", first, second]) == 0
    printed = capsys.readouterr().out
    assert "new minus old +0.1333" in printed and "3 cases, 0 undefined" in printed
    assert "tumor  dice: undefined in 3 cases" in printed
    assert "left out: extra" in printed
    assert main(["compare", scores_file(tmp_path / "one.json", a=0.9), second]) == 0
    assert "+0.1000 (no interval), 1 case, 0 undefined" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((content, "bad.json: holds no scores") for content in ("{}", "[]", "no json")),
        ('{"cases": [{"liver_dice": 1}]}', "bad.json: holds no scores"),
        ('{"cases": [{"case": "a", "liver_dice": "good"}]}', "bad.json: holds no scores"),
        ('{"cases": [{"case": "z", "liver_dice": 1}]}', "has no case in common"),
        ('{"cases": [{"case": "a"}, {"case": "a"}]}', "bad.json: holds several cases called a."),
        ('{"cases": [{"case": "a", "liver_dice": 1, "liver_reference_voxels": 8}]}', "other references"),
        ('{"mode": "lits_asis", "cases": [{"case": "a", "liver_dice": 1}]}', "with mode None, "),
        ('{"cases": [{"case": "a", "liver_voe": 1}]}', "--score: is 'dice', which the two files do not both"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, capsys, content, said):
    (tmp_path / "bad.json").write_text(content)
    assert main(["compare", str(tmp_path / "bad.json"), scores_file(tmp_path / "good.json", a=1)]) == 2
    assert said in capsys.readouterr().err


def test_export_tells_the_difference_and_a_large_one_by_its_code(model, tmp_path, capsys, monkeypatch):
    command = ["export", model, "--format", "onnx", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "coarse phantom" in said and "network.onnx" in said and "Research only" in said
    assert not (tmp_path / "out" / "savedmodel").exists()
    write, _ = exporting.WRITERS["onnx"]
    monkeypatch.setitem(exporting.WRITERS, "onnx", (write, lambda path: lambda x: np.ones((*x.shape[:3], 1))))
    assert main(command) == 1
    assert "do not use it" in capsys.readouterr().out


def label_file(path, length: int, corner: int = 10) -> str:
    """A liver with a bar of `length` voxels of 2 mm in it, stored (W, H, D) in RAS."""
    labels = np.zeros((60, 50, 20), np.uint8)
    labels[corner - 5 : corner + 40, 10:40, 4:16] = 1
    labels[corner : corner + length, 20, 10] = 2
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([2.0, 1.0, 3.0, 1.0])), path)
    return str(path)


def test_follow_up_writes_table_record_and_picture(tmp_path, capsys):
    before, after = label_file(tmp_path / "a.nii.gz", 10), label_file(tmp_path / "b.nii.gz", 20, corner=14)
    assert main(["follow-up", before, after, "--days", "50", "--out", str(tmp_path / "out")]) == 0
    (tumor,) = pd.read_csv(tmp_path / "out" / "follow_up.csv").itertuples()
    assert tumor.kind == "matched" and tumor.doubling_days == pytest.approx(50)
    assert (tumor.diameter_before_mm, tumor.diameter_after_mm) == pytest.approx((19, 39))
    record = json.loads((tmp_path / "out" / "follow_up.json").read_text())
    assert record["response"]["category"] == "progressive disease" and record["days"] == 50
    # Stored from left to right, and so 8 mm less along the patient's right to left.
    assert record["shift_mm"][2] == pytest.approx(-8) and record["liver_dice_after_alignment"] == 1
    assert (tmp_path / "out" / "follow_up.png").stat().st_size > 1000
    said = capsys.readouterr().out
    assert "Arithmetic" in said and "Not for clinical use" in said


def test_follow_up_without_days_has_no_doubling_time_and_null_for_what_is_undefined(tmp_path, capsys):
    paths = [label_file(tmp_path / name, 0) for name in ("a.nii", "b.nii")]
    assert main(["follow-up", *paths, "--out", str(tmp_path)]) == 0
    said, told = capsys.readouterr()
    assert "the same labels" in told and told.count("nobody looked") == 2 and "Empty" not in said
    record = json.loads((tmp_path / "follow_up.json").read_text())
    assert record["days"] is None and record["response"]["change"] is None
    assert record["response"]["category"] == "no tumour"
    assert pd.read_csv(tmp_path / "follow_up.csv").empty


@pytest.mark.parametrize("side", [0, 1])
def test_follow_up_says_where_most_of_a_liver_would_be_tumour(tmp_path, capsys, side):
    paths = [label_file(tmp_path / name, 10) for name in ("a.nii", "b.nii")]
    image = nibabel.load(paths[side])
    swapped = np.uint8([0, 2, 1])[np.asarray(image.dataobj, int)]
    nibabel.save(nibabel.Nifti1Image(swapped, image.affine), paths[side])
    assert main(["follow-up", *paths, "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert f"{paths[side]}: more is tumour" in told and f"{paths[1 - side]}:" not in told


@pytest.mark.parametrize("days", ["0", "-3", "nan", "inf"])
def test_follow_up_refuses_days_that_are_none(tmp_path, capsys, days):
    path = label_file(tmp_path / "a.nii.gz", 5)
    assert main(["follow-up", path, path, f"--days={days}", "--out", str(tmp_path / "out")]) == 2
    assert "--days" in capsys.readouterr().err and not list((tmp_path / "out").glob("[!.]*"))


@pytest.mark.parametrize("order", [1, -1])
def test_follow_up_takes_no_scan_in_which_tumours_were_not_looked_for(tmp_path, capsys, order):
    before, after = label_file(tmp_path / "a.nii.gz", 10), label_file(tmp_path / "mask.nii.gz", 0)
    record = {"system": {"structures": ["liver"]}}
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert main(["follow-up", *[before, after][::order], "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "mask.nii.gz" in said and "does not look for tumours" in said and "livseg models" in said
    record["system"]["structures"] += ["tumor"]  # looked for and gone
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert main(["follow-up", before, after, "--out", str(tmp_path / "out")]) == 0


def test_input_that_cannot_be_used_is_one_clear_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "scan.nii.gz").write_bytes(b"never read")
    assert main(["predict", str(tmp_path), "--model", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and all(line.startswith("livseg: ") for line in lines)
    assert "nowhere" in lines[0] and "is not a livseg model" in lines[1]


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        *((["--series", "3"], kind) for kind in ("NIfTI", "picture")),
        *((["--keep-identity"], "NIfTI"), (["--picture-hu=-160,240"], "NIfTI")),
    ],
)
def test_an_option_that_means_nothing_for_any_scan_is_refused(lits, tmp_path, capsys, option, kind):
    source = lits if kind == "NIfTI" else write_picture(tmp_path / "a.png", np.zeros((9, 9), np.uint8))
    assert main(["predict", str(source), *option, "--out", str(tmp_path / "o")]) == 2
    name = option[0].partition("=")[0]
    assert f"{name}: means nothing for {kind} files." in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("words", "name"),
    [("networks --out {out}/notes.md", "notes.md"), ("check {scans} --out {out}", "findings.csv")],
)
def test_no_file_of_somebody_else_is_overwritten(lits, tmp_path, capsys, words, name):
    (tmp_path / name).write_text("mine")
    assert main(words.format(out=tmp_path, scans=lits).split()) == 2
    assert f"{name}: is there already" in capsys.readouterr().err and (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--out", "o", "--windows", "-100..200", "--workers", "1"], 0, ""),
        (["--out", "", "--workers", "1"], 2, "--out: is empty"),
        (["--out", "o", "--workers", "0"], 2, "--workers: is 0"),
    ],
)
def test_values_may_begin_with_a_minus_and_none_is_made_up(
    lits, tmp_path, monkeypatch, capsys, words, code, said
):
    monkeypatch.chdir(tmp_path)
    try:
        ended = main(["extract", str(lits), *words])
    except SystemExit as error:
        ended = error.code
    assert ended == code and said in capsys.readouterr().err
    assert (tmp_path / "o" / "slices.csv").exists() == (code == 0)
