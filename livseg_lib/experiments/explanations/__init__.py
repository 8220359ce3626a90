"""Saliency and uncertainty maps of trained networks, and what they are worth."""
