"""Scores of any two label volumes; needs no network and no TensorFlow."""
