"""What a terminal shows says the numbers, and over how many they are."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.evaluation.cases import score_case, summarize_cases
from livseg_lib.evaluation.folders import ROWS, summary_lines
from livseg_lib.evaluation.lesions import lesion_rows, summarize_sizes

SPACING = (2.0, 1.0, 1.0)
TUMOR = np.s_[2:6, 4:18, 4:18]


def labels(*tumors) -> np.ndarray:
    volume = np.ones((10, 24, 24), np.uint8)
    for tumor in tumors:
        volume[tumor] = 2
    return volume


def scores(pairs, mode) -> dict:
    lesions = lesion_rows(*pairs[0], SPACING).assign(case="a")
    summary = summarize_cases([score_case(*pair, SPACING, mode) for pair in pairs], mode)
    sizes = summarize_sizes(lesions, patient="case").to_dict("records")
    return {"mode": mode, "surface_tolerance_mm": 2.5, "summary": summary, "lesions_by_size": sizes}


@pytest.mark.parametrize("mode", ["intended", "lits_asis"])
def test_every_score_is_there_with_its_count(mode):
    half = np.s_[2:6, 4:18, 4:14]
    lines = summary_lines(scores([(labels(half), labels(TUMOR)), (labels(), labels())], mode))
    text = "\n".join(lines)
    assert f"2 cases, mode {mode}, surface Dice at 2.5 mm" in text
    assert all(any(line.startswith(name) for line in lines) for name in ROWS.values())
    dice = (2 * 10 / 24 + 1) / 2
    [per_case] = [line for line in lines if line.startswith("Dice per case")]
    assert per_case.split() == ["Dice", "per", "case", "1.000", "(2)", f"{dice:.3f}", "(2)"]
    [hd95] = [line for line in lines if line.startswith("HD95")]
    assert hd95.split()[-1] == "(1)"  # one tumour was detected
    assert any(line.split()[-5:] == ["1.000", "1.000", "1", "0", "0"] for line in lines if "> 0.5" in line)
    assert "lesion-wise Dice        0.833 (1)" in text and "panoptic quality        0.714 =" in text
    [size] = [line for line in lines if "10 to 20 mm" in line]
    assert size.split()[-8:] == ["1.000", "(1", "of", "1)", "1.000", "(1", "of", "1)"]


def test_what_is_undefined_is_a_dash_and_counted():
    lines = summary_lines(scores([(labels(), labels())], "intended"))
    [rvd] = [line for line in lines if line.startswith("RVD")]
    assert rvd.split() == ["RVD", "0.000", "(1)", "-", "(0)"]
    assert any(line.split()[-4:] == ["-", "(0", "of", "0)"] for line in lines if "> 50 mm" in line)
