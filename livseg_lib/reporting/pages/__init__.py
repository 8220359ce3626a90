"""Whole HTML pages: the report, a page a patient, model and data cards, and what they are made of."""
