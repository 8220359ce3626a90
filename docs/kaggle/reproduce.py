"""Run by `kaggle kernels push`: the repository is copied to where results may be written, then reproduced."""

import shutil
import subprocess
import sys
from pathlib import Path

library = next(Path("/kaggle/input").rglob("livseg_lib/runs.py")).parent
shutil.copytree(library.parent, "/kaggle/working/livseg", dirs_exist_ok=True)
command = [sys.executable, "-m", "livseg_lib", "reproduce", *sys.argv[1:]]
sys.exit(subprocess.run(command, cwd="/kaggle/working/livseg").returncode)
