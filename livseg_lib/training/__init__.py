"""Losses, metrics, resumable fit, and the folder that a trained model lives in."""
