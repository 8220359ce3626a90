"""What a training left is gone on from only where it is whole; else it is trained anew, and that is said."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from livseg_lib.errors import InputError
from livseg_lib.training.checkpoint import Checkpoint
from livseg_lib.training.weights import assign_arrays, load_arrays, save_variables

MADE_BY = {"settings": {"rate": 1}}


def toy() -> keras.Model:
    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="toy")
    network.compile(keras.optimizers.Adam(0.1, name="adam"), "mse")
    return network


def go_on(folder: Path, network: keras.Model, epochs: int = 0, stage: int = 0) -> Checkpoint:
    """The checkpoint after so many more epochs."""
    checkpoint = Checkpoint(folder, "loss", MADE_BY)
    checkpoint.set_model(network)
    checkpoint.begin_stage(stage, network, [])
    for _ in range(epochs):
        epoch = checkpoint.epochs_done
        checkpoint.on_epoch_begin(epoch)
        network.train_on_batch(np.full((1, 2), epoch + 1.0), np.ones((1, 1)))
        checkpoint.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1)})
    return checkpoint


def test_a_training_goes_on_where_it_was(tmp_path):
    unbroken, broken = toy(), toy()
    go_on(tmp_path / "a", unbroken, 3)
    go_on(tmp_path / "b", broken, 2)
    again = toy()
    checkpoint = go_on(tmp_path / "b", again, 1)
    assert "goes on from epoch 2" in checkpoint.state and checkpoint.epochs_done == 3
    for name in ("last", "best"):
        one, other = (load_file(tmp_path / run / f"{name}.safetensors") for run in "ab")
        assert one.keys() == other.keys()
        for path, array in one.items():
            np.testing.assert_array_equal(array, other[path], err_msg=path)


def test_the_next_stage_takes_the_weights_alone(tmp_path):
    first = toy()
    go_on(tmp_path, first, 2)
    second = toy()
    go_on(tmp_path, second, stage=1)
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])
    assert int(second.optimizer.iterations) == 0


def test_a_kill_between_the_two_files_is_no_damage(tmp_path):
    network = toy()
    go_on(tmp_path, network, 2)
    save_variables(tmp_path / "best.safetensors", network.weights, {"epoch": 3})
    assert "goes on from epoch 2" in Checkpoint(tmp_path, "loss", MADE_BY).state


def of_another_network(folder):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    save_variables(folder / "best.safetensors", other.weights, {"epoch": 1})


def record_of(change):
    def spoil(folder):
        path = folder / "last.safetensors"
        with safe_open(path, framework="numpy") as file:
            record = json.loads(file.metadata()["record"])
        change(record)
        save_file(load_file(path), path, metadata={"record": json.dumps(record)})

    return spoil


def bytes_of(name, change):
    def spoil(folder):
        path = folder / f"{name}.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return spoil


DAMAGE = {
    "last cut": bytes_of("last", lambda content: content[:100]),
    "last empty": bytes_of("last", lambda content: b""),
    "best cut": bytes_of("best", lambda content: content[:-1]),
    "a bit of a weight": bytes_of("last", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "best missing": lambda folder: (folder / "best.safetensors").unlink(),
    "best of another": of_another_network,
    "unknown key": record_of(lambda record: record.update(surprise=1)),
    "record is empty": record_of(lambda record: record.clear()),
    "a text for a number": record_of(lambda record: record.update(stage="0")),
    "a stage too far": record_of(lambda record: record.update(stage=1)),
    "a row too few": record_of(lambda record: record["history"].pop()),
    "seeds of no layer": record_of(lambda record: record.update(seeds=[[1, 2]])),
}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
def test_what_is_not_whole_is_trained_anew_and_that_is_said(tmp_path, spoil):
    go_on(tmp_path, toy(), 2)
    spoil(tmp_path)
    checkpoint = Checkpoint(tmp_path, "loss", MADE_BY)
    assert "trained anew" in checkpoint.state and "cannot be used" in checkpoint.state
    assert checkpoint.epochs_done == 0 and not list(tmp_path.glob("*.safetensors"))
    assert go_on(tmp_path, toy(), 1).epochs_done == 1


def test_arrays_go_to_variables_of_their_shape_and_type_and_none_is_left_over(tmp_path):
    network = toy()
    save_variables(tmp_path / "weights.safetensors", network.weights, {"what": [1, None]})
    arrays, record = load_arrays(tmp_path / "weights.safetensors")
    assert record == {"what": [1, None]} and set(arrays) == {each.path for each in network.weights}
    name = next(iter(arrays))
    for changed in (
        {name: arrays[name]},
        {**arrays, "more": arrays[name]},
        {**arrays, name: arrays[name][..., np.newaxis]},
        {**arrays, name: arrays[name].astype(np.float16)},
        {**arrays, name: np.full_like(arrays[name], np.nan)},
    ):
        with pytest.raises(InputError, match=r"another network's weights|not finite"):
            assign_arrays(network.weights, changed, tmp_path)
    assign_arrays(network.weights, {**arrays, name: arrays[name] + 1}, tmp_path)
    changed = {each.path: np.array(each) for each in network.weights}
    np.testing.assert_array_equal(changed[name], arrays[name] + 1)
