"""Colab and Kaggle: add what livseg needs and the platform lacks, and touch nothing that is there.

Packages are installed without their dependencies, so neither NumPy nor TensorFlow is ever replaced:
notebooks of a platform break when they are.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

NEEDED = {
    "nibabel": "nibabel",
    "isal": "isal",
    "jsonschema": "jsonschema",
    "pydicom": "pydicom",
    "filelock": "filelock",
    "safetensors": "safetensors",
    "cc3d": "connected-components-3d",
    "edt": "edt",
    "imgaug": "imgaug==0.4.0",
    "tqdm": "tqdm",
    "jinja2": "jinja2",
    "optuna": "optuna>=5,<6",
    "alembic": "alembic",
    "sqlalchemy": "sqlalchemy",
    "colorlog": "colorlog",
    "mako": "Mako",
    "papermill": "papermill>=2.7",
    "tenacity": "tenacity",
    "entrypoints": "entrypoints",
    "plotly": "plotly",
    "narwhals": "narwhals",
}
"""Module -> requirement, of those that a platform with NumPy, TensorFlow and OpenCV may lack."""


def missing_packages() -> list[str]:
    """Requirements whose module cannot be found."""
    return [requirement for module, requirement in NEEDED.items() if find_spec(module) is None]


def install_command(requirements: list[str]) -> list[str]:
    """The pip command for this Python; --no-deps keeps the platform's own packages as they are."""
    return [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *requirements]


def install_missing_packages() -> None:
    """Install what is missing; does nothing where everything is there."""
    missing = missing_packages()
    if missing:
        print("installing", *missing)
        subprocess.run(install_command(missing), check=True)
