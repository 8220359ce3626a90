"""Whole trainings by name, and the studies that compare them: what the notebooks past 05 are made of."""
