"""`livseg follow-up` on two label files."""

from __future__ import annotations

import argparse
import json

import nibabel
import numpy as np
import pandas as pd
import pytest

from livseg_lib.cli import _parser
from livseg_lib.commands import follow_up
from livseg_lib.errors import InputError


def arguments(*words: object) -> argparse.Namespace:
    return _parser().parse_args(["follow-up", *(str(word) for word in words)])


def label_file(path, length: int, corner: int = 10):
    """A liver with a bar of `length` voxels of 2 mm in it, stored (W, H, D) in RAS."""
    labels = np.zeros((60, 50, 20), np.uint8)
    labels[corner - 5 : corner + 40, 10:40, 4:16] = 1
    if length:
        labels[corner : corner + length, 20, 10] = 2
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([2.0, 1.0, 3.0, 1.0])), path)
    return path


def test_table_record_and_picture(tmp_path, capsys):
    before, after = label_file(tmp_path / "a.nii.gz", 10), label_file(tmp_path / "b.nii.gz", 20, corner=14)
    assert follow_up(arguments(before, after, "--days", 50, "--out", tmp_path / "out")) == 0
    table = pd.read_csv(tmp_path / "out" / "follow_up.csv")
    assert list(table.kind) == ["matched"] and table.doubling_days[0] == pytest.approx(50)
    assert table.diameter_before_mm[0] == pytest.approx(19) and table.diameter_after_mm[0] == pytest.approx(
        39
    )
    record = json.loads((tmp_path / "out" / "follow_up.json").read_text())
    assert record["response"]["category"] == "progressive disease" and record["days"] == 50
    # Stored from left to right, and so 8 mm less along the patient's right to left.
    assert record["shift_mm"][2] == pytest.approx(-8) and record["liver_dice_after_alignment"] == 1
    assert (tmp_path / "out" / "follow_up.png").stat().st_size > 1000
    said = capsys.readouterr().out
    assert "Arithmetic" in said and "Not for clinical use" in said


def test_without_days_there_is_no_doubling_time_and_nothing_is_nan_in_json(tmp_path):
    paths = [label_file(tmp_path / name, 0) for name in ("a.nii", "b.nii")]
    assert follow_up(arguments(*paths, "--out", tmp_path)) == 0
    record = json.loads((tmp_path / "follow_up.json").read_text())
    assert record["days"] is None and record["response"]["change"] is None
    assert record["response"]["category"] == "no tumour"
    assert pd.read_csv(tmp_path / "follow_up.csv").empty


@pytest.mark.parametrize("days", [0, -3, "nan"])
def test_days_that_are_none_are_refused_before_anything_is_written(tmp_path, days):
    path = label_file(tmp_path / "a.nii.gz", 5)
    with pytest.raises(InputError, match="--days"):
        follow_up(arguments(path, path, f"--days={days}", "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_missing_is_named(tmp_path):
    path = label_file(tmp_path / "a.nii.gz", 5)
    with pytest.raises(InputError, match=r"nothing\.nii"):
        follow_up(arguments(path, tmp_path / "nothing.nii", "--out", tmp_path))
