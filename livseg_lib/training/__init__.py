"""Losses, metrics, resumable fit, and the folder that a trained model lives in."""

from livseg_lib.processes import import_tensorflow_quietly

import_tensorflow_quietly()
