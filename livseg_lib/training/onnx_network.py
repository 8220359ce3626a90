"""An exported network in use: ONNX Runtime answers in the place of Keras, sooner on a processor.

How much sooner is printed by `make bench`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from livseg_lib.errors import InputError

FILE, INPUT, OUTPUT = "network.onnx", "pictures", "probabilities"
"""The file in a model folder, and the names in it."""


class OnnxNetwork:
    """Stands in for the Keras network that was exported: prediction asks no more of it than this."""

    def __init__(self, content: bytes, parameters: int = 0) -> None:
        """From the bytes of a file, so that one with its numbers in other files finds none of them.

        `parameters`: numbers in the weights.
        """
        import onnxruntime

        self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (given,), (answered,) = self._session.get_inputs(), self._session.get_outputs()
        self.input_shape, self.output_shape = (None, *given.shape[1:]), (None, *answered.shape[1:])
        self._parameters = parameters

    def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs float32 (b, ...) in [0, 1] -> probabilities float32 (b, ...)."""
        return self._session.run([OUTPUT], {INPUT: inputs})[0]

    def count_params(self) -> int:
        """Those of the network that was exported."""
        return self._parameters


def read_onnx_network(path: Path, sha256: str, parameters: int = 0) -> OnnxNetwork:
    """The network in the file `path`. Raises InputError unless it is the one with that SHA-256."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise InputError(path, "is not the file that model.json describes.", "Export it anew.")
        return OnnxNetwork(content, parameters)
    except ImportError as error:
        raise InputError(path, "needs ONNX Runtime.", "Run: pip install onnxruntime") from error
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}).", "Export it anew.") from error
