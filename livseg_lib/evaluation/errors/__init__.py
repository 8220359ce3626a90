"""Missed and invented tumours as objects, and what may explain them."""
