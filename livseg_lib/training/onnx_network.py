"""An exported network in use: ONNX Runtime answers in the place of Keras, sooner on a processor.

How much sooner is printed by `make bench`. A file may come from anyone, so only what our own exports consist
of is computed.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livseg_lib.errors import InputError

if TYPE_CHECKING:  # only named in signatures
    import onnx

FILE, INPUT, OUTPUT = "network.onnx", "pictures", "probabilities"
"""The file in a model folder, and the names in it."""

OPERATORS = {
    *("Add", "AveragePool", "Cast", "Concat", "Conv", "ConvTranspose", "Gather", "GlobalAveragePool"),
    *("GlobalMaxPool", "Identity", "MatMul", "MaxPool", "Mul", "Neg", "PRelu", "Pad", "ReduceMax"),
    *("ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "Squeeze"),
    *("Sub", "Tile", "Transpose", "Unsqueeze"),
}
"""Of the networks in our catalogues. None loops, branches, or reads a file."""
MOST_NUMBERS = 2**28
"""Between two operators, for one input: 1 GB. The largest of ours, 512 x 512 with 64 channels, has 2**24."""


class OnnxNetwork:
    """Stands in for the Keras network that was exported: prediction asks no more of it than this."""

    def __init__(
        self,
        content: bytes,
        parameters: int = 0,
        where: str | Path = FILE,
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """From the bytes of a file, so that one with its numbers in other files finds none of them.

        `parameters`: numbers in the weights. `weights`: Keras' own by their paths, for a graph that leaves
        its kernels to them. Raises InputError, naming `where` they are from, for bytes that are no network
        of ours.
        """
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would report each run to its makers
        import onnxruntime

        try:
            content = _with_kernels(content, weights or {})
            _require_ours(content, where)
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waits take a core
            self._session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        except InputError:
            raise
        except Exception as error:  # of protobuf, ONNX or ONNX Runtime, or of what they are written in
            raise _refusal(where, str(error)) from error
        (input_,), (output,) = self._session.get_inputs(), self._session.get_outputs()
        self.input_shape, self.output_shape = (None, *input_.shape[1:]), (None, *output.shape[1:])
        self._parameters, self._where = parameters, where

    def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs float32 (b, ...) in [0, 1] -> probabilities float32 (b, ...)."""
        try:
            return self._session.run([OUTPUT], {INPUT: inputs})[0]
        except Exception as error:
            raise _refusal(self._where, str(error)) from error

    def count_params(self) -> int:
        """Those of the network that was exported."""
        return self._parameters


def read_onnx_network(
    path: Path, sha256: str, parameters: int = 0, weights: Mapping[str, np.ndarray] | None = None
) -> OnnxNetwork:
    """The network in the file `path`, for the rest see `OnnxNetwork`.

    Raises InputError unless it is the one with that SHA-256.
    """
    try:
        if not path.is_file():  # pipes and devices have no end
            raise FileNotFoundError(2, "there is no such file")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise InputError(path, "is not the file that model.json describes.", "Export it again.")
        return OnnxNetwork(content, parameters, path, weights)
    except ImportError as error:
        remedy = 'Run: pip install "livseg[onnx]"'
        raise InputError(path, "needs ONNX and ONNX Runtime.", remedy) from error
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}).", "Export it again.") from error


def _refusal(where: str | Path, why: str) -> InputError:
    problem = f"is not a network that livseg exported ({why[:200]})."
    return InputError(where, problem, "Export it again, or copy its whole folder.")


def leave_out_kernels(model: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> None:
    """Take out of the graph the kernels that are among Keras' `weights`, and call them by their paths."""
    from onnx import TensorProto, numpy_helper

    paths = {_kernel(array).tobytes(): path for path, array in weights.items() if array.ndim > 2}
    stored = model.graph.initializer
    found = {tensor.name: paths.get(numpy_helper.to_array(tensor).tobytes()) for tensor in stored}
    for tensor in stored:
        if path := found[tensor.name]:
            tensor.CopyFrom(TensorProto(name=path, data_type=TensorProto.FLOAT))
    for node in model.graph.node:
        node.input[:] = [found.get(name) or name for name in node.input]


def _with_kernels(content: bytes, weights: Mapping[str, np.ndarray]) -> bytes:
    """What `leave_out_kernels` has taken out, put back."""
    import onnx

    if not weights:
        return content
    model = onnx.load_model_from_string(content)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(_kernel(weights[tensor.name]), tensor.name))
    return model.SerializeToString()


def _kernel(array: np.ndarray) -> np.ndarray:
    """A kernel of Keras, (..., inputs, outputs), as ONNX has it: float32 (outputs, inputs, ...)."""
    return np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1)), np.float32)


def _require_ours(content: bytes, where: str | Path) -> None:
    """Raise InputError unless the graph is sound, and consists of our operators, inputs and outputs alone."""
    import onnx

    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    stored, numbers = list(graph.initializer), map(onnx.numpy_helper.to_array, graph.initializer)
    values = (*graph.input, *graph.output, *graph.value_info)
    shapes = {value.name: value.type.tensor_type for value in values}
    ends = [shapes[name] for name in (INPUT, OUTPUT) if name in shapes]
    operators = {(node.domain, node.op_type) for node in graph.node}
    foreign = sorted(name for domain, name in operators if domain or name not in OPERATORS)
    fixed = [_sides(shape) for shape in shapes.values()]
    refusals = {
        f"it computes {', '.join(foreign)}": foreign or model.functions or graph.sparse_initializer,
        "its numbers lie in other files": any(each.external_data or each.data_location for each in stored),
        f"it does not go from {INPUT} to {OUTPUT}": (
            [value.name for value in graph.input] != [INPUT]
            or [value.name for value in graph.output] != [OUTPUT]
            or any(each.elem_type != onnx.TensorProto.FLOAT for each in ends)
            or any(len(_sides(each)) < 2 or min(_sides(each)[1:]) < 1 for each in ends)
        ),
        "it needs more memory than any of ours": any(
            math.prod(max(1, n) for n in s) > MOST_NUMBERS for s in fixed
        ),
        "it holds numbers that are not finite": not all(
            np.isfinite(each).all() for each in numbers if each.dtype.kind == "f"
        ),
    }
    for why, is_so in refusals.items():
        if is_so:
            raise _refusal(where, why)


def _sides(shape) -> list[int]:
    """Sizes along each axis; 0 where that is not fixed, as the number of inputs."""
    return [each.dim_value for each in shape.shape.dim]
