"""Scores of any two label volumes; needs no network and no TensorFlow."""

from livseg_lib.evaluation.case_scores import score_case
from livseg_lib.evaluation.detection import detect_lesions
from livseg_lib.evaluation.slice_scores import summarize_slices

__all__ = ["detect_lesions", "score_case", "summarize_slices"]
