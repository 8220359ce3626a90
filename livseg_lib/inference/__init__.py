"""Model -> labels on the scan's own grid, and what they are worth on test patients."""

import livseg_lib.quiet_tensorflow  # noqa: F401 (before Keras imports it)
from livseg_lib.inference.evaluate import Evaluation, ScoredSystem, evaluate_labels, evaluate_system
from livseg_lib.inference.stored_slices import stored_labels, stored_pictures
from livseg_lib.inference.systems_rows import lits_rows, systems_rows
from livseg_lib.inference.thresholds import choose_thresholds
from livseg_lib.inference.volume import predict_volume

__all__ = [
    "Evaluation",
    "ScoredSystem",
    "choose_thresholds",
    "evaluate_labels",
    "evaluate_system",
    "lits_rows",
    "predict_volume",
    "stored_labels",
    "stored_pictures",
    "systems_rows",
]
