"""Whole trainings by name, and the studies that compare them: what the notebooks past 05 are made of."""

import livseg_lib.quiet_tensorflow  # noqa: F401 (before Keras imports it)
from livseg_lib.experiments.plan import TrainingPlan
from livseg_lib.experiments.records import record_evaluations
from livseg_lib.experiments.train_system import TrainedSystem, build_untrained, train_network, train_system

__all__ = [
    "TrainedSystem",
    "TrainingPlan",
    "build_untrained",
    "record_evaluations",
    "train_network",
    "train_system",
]
