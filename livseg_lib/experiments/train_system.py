"""From slices to a trained system, in one call: what notebook 03 tells step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import pandas as pd

from livseg_lib.experiments.plan import TrainingPlan
from livseg_lib.inference import choose_thresholds
from livseg_lib.models import build_model
from livseg_lib.preprocessing import Recipe
from livseg_lib.runs import derived_seed
from livseg_lib.training.fit import fit
from livseg_lib.training.metrics import dice_metrics
from livseg_lib.training.model_folder import TrainedModel


@dataclass(frozen=True)
class TrainedSystem:
    """A model with its threshold, and the row an epoch of its training."""

    trained: TrainedModel
    history: pd.DataFrame


def train_network(
    plan: TrainingPlan,
    training_slices: pd.DataFrame,
    validation_slices: pd.DataFrame | None,
    folder: Path,
    checkpoints: Path,
    network: keras.Model | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train the plan's network on exactly these slices; resumes from `checkpoints`.

    `folder` holds their arrays. Returns the network of the best epoch (by validation loss; without
    validation slices by training loss) and a row an epoch. `network` may bring weights of its own; else
    it starts from random ones that depend on the root seed and the system's name alone.
    """
    training = plan.training_batches(training_slices, folder)
    validation = None if validation_slices is None else plan.validation_batches(validation_slices, folder)
    network = network or build_untrained(plan, training.input_shape)
    history = fit(
        network,
        training,
        validation,
        lambda: dice_metrics(plan.structures),
        plan.fit_settings,
        checkpoints,
        plan.description(),
    )
    return network, history


def build_untrained(plan: TrainingPlan, input_shape: tuple[int, int, int]) -> keras.Model:
    """The plan's network with random weights that other trainings before it do not change."""
    keras.utils.set_random_seed(derived_seed(plan.seed, plan.system, "weights"))
    return build_model(plan.architecture, input_shape, len(plan.structures), **plan.options)


def train_system(
    plan: TrainingPlan,
    slices: pd.DataFrame,
    folder: Path,
    checkpoints: Path,
    run_name: str,
    network: keras.Model | None = None,
) -> TrainedSystem:
    """Train on the run's training patients, choose thresholds on its validation patients.

    `slices` are the classified ones, with `split`; test patients are never looked at.
    """
    validation_slices = slices[slices.split == "validation"]
    chosen = plan.choose(slices[slices.split == "train"])
    checked = plan.choose(validation_slices, "validation")
    network, history = train_network(plan, chosen, checked, folder, checkpoints, network)
    checked_cases = validation_slices.case.unique()
    thresholds = choose_thresholds(network, plan.structures, checked_cases, folder, plan.inputs)
    trained = TrainedModel(
        system=plan.system,
        architecture=plan.architecture,
        options=plan.options,
        network=network,
        recipe=Recipe.of_case(folder / chosen.case.iloc[0]),
        target=plan.target,
        inputs=plan.inputs,
        thresholds=thresholds,
        training={"run": run_name, **training_facts(plan, chosen, history)},
    )
    return TrainedSystem(trained, history)


def training_facts(plan: TrainingPlan, chosen: pd.DataFrame, history: pd.DataFrame) -> dict:
    """What model.json says about a training: patients, slices, epochs, seconds, memory."""
    return {
        "n_train_patients": int(chosen.patient.nunique()),
        "n_slices": len(chosen),
        "batch_size": plan.batch_size,
        "slices_seen": len(history) * (plan.slices_per_epoch or len(chosen)),
        "epochs": len(history),
        "seconds": float(history.seconds.sum()),
        "peak_memory_mb": int(history.memory_mb.max()),
        "loss": plan.loss,
        "loss_options": plan.loss_options,
        "made_by": history.attrs["made_by"],
    }
