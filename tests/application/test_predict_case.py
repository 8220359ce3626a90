"""One case from its file to a folder of results."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toy_system import LIVER_HU, SPACING_MM, TUMOR_HU, toy_labels, toy_predictor, toy_voxels, write_toy_nifti

from livseg_lib.application.inputs import find_inputs
from livseg_lib.application.predictor import Predictor, predict_case
from livseg_lib.application.results import write_result
from livseg_lib.application.scan import Reading
from livseg_lib.errors import InputError
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.training.model_folder import TrainedModel

VOXEL_ML = float(np.prod(SPACING_MM)) / 1000
FILES = {"index.html", "mask.nii.gz", "measures.json", "overlay.png", "record.json", "tumors.csv"}


@pytest.fixture
def nifti(tmp_path):
    (case,) = find_inputs(write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels()))
    return case


def test_labels_and_measures_are_those_of_the_scan(nifti):
    steps = []
    result = predict_case(nifti, toy_predictor(), steps.append)
    np.testing.assert_array_equal(result.labels, toy_labels(toy_voxels()))
    assert steps == ["read", "predict", "measure"]
    assert result.record["measures"]["liver_ml"] == pytest.approx(4 * 10 * 8 * VOXEL_ML)
    assert result.record["measures"]["tumor_burden"] == pytest.approx(8 / 320)
    assert result.tumors.volume_ml.tolist() == pytest.approx([8 * VOXEL_ML])
    assert result.tumors.contrast_hu.tolist() == [LIVER_HU - TUMOR_HU]
    assert result.record["tumor_presence"]["suspected"] and np.isnan(
        result.record["tumor_presence"]["probability"]
    )


def test_the_folder_holds_all_and_its_mask_lies_on_the_scan(nifti, tmp_path):
    folder = write_result(predict_case(nifti, toy_predictor()), tmp_path / "out" / "scan")
    assert {path.name for path in folder.iterdir() if path.is_file()} == FILES
    scan, mask = nibabel.load(nifti.files[0]), nibabel.load(folder / "mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, scan.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), toy_labels(toy_voxels()))
    assert len(pd.read_csv(folder / "tumors.csv")) == 1
    page = folder / (folder / "index.html").read_text().split("url=")[1].split('"')[0]
    assert "scan" in page.read_text()
    with Image.open(folder / "overlay.png") as picture:
        assert "Not for clinical use" in picture.info["Description"]


def test_measures_and_record_are_json_that_names_model_versions_seconds_and_memory(nifti, tmp_path):
    folder = write_result(predict_case(nifti, toy_predictor("weights-1")), tmp_path / "scan")
    measures, record = (json.loads((folder / name).read_text()) for name in ("measures.json", "record.json"))
    assert measures["n_tumors"] == 1 and measures["tumors"][0]["slice"] == 2
    assert measures["tumor_probability"] is None  # NaN is no JSON
    assert record["system"]["model"] == {"weights_sha256": "weights-1"}
    assert record["input"]["shape"] == [6, 20, 16] and record["input"]["spacing_mm"] == list(SPACING_MM)
    assert set(record["seconds"]) == {"read", "predict", "measure", "write", "in_all"}
    assert record["peak_memory_mb"] > 0 and "numpy" in record["packages"]
    assert str(tmp_path) not in json.dumps(record)
    assert any("6 slices" in sentence for sentence in record["cautions"])


def test_a_scan_of_nothing_gives_an_empty_mask_and_says_so(tmp_path):
    voxels = np.full((6, 20, 16), -1000, np.int16)
    (case,) = find_inputs(write_toy_nifti(tmp_path / "air.nii.gz", voxels))
    folder = write_result(predict_case(case, toy_predictor()), tmp_path / "air")
    record = json.loads((folder / "record.json").read_text())
    assert "Nothing was found: the mask is empty." in record["cautions"]
    assert not np.asarray(nibabel.load(folder / "mask.nii.gz").dataobj).any()
    assert {path.name for path in folder.iterdir()} >= FILES


def test_a_picture_gets_a_mask_picture_and_no_millimetres(tmp_path):
    grey = np.zeros((20, 16), np.uint8)
    grey[4:14, 5:13], grey[6:8, 8:10] = LIVER_HU, TUMOR_HU
    Image.fromarray(grey).save(tmp_path / "slice.png")
    (case,) = find_inputs(tmp_path / "slice.png")
    result = predict_case(case, toy_predictor())
    assert np.isnan([result.record["measures"]["liver_ml"], result.record["measures"]["liver_hu"]]).all()
    assert result.record["measures"]["n_tumors"] == 1 and result.tumors.volume_ml.isna().all()
    folder = write_result(result, tmp_path / "out")
    with Image.open(folder / "mask.png") as mask:
        assert np.unique(mask).tolist() == [0, 127, 255]
        np.testing.assert_array_equal(np.asarray(mask) > 0, grey > 0)
    record = json.loads((folder / "record.json").read_text())
    assert record["input"]["spacing_mm"] == [None] * 3 and "black is taken for 0 HU" in record["notes"][0]


def test_a_stack_of_pictures_gets_a_mask_for_each_by_its_number(tmp_path):
    for number in (3, 12):
        Image.fromarray(np.full((8, 8), 110, np.uint8)).save(tmp_path / f"volume-1_slice_{number}.png")
    (case,) = find_inputs(tmp_path)
    folder = write_result(predict_case(case, toy_predictor()), tmp_path / "out")
    assert {path.name for path in folder.glob("mask*")} == {"mask_3.png", "mask_12.png"}


def test_what_a_system_does_not_look_for_is_undefined_and_not_absent(nifti, tmp_path):
    livers = predict_case(nifti, toy_predictor(structures=("liver",)))
    assert np.isnan(
        [livers.record["measures"][name] for name in ("tumor_ml", "n_tumors", "tumor_burden")]
    ).all()
    assert livers.record["measures"]["liver_ml"] > 0 and livers.record["tumor_presence"]["suspected"] is None
    page = (write_result(livers, tmp_path / "scan") / "patients" / "scan.html").read_text()
    assert "find the liver alone" in page and "Liver (ml)" in page and "Tumour burden" not in page
    tumors = predict_case(nifti, toy_predictor(structures=("tumor",)))
    assert np.isnan(
        [tumors.record["measures"][name] for name in ("liver_ml", "liver_hu", "tumor_burden")]
    ).all()
    assert tumors.tumors.position.isna().all() and tumors.tumors.volume_ml.notna().all()


@pytest.fixture(scope="module")
def network():
    """An untrained network that calls nearly everything liver and tumour."""
    options = {"filters": 4, "levels": 2}
    thresholds = {"liver": 0.01, "tumor": 0.01}
    model = build_model("unet", (32, 32, 1), 2, **options)
    return TrainedModel("unet", "unet", options, model, Recipe(("stored",), size=32), "both", thresholds)


def test_a_single_network_gives_a_probability(nifti, network):
    result = predict_case(nifti, Predictor(network, {"system": "unet"}))
    assert (
        0 < result.record["tumor_presence"]["probability"] < 1
        and result.record["tumor_presence"]["suspected"]
    )
    said = "HU cut to 0 to 255, in pictures of 32 x 32 pixels. Every case is brought to that."
    assert result.record["system"]["expects"] == [f"Expected by unet: {said}"]


def test_a_known_liver_stands_and_tumours_count_only_in_it(nifti, network):
    livers = replace(network, thresholds={"liver": 0.99, "tumor": 0.99})  # finds none
    result = predict_case(nifti, Predictor(network, {"system": "unet"}, liver_model=livers))
    assert not result.labels.any() and result.record["tumor_presence"]["suspected"] is False


def test_pictures_that_show_less_than_the_system_saw_are_told(tmp_path, network):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "slice.png")
    wide = replace(network, recipe=Recipe(("liver",), size=32))
    for hu, told in (((0.0, 255.0), True), ((-200.0, 300.0), False)):
        (case,) = find_inputs(tmp_path / "slice.png", reading=Reading(picture_hu=hu))
        result = predict_case(case, Predictor(wide, {"system": "unet"}))
        assert any("has lost what lay beyond" in one for one in result.record["cautions"]) == told


def test_a_system_that_needs_millimetres_refuses_pictures(tmp_path, network):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "slice.png")
    (case,) = find_inputs(tmp_path / "slice.png")
    resampling = replace(network, recipe=Recipe(("stored",), size=32, voxel_size_mm=(1.0, 1.0, 1.0)))
    with pytest.raises(InputError, match="known spacing"):
        predict_case(case, Predictor(resampling, {"system": "unet"}))
