"""Reporting draws and writes: it needs no network."""

from __future__ import annotations

import subprocess
import sys


def test_reporting_imports_without_tensorflow():
    code = (
        "import sys, livseg_lib.reporting\n"
        "heavy = [m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'keras', 'torch', 'jax')]\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
