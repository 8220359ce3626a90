"""Losses, metrics, resumable fit, and the folder that a trained model lives in."""

import livseg_lib.quiet_tensorflow  # noqa: F401 (before Keras imports it)
