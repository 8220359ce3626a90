"""Chance: intervals, paired tests, agreement and groups, always over patients."""
