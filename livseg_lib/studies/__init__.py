"""Whole trainings by name, and the studies that compare them: what the notebooks past 05 are made of."""

from livseg_lib.processes import import_tensorflow_quietly

import_tensorflow_quietly()
