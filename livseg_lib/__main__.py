"""`python -m livseg_lib` is the command `livseg`."""

import sys

from livseg_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
