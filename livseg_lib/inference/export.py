"""Trained networks as SavedModel and ONNX, for programs without livseg, each compared with Keras first.

model.json, export.json            how to use them; which files there are, and how far they are from Keras
network.onnx, savedmodel/          of a single network
coarse_liver/, residual_25d/ ...   a folder as that for each network of a cascade; forests as they are

With network.onnx such a folder is a model folder itself, for `livseg predict` as for any other.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livseg_lib import WARNING
from livseg_lib.backend import backend_name, require_tensorflow
from livseg_lib.errors import InputError
from livseg_lib.files import file_checksum, folder_written_aside, write_atomically, write_json, written_aside
from livseg_lib.inference.cascade import LEARNT, read_plans
from livseg_lib.inference.predict import stream_blocks
from livseg_lib.postprocessing.superpixels import candidate_patches, dark_superpixels
from livseg_lib.preprocessing.geometry import cover_blocks, working_grid
from livseg_lib.preprocessing.recipe import prepare_labels, prepare_slices, with_masks
from livseg_lib.processes import silent_stderr
from livseg_lib.provenance import read_description
from livseg_lib.systems import StepPlan
from livseg_lib.training import model_folder
from livseg_lib.training.onnx_network import FILE as ONNX_FILE
from livseg_lib.training.onnx_network import INPUT, OUTPUT, OnnxNetwork, leave_out_kernels
from livseg_lib.volumes import Volume

if TYPE_CHECKING:  # only named in signatures
    import keras

    from livseg_lib.models import Build

Trained = model_folder.TrainedModel | model_folder.TrainedSorter | model_folder.TrainedClassifier


def sample_inputs(trained: Trained, volume: Volume, most: int = 16) -> np.ndarray:
    """Up to `most` inputs of `trained.network`, float32 in [0, 1] (n, *its input), spread over the scan.

    They are made by the model's own recipe. A network that wants the liver is given a box in the middle of
    the scan as one: what it answers is then no finding, but the arithmetic is that of real slices. Raises
    InputError where the scan gives none.
    """
    liver = np.zeros(volume.voxels.shape, bool)
    liver[tuple(slice(side // 3, max(side // 3 + 1, 2 * side // 3)) for side in liver.shape)] = True
    if isinstance(trained, model_folder.TrainedClassifier):
        candidates = dark_superpixels(volume, liver, trained.candidates)
        rows = _spread(len(candidates.table), most)
        patches = candidate_patches(volume, liver, candidates, rows, trained.patch)
        pictures = [with_masks(greys, labels) for greys, labels in patches]
    else:
        pictures = list(_pictures(trained, volume, liver, most))
    if not pictures:
        raise InputError("scan", "shows this network nothing.", "Give a whole abdominal scan.")
    return np.stack(pictures).astype(np.float32) / np.float32(255.0)


def _pictures(trained: Trained, volume: Volume, liver: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Slices, or blocks of slices for a network of blocks."""
    recipe = trained.recipe
    (depth, *_), _ = working_grid(volume.voxels.shape, volume.spacing_mm, recipe.voxel_size_mm)
    pictures = prepare_slices(volume, recipe)
    if isinstance(trained, model_folder.TrainedModel):
        shown = prepare_labels(liver.view(np.uint8), volume.spacing_mm, recipe) > 0
        pictures = trained.inputs.compose(pictures, shown)
    if len(trained.network.input_shape) == 5:
        block_slices = trained.network.input_shape[1]
        starts = cover_blocks(depth, block_slices, overlap=0)
        starts = [starts[index] for index in _spread(len(starts), max(1, most // block_slices))]
        return (block for _, block in stream_blocks(pictures, starts, depth, block_slices))
    chosen = set(_spread(depth, most))
    return (picture for index, picture in enumerate(pictures) if index in chosen)


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers 0 .. count - 1, evenly."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())) if count else []


FORMATS = ("savedmodel", "onnx")
OPSET = 18  # of ONNX, 2022: the newest that the converter is tested with; ONNX Runtime reads all older ones
MOST_APART = 1e-4
"""Of two probabilities: a fortieth of the step at which `predict_planes` keeps them, 1 / 255."""
_BATCH = 5
"""Inputs at once in the comparison; Keras is asked one by one, so that batches of any size are proven."""


@dataclass(frozen=True)
class Exported:
    """One file or folder of a network, and how far its answers are from those of Keras."""

    path: Path
    n_inputs: int
    most_apart: float
    """Largest absolute difference of two probabilities over those inputs; NaN if one was not finite."""

    @property
    def agrees(self) -> bool:
        """Whether the difference is one that nobody will notice (NaN never is)."""
        return self.most_apart <= MOST_APART


def export_system(
    folder: Path, out: Path, volume: Volume, formats: Sequence[str] = FORMATS
) -> list[Exported]:
    """Export the model in `folder`, a single network or a cascade, and compare each file on `volume`.

    export.json is written last, and only where all files agree with Keras: a folder with one is whole.
    Raises InputError where the folder is no model, where `out` holds a model that was not exported, or where
    the scan shows a network nothing.
    """
    description = _description(folder)
    if (out / "model.json").exists() and not (out / "export.json").exists():
        raise InputError(out, "holds a model that was not exported.", "Choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("export.json", "model.json"):
        (out / name).unlink(missing_ok=True)
    plans = read_plans(folder, description) if "steps" in description else []
    names = dict.fromkeys(plan.using for plan in plans if _is_network(folder, plan)) if plans else ["."]
    exported, records = [], []
    for name in names:
        trained = load_network(folder / name)
        files = export_network(trained, out / name, volume, formats)
        records.append(_record(name, trained, files, out))
        exported += files
    if not all(each.agrees for each in exported):
        return exported
    for name in dict.fromkeys((*names, ".")):
        own = _description(folder / name)
        own.pop(model_folder.ONNX_SHA256, None)
        if "onnx" in formats and name in names:  # it stands for the weights
            own[model_folder.ONNX_SHA256] = file_checksum(out / name / ONNX_FILE)
        write_json(out / name / "model.json", own)
    for forest in {plan.using for plan in plans if plan.part == "forest"}:
        shutil.copytree(folder / forest, out / forest, dirs_exist_ok=True)
    everything = {"format": 1, "warning": WARNING, "system": description.get("system", folder.name)}
    left_out = [asdict(plan) for plan in plans if not _is_network(folder, plan)]
    everything |= {"opset": OPSET, "networks": records, "not_exported": left_out}
    write_json(out / "export.json", everything)
    return exported


def export_network(
    trained: Trained, out: Path, volume: Volume, formats: Sequence[str] = FORMATS
) -> list[Exported]:
    """Write `trained.network` into the folder `out` in each of `formats` and compare its answers. Raises
    InputError where Keras does not compute with TensorFlow, whose graphs are what is written."""
    inputs = sample_inputs(trained, volume)
    expected = np.concatenate([trained.network.predict_on_batch(item[np.newaxis]) for item in inputs])
    exported = []
    for write, load in (WRITERS[name] for name in formats):
        path = write(trained.network, out)
        predict = load(path)
        answered = np.concatenate([predict(inputs[i : i + _BATCH]) for i in range(0, len(inputs), _BATCH)])
        exported.append(Exported(path, len(inputs), float(np.abs(answered - expected).max())))
    return exported


def load_network(folder: Path, build: Build | None = None) -> Trained:
    """The model of one network in `folder`: for segmentation, a slice sorter or a classifier. `build` is that
    of `load_model`."""
    description = _description(folder)
    if model_folder.ONNX_SHA256 in description and not (folder / "weights.safetensors").is_file():
        raise InputError(folder, "is exported already.", "Name the folder that it was exported from.")
    for key, load in (("regions", model_folder.load_sorter), ("kinds", model_folder.load_classifier)):
        if key in description:
            return load(folder, with_keras=True)
    return model_folder.load_model(folder, build=build, with_keras=True)


def add_graph(folder: Path, build: Build | None = None) -> Path:
    """Give the model of one network in `folder` a network.onnx, so that its use waits for no Keras.

    It takes some kilobytes: its kernels are left to weights.safetensors. A network that no catalogue builds
    but `build` is then used without that function.
    """
    import onnx

    network = load_network(folder, build).network
    path = write_onnx(network, folder)
    model = onnx.load(path)
    leave_out_kernels(model, {weight.path: np.array(weight) for weight in network.weights})
    write_atomically(path, model.SerializeToString(deterministic=True))
    write_json(folder / "model.json", _description(folder) | {model_folder.ONNX_SHA256: file_checksum(path)})
    return path


def add_own_graph(folder: Path, build: Build) -> None:
    """`add_graph` for a network of one's own, by which all else uses it, if it can be made."""
    if backend_name() == "tensorflow":
        with suppress(ImportError):  # no tf2onnx
            add_graph(folder, build)


def write_onnx(network: keras.Model, folder: Path) -> Path:
    """`folder`/network.onnx: any number of inputs at once, "pictures" -> "probabilities", sigmoid inside."""
    require_tensorflow("an export")
    import keras
    import onnx

    path = folder / ONNX_FILE
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    with written_aside(path) as partial, silent_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras' own look for np.object
        signature = [keras.InputSpec(shape=(None, *network.input_shape[1:]), dtype="float32", name=INPUT)]
        network.export(
            str(partial), format="onnx", verbose=False, input_signature=signature, opset_version=OPSET
        )
        model = onnx.load(partial)
        _name_plainly(model.graph)
        onnx.helper.set_model_props(model, {"warning": WARNING})
        onnx.checker.check_model(model, full_check=True)
        partial.write_bytes(model.SerializeToString(deterministic=True))
    return path


def write_savedmodel(network: keras.Model, folder: Path) -> Path:
    """`folder`/savedmodel: TensorFlow's own format, with one endpoint, "serve". Keras' own export lists
    variables in an order that is another one in each process."""
    require_tensorflow("an export")
    import tensorflow as tf

    signature = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name=network.inputs[0].name)
    module = tf.Module()
    module.variables_in_order = [variable.value for variable in network.weights]
    module.serve = tf.function(
        lambda inputs: network(inputs, training=False), input_signature=[signature], autograph=False
    )
    endpoints = {"serve": module.serve, "serving_default": module.serve}
    with folder_written_aside(folder / "savedmodel") as partial, silent_stderr():
        tf.saved_model.save(module, str(partial), signatures=endpoints)
        (partial / "fingerprint.pb").unlink()  # holds a random number
    return folder / "savedmodel"


def read_savedmodel(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The endpoint of a SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda inputs: np.asarray(loaded.serve(inputs))


WRITERS = {
    "savedmodel": (write_savedmodel, read_savedmodel),
    "onnx": (write_onnx, lambda path: OnnxNetwork(path.read_bytes()).predict_on_batch),
}
"""Format -> what writes it into a folder; what computes with it, inputs float32 (b, ...) to answers."""


def _name_plainly(graph) -> None:
    """Plain names for all there is, in the order in which the output needs it.

    The converter's names and their order come from counters and hashes of the process: the same network
    would be another file each time.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    names, nodes, tensors = {"": "", graph.input[0].name: INPUT}, [], []
    waiting = [graph.output[0].name]
    while waiting:
        name = waiting[-1]
        if name in names:
            waiting.pop()
        elif name in stored:
            names[name] = f"weights_{len(tensors)}"
            tensors.append(stored[name])
        elif missing := [each for each in made_by[name].input if each not in names]:
            waiting += reversed(missing)
        else:
            node = made_by[name]
            node.name = f"{node.op_type}_{len(nodes)}"
            names |= {each: f"{node.name}_{k}" for k, each in enumerate(node.output) if each}
            nodes.append(node)
    names[graph.output[0].name] = OUTPUT
    for node in nodes:
        node.input[:], node.output[:] = ([names[each] for each in side] for side in (node.input, node.output))
    for tensor in tensors:
        tensor.name = names[tensor.name]
    for field, ordered in ((graph.node, nodes), (graph.initializer, tensors), (graph.value_info, [])):
        copies = [type(each).FromString(each.SerializeToString()) for each in ordered]
        del field[:]
        field.extend(copies)
    graph.name, graph.doc_string = "network", ""
    for value, name in ((graph.input[0], INPUT), (graph.output[0], OUTPUT)):
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _description(folder: Path) -> dict:
    return read_description(folder / "model.json", "a livseg model", "Name a model's folder.")


def _is_network(folder: Path, plan: StepPlan) -> bool:
    return plan.part in LEARNT and (folder / plan.using / "model.json").is_file()


def _record(name: str, trained: Trained, exports: Sequence[Exported], out: Path) -> dict:
    """What a program needs to know of one network beside its model.json."""
    windows = trained.recipe.windows if hasattr(trained, "recipe") else ()
    files = []
    for each in exports:
        files += sorted(file for file in each.path.rglob("*") if file.is_file()) or [each.path]
    return {
        "folder": name,
        "input": {"name": INPUT, "shape": ["batch", *trained.network.input_shape[1:]], "type": "float32"},
        "input_scale": "grey levels 0 to 255, divided by 255",
        "windows_hu": {name: [lower, upper] for name, lower, upper in windows if lower is not None},
        "output": {"name": OUTPUT, "shape": ["batch", *trained.network.output_shape[1:]], "type": "float32"},
        "largest_difference": {str(each.path.relative_to(out)): each.most_apart for each in exports},
        "compared_inputs": exports[0].n_inputs,
        "sha256": {str(file.relative_to(out)): file_checksum(file) for file in files},
    }
