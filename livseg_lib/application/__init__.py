"""A trained system used on new patients: what the command line, the app and HTTP share."""

from livseg_lib.application.batch import predict_batch
from livseg_lib.application.inputs import Reading, find_inputs
from livseg_lib.application.patient import PatientResult, predict_case
from livseg_lib.application.predictor import Predictor, load_predictor
from livseg_lib.application.results import write_result
from livseg_lib.application.scan import PatientInput, Scan

__all__ = [
    "PatientInput",
    "PatientResult",
    "Predictor",
    "Reading",
    "Scan",
    "find_inputs",
    "load_predictor",
    "predict_batch",
    "predict_case",
    "write_result",
]
