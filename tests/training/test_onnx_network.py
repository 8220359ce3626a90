"""Only what our exports consist of is computed; all else that calls itself ONNX is refused in words."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from livseg_lib.errors import InputError
from livseg_lib.training.onnx_network import INPUT, OUTPUT, OnnxNetwork, read_onnx_network

SHAPE = ["batch", 4, 4, 1]


def value(name: str, shape=SHAPE, kind: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def number(what: float, name: str = "half") -> TensorProto:
    return numpy_helper.from_array(np.array(what, np.float32), name)


def node(kind: str, taken: list[str], given: str = OUTPUT, **more):
    return helper.make_node(kind, taken, [given], **more)


def model(nodes=None, given=None, answered=None, stored=None, opsets=(("", 18),)) -> onnx.ModelProto:
    """One that multiplies pictures by a half, with changes."""
    nodes = nodes or [node("Mul", [INPUT, "half"])]
    stored = [number(0.5)] if stored is None else stored
    graph = helper.make_graph(nodes, "network", given or [value(INPUT)], answered or [value(OUTPUT)], stored)
    ids = [helper.make_opsetid(*each) for each in opsets]
    return helper.make_model(graph, opset_imports=ids, ir_version=10)


def read(tmp_path, content: bytes) -> OnnxNetwork:
    """With a checksum that fits."""
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    return read_onnx_network(path, hashlib.sha256(content).hexdigest())


def test_a_plain_network_answers(tmp_path):
    network = read(tmp_path, model().SerializeToString())
    pictures = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)
    np.testing.assert_array_equal(network.predict_on_batch(pictures), pictures / 2)
    assert network.input_shape == network.output_shape == (None, 4, 4, 1)


def test_nothing_is_kept_to_be_reported_to_anybody(tmp_path):
    (tmp_path / "network.onnx").write_bytes(model().SerializeToString())
    code = "import sys; from livseg_lib.training.onnx_network import OnnxNetwork as Network;"
    code += "Network(open(sys.argv[1], 'rb').read())"
    (tmp_path / "home").mkdir()
    environment = os.environ | {"HOME": str(tmp_path / "home"), "ORT_DISABLE_TELEMETRY": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "network.onnx")], check=True, env=environment)
    assert not [*(tmp_path / "home").rglob("*")]


def test_inputs_of_another_shape_are_told(tmp_path):
    with pytest.raises(InputError, match="Export it again"):
        read(tmp_path, model().SerializeToString()).predict_on_batch(np.zeros((1, 9, 9, 1), np.float32))


def loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", ["on"], "on_out")],
        "body",
        [value("i", [], TensorProto.INT64), value("on", [], TensorProto.BOOL)],
        [value("on_out", [], TensorProto.BOOL)],
    )
    for_ever = numpy_helper.from_array(np.array(2**62), "often")
    true = numpy_helper.from_array(np.array(True), "true")
    nodes = [helper.make_node("Loop", ["often", "true"], [], body=body), node("Mul", [INPUT, "half"])]
    return model(nodes, stored=[for_ever, true, number(0.5)])


def elsewhere() -> onnx.ModelProto:
    outside = number(0.5)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../etc/passwd")
    return model(stored=[outside])


def huge() -> onnx.ModelProto:
    often = numpy_helper.from_array(np.array([1, 10**5, 10**5, 1]), "often")
    nodes = [node("Tile", [INPUT, "often"], "large"), node("ReduceMax", ["large"], "one", keepdims=1)]
    return model([*nodes, node("Add", [INPUT, "one"])], stored=[often])


def cut_short() -> onnx.ModelProto:
    half = number(0.5)
    half.raw_data = half.raw_data[:3]
    return model(stored=[half])


DOUBLE = {"kind": TensorProto.DOUBLE}
EVIL = {"stored": [], "opsets": (("", 18), ("com.evil", 1))}
FOREIGN = {
    "loop": loop,
    "numbers in another file": elsewhere,
    "huge": huge,
    "not a number": lambda: model(stored=[number(np.nan)]),
    "numbers cut short": cut_short,
    "custom operator": lambda: model([node("Evil", [INPUT], domain="com.evil")], **EVIL),
    "other input": lambda: model([node("Mul", ["image", "half"])], given=[value("image")]),
    "other output": lambda: model([node("Mul", [INPUT, "half"], "mask")], answered=[value("mask")]),
    "two inputs": lambda: model(given=[value(INPUT), value("more")]),
    "two outputs": lambda: model(answered=[value(OUTPUT), value(OUTPUT)]),
    "input of unknown size": lambda: model(given=[value(INPUT, ["batch", "h", "w", 1])]),
    "input that is no picture": lambda: model(given=[value(INPUT, [])], answered=[value(OUTPUT, [])]),
    "double numbers": lambda: model(given=[value(INPUT, **DOUBLE)], answered=[value(OUTPUT, **DOUBLE)]),
    "unknown operator": lambda: model([node("Nothing", [INPUT])]),
    "edge from nowhere": lambda: model([node("Mul", [INPUT, "nowhere"])]),
    "graph without nodes": lambda: model([node("Identity", [INPUT])], answered=[value("x")]),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_foreign_networks_are_refused_though_their_checksum_fits(tmp_path, make):
    with pytest.raises(InputError, match="not a network that livseg exported"):
        read(tmp_path, make().SerializeToString())


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 1000, b"\xff" * 1000, b"PK\x03\x04" * 50])
def test_other_bytes_are_refused(tmp_path, content):
    with pytest.raises(InputError, match="not a network that livseg exported"):
        read(tmp_path, content)


def test_no_damage_ends_in_anything_but_a_refusal(tmp_path):
    whole = model().SerializeToString()
    for place in range(len(whole)):
        damaged = bytes([*whole[:place], whole[place] ^ 0x55, *whole[place + 1 :]])
        for content in (damaged, whole[:place]):
            try:
                read(tmp_path, content)
            except InputError as error:
                assert "not a network that livseg exported" in str(error)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "network.onnx").symlink_to("/dev/zero")
    for path in (tmp_path / "network.onnx", tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(InputError, match="Export it again"):
            read_onnx_network(path, "0" * 64)
