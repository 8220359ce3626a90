"""Tables of a report: every tumour of every system, replaced as a whole when a system is scored again."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from solids import labelled

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.cases import SCORES, Score
from livseg_lib.inference.evaluate import evaluate_labels
from livseg_lib.studies.training import record_evaluations
from livseg_lib.volumes import Volume

COLUMNS = ["system", "patient", "case", "kind", "lesion", "volume_ml", "longest_diameter_mm", "size_class"]
COLUMNS += ["detected", "touched", "iou", "dice"]
TUMOR, SPECK = np.s_[1:3, 4:14, 4:14], np.s_[3, 15, 15]
labels = partial(labelled, (4, 20, 20))


def case(patient: int, truth: np.ndarray, spacing_mm) -> Case:
    hu = np.zeros(truth.shape, np.int16)
    return Case(f"volume-{patient}", f"{patient}", (), partial(Volume, hu, spacing_mm), lambda _: truth)


def record(folders, name, found, truths, structures=("liver", "tumor"), spacing_mm=(5.0, 2.0, 2.0)):
    system = SimpleNamespace(system=name, structures=structures, training={}, parameters=0)
    cases = [case(patient, truth, spacing_mm) for patient, truth in enumerate(truths)]
    each = iter(found)
    evaluation = evaluate_labels(system, lambda *_: next(each), cases, folders.predictions(name))
    record_evaluations([(system, evaluation)], folders, seed=1)


def test_lesions_and_their_sizes(folders):
    truths = [labels(TUMOR, SPECK), labels()]
    record(folders, "good", truths, truths)
    record(folders, "blind", [labels(), labels(SPECK)], truths)
    lesions = pd.read_csv(folders.tables / "lesions.csv")
    assert list(lesions) == COLUMNS
    counts = pd.crosstab(lesions.system, lesions.kind)
    assert counts.loc["good"].tolist() == [2, 2]
    assert counts.loc["blind", ["prediction", "reference"]].tolist() == [1, 2]
    good, blind = (lesions[lesions.system == name] for name in ("good", "blind"))
    assert good.detected.all() and not blind.touched.any()
    sizes = pd.read_csv(folders.tables / "lesions_by_size.csv").set_index(["system", "size_class"])
    assert len(sizes) == 2 * 4
    assert sizes.loc[("good", "20 to 50 mm"), ["n_reference", "recall", "precision"]].tolist() == [1, 1, 1]
    assert sizes.loc[("blind", "< 10 mm"), ["n_prediction", "precision"]].tolist() == [1, 0]


def test_a_system_that_finds_nothing_any_more_leaves_no_old_row(folders):
    empty = [labels(), labels()]
    record(folders, "other", [labels(SPECK), labels()], empty)
    record(folders, "eager", [labels(SPECK), labels()], empty)
    record(folders, "eager", empty, empty)
    assert pd.read_csv(folders.tables / "lesions.csv").system.tolist() == ["other"]
    sizes = pd.read_csv(folders.tables / "lesions_by_size.csv")
    assert sizes.groupby("system").n_prediction.sum().to_dict() == {"eager": 0, "other": 1}


def test_a_system_for_livers_alone_has_no_lesions(folders):
    record(folders, "liver_only", [labels()], [labels(TUMOR)], structures=("liver",))
    assert not (folders.tables / "lesions.csv").exists()


def test_new_scores_are_in_the_tables_of_patients_and_of_systems(folders):
    truths = [labels(TUMOR), labels()]
    half = labels(np.s_[1:3, 4:14, 4:10])
    record(folders, "half", [half, labels()], truths)
    patients = pd.read_csv(folders.tables / "patients.csv").set_index(["structure", "patient"])
    liver, tumor = patients.loc[("liver", 0)], patients.loc[("tumor", 0)]
    assert (liver.hd95_mm, liver.surface_dice) == (0, 1) and np.isnan([liver.lesion_dice]).all()
    assert (tumor.lesion_dice, tumor.panoptic_quality) == (0.75, pytest.approx(0.6))
    assert 0 < tumor.hd95_mm <= tumor.msd_mm == 8.0
    assert patients.loc[("tumor", 1), ["hd95_mm", "surface_dice", "lesion_dice"]].isna().all()
    scores = pd.read_csv(folders.tables / "lits_scores.csv").set_index("structure")
    assert scores.hd95["tumor"] == tumor.hd95_mm and scores.surface_dice["tumor"] == tumor.surface_dice
    assert scores.n_defined_surface_dice.tolist() == [2, 1] and scores.surface_tolerance_mm.tolist() == [3, 3]
    assert (scores.lesion_dice["tumor"], scores.n_defined_lesion_dice["tumor"]) == (0.75, 1)
    assert scores.panoptic_quality.tolist() == pytest.approx([np.nan, 0.6], nan_ok=True)


def test_a_score_that_somebody_added_is_a_column_of_both_tables(folders, monkeypatch):
    extra = Score(lambda pair: float(pair.counts.false_positives), column="extra_voxels")
    monkeypatch.setitem(SCORES, "extra", extra)
    record(folders, "half", [labels(SPECK)], [labels(TUMOR)])
    patients = pd.read_csv(folders.tables / "patients.csv").set_index("structure")
    assert patients.extra_voxels.to_dict() == {"liver": 0, "tumor": 1}
    assert pd.read_csv(folders.tables / "lits_scores.csv").extra.tolist() == [0, 1]


def test_pictures_without_spacing_have_matches_but_no_sizes(folders):
    truths = [labels(TUMOR)]
    record(folders, "pictures", truths, truths, spacing_mm=(np.nan,) * 3)
    lesions = pd.read_csv(folders.tables / "lesions.csv")
    assert lesions.detected.all() and lesions[["volume_ml", "size_class"]].isna().all(axis=None)
    sizes = pd.read_csv(folders.tables / "lesions_by_size.csv").set_index("size_class")
    assert sizes.n_reference.to_dict()["unknown size"] == 1 == sizes.n_reference.sum()
