"""Scores of any two label volumes; needs no network and no TensorFlow."""

from importlib import import_module

FACE = {"detect_lesions": "lesions", "score_case": "cases"}
"""What programs of others import from here, and where it is found when they do."""


def __getattr__(name: str) -> object:
    if name in FACE:
        return getattr(import_module(f"{__name__}.{FACE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
