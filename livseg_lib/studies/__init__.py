"""Whole trainings by name, and the studies that compare them: what the notebooks past 05 are made of."""

from livseg_lib.backend import import_backend

import_backend()
