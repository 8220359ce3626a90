"""Whoever learnt under other conditions is marked."""

from __future__ import annotations

import json

import pytest

from livseg_lib.errors import InputError
from livseg_lib.studies.training import BUDGET, COST, budget_remarks, training_facts_table

FACTS = {"n_train_patients": 18, "n_slices": 404, "slices_seen": 4800, "batch_size": 8, "loss": "bce_dice"}


def models(tmp_path, **systems: dict):
    """A model folder a system, its training facts changed as given (None leaves one out)."""
    for name, changes in systems.items():
        training = {key: value for key, value in (FACTS | changes).items() if value is not None}
        model = {"system": name, "architecture": "unet", "parameters": 7, "target": "both"}
        model |= {"recipe": {"size": 128}, "training": training}
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(json.dumps(model))
    return [tmp_path / name for name in systems]


def test_equal_conditions_need_no_remark(tmp_path):
    facts = training_facts_table(models(tmp_path, a={"seconds": 10.0}, b={"seconds": 900.0}))
    assert list(facts)[3:] == [*BUDGET, *COST] and facts.parameters.tolist() == [7, 7]
    assert budget_remarks(facts).tolist() == ["", ""]


def test_the_odd_one_is_marked_with_what_the_others_had(tmp_path):
    odd = {"slices_seen": 1440, "loss": "mse"}
    facts = training_facts_table(models(tmp_path, odd=odd, a={}, b={}))
    assert budget_remarks(facts).tolist() == ["slices_seen 1440, not 4800; loss mse, not bce_dice", "", ""]


def test_an_unknown_fact_is_no_equal_one(tmp_path):
    facts = training_facts_table(models(tmp_path, a={}, old={"slices_seen": None}))
    assert budget_remarks(facts).tolist() == ["", "slices_seen unknown"]


def test_what_nobody_recorded_cannot_mark_anybody(tmp_path):
    facts = training_facts_table(models(tmp_path, a={"batch_size": None}, b={"batch_size": None}))
    assert budget_remarks(facts).tolist() == ["", ""] and facts.batch_size.isna().all()


def test_a_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "half").mkdir()
    with pytest.raises(InputError, match="does not describe a model"):
        training_facts_table([tmp_path / "half"])
    assert training_facts_table([]).empty
