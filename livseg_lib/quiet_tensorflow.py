"""Imports TensorFlow without the pages that its C++ side prints about processors and missing GPUs.

They come before any logging setting takes hold, straight to file descriptor 2, and would stand in
every executed notebook. So would its warning about retracing, which takes several networks that are
asked in turn for one that is compiled again and again. Python errors still show. Does nothing for other
Keras backends.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_stderr() -> Iterator[None]:
    """What anybody writes to file descriptor 2 inside the block is thrown away, C++ included."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def import_quietly() -> None:
    """Import TensorFlow and make it look for GPUs now, with its chatter thrown away."""
    if "tensorflow" in sys.modules or os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_stderr():
        import tensorflow

        tensorflow.config.list_logical_devices()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


import_quietly()
