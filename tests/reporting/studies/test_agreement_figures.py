"""Agreement of models: drawn as it was measured, and no more said than is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.reporting.studies.agreement import (
    agreement_against_errors,
    agreement_volumes,
    conclude_agreement,
    uncertainty_map,
)

PATIENTS = pd.DataFrame(
    {
        "case": ["a", "b", "c"] * 2,
        "structure": ["liver"] * 3 + ["tumor"] * 3,
        "volume_ml": [1500.0, 1400.0, 1600.0, 10.0, 1.0, 0.0],
        "volume_ml_std": [50.0, 20.0, 10.0, 2.0, 1.0, 0.0],
        "reference_ml": [1540.0, 1450.0, 1600.0, 20.0, 0.0, 0.0],
        "pairwise_dice": [0.9, 0.9, 0.9, 0.7, 0.1, np.nan],
        "vote_dice": [0.95, 0.96, 0.97, 0.8, 0.0, 1.0],
    }
)
LESIONS = pd.DataFrame({"agreement": [0.9, 0.8, 0.6], "is_true": [True, True, False]})


def summary(**patient) -> pd.DataFrame:
    rows = [{"level": "patient", "value": 0.9, "p": 0.01, "n": 8} | patient]
    return pd.DataFrame([*rows, {"level": "lesion", "value": 1.0, "p": np.nan, "n": 3}])


def differences(p: float, bound: float = 0.01) -> pd.DataFrame:
    rows = pd.DataFrame({"structure": ["liver", "tumor"], "second": "unet", "difference": -0.1, "p_holm": p})
    return rows.assign(difference_low=-0.2, difference_high=-0.01, smallest_p_holm=bound)


def test_patients_with_a_defined_score_and_all_tumours_are_drawn():
    left, right = agreement_against_errors(PATIENTS, LESIONS).axes
    points = left.collections[0]
    np.testing.assert_allclose(points.get_offsets(), [[0.7, 0.8], [0.1, 0.0]])
    assert points.get_facecolors()[:, 3].tolist() == [1, 0]  # hollow without a tumour
    assert [text.get_text() for text in right.texts] == ["n = 2", "n = 1"]
    agreement_against_errors(PATIENTS, LESIONS.head(0)).canvas.draw()


def test_volumes_beside_the_truth():
    panels = agreement_volumes(PATIENTS).axes
    assert [ax.get_title(loc="left") for ax in panels] == ["liver", "tumour"]
    truth = next(line for line in panels[1].lines if line.get_label() == "truth")
    assert list(truth.get_xdata()) == [20, 0, 0]


def test_only_where_models_disagree_there_is_heat():
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 5:15] = 1
    heat = np.zeros((20, 20), np.float32)
    heat[6, 6:9] = 0.4
    figure = uncertainty_map(np.zeros((20, 20), np.uint8), heat, labels, labels)
    shown = figure.axes[1].images[1].get_array()
    assert shown.count() == 3 and float(shown.max()) == pytest.approx(0.4)
    figure.canvas.draw()


def test_sentences_say_what_is_shown():
    said = conclude_agreement(PATIENTS, LESIONS, summary(), differences(0.01))
    assert said[0].endswith("worse than unet (Holm).") and said[1].startswith("Majority vote, tumour")
    assert "2 of 3 cases" in said[2] and "2 of 3 cases" in said[3]
    assert said[4].endswith("Disagreement tells on whom the vote is wrong.")
    assert "2 true tumours and 1 false alarms" in said[5] and "85%" in said[5] and "60%" in said[5]


def test_sentences_say_no_more_than_is_shown():
    said = conclude_agreement(PATIENTS, LESIONS, summary(p=0.3), differences(0.4))
    assert "no difference from any member is shown" in said[0]
    assert "It is not shown that disagreement tells" in said[4]
    hopeless = conclude_agreement(PATIENTS, LESIONS, summary(), differences(0.4, bound=0.08))
    assert "no p could have been small" in hopeless[0] and "no p could" not in said[0]
    backwards = conclude_agreement(PATIENTS, LESIONS, summary(value=-0.9), differences(0.4))
    assert "It is not shown" in backwards[4]
    nothing = summary(value=np.nan)
    nothing.loc[1, "value"] = np.nan
    said = conclude_agreement(PATIENTS, LESIONS, nothing, differences(0.4))
    assert "undefined" in said[4] and "undefined" in said[5]
