"""Each step looks where the last one pointed; a cascade on disk is the one that was saved."""

import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from solids import ball, dice

from livseg_lib.errors import InputError
from livseg_lib.inference import cascade as module
from livseg_lib.models import build_model
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.superpixels import CandidateRecipe, PatchRecipe
from livseg_lib.preprocessing.recipe import OWN_PICTURE, NetworkInput, Recipe
from livseg_lib.systems import StepPlan
from livseg_lib.training.model_folder import TrainedClassifier, TrainedModel, save_model
from livseg_lib.volumes import Volume

SPACING = (5.0, 1.0, 1.0)
LIVER_HU, TUMOR_HU = 100, 60


def scan(start=(2, 20, 30), stop=(6, 60, 80), shape=(9, 80, 100)) -> tuple[Volume, np.ndarray]:
    """A block of liver with a tumour at its first corner, not the same along any axis."""
    labels = np.zeros(shape, np.uint8)
    labels[tuple(map(slice, start, stop))] = 1
    labels[start[0], start[1] : start[1] + 12, start[2] : start[2] + 9] = 2
    hu = np.array([-100, LIVER_HU, TUMOR_HU], np.int16)[labels]
    return Volume(hu, SPACING), labels


def coarse(volume: Volume, labels: np.ndarray) -> np.ndarray:
    return (volume.voxels == LIVER_HU).astype(np.uint8)


def fine(volume: Volume, labels: np.ndarray) -> np.ndarray:
    return np.select([volume.voxels == TUMOR_HU, volume.voxels == LIVER_HU], [2, 1], 0).astype(np.uint8)


def steps(margin_mm: float = 5.0, region: str = "box") -> tuple[module.Step, ...]:
    return module.Step("coarse liver", coarse), module.Step("fine", fine, region, margin_mm)


PLACES = {
    "middle": ((2, 20, 30), (6, 60, 80)),
    "at the border": ((0, 0, 50), (9, 40, 100)),
    "a single slice of it": ((4, 20, 30), (5, 60, 80)),
    "a scan of one slice": ((0, 20, 30), (1, 60, 80), (1, 80, 100)),
}


@pytest.mark.parametrize("region", ["box", "slices"])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_found_in_the_region_lies_where_it_was(place, region):
    volume, truth = scan(*PLACES[place])
    first, last = module.stages(volume, steps(region=region))
    assert first[0].name == "coarse liver" and (first[1] == (truth == 1)).all()
    cascade = module.Cascade("two_steps", ("liver", "tumor"), steps(region=region), parameters=5)
    for labels in (last[1], cascade.predict(None, volume)):
        np.testing.assert_array_equal(labels, truth)


def test_later_steps_see_their_region_alone():
    seen = []

    def watch(volume: Volume, labels: np.ndarray) -> np.ndarray:
        seen.append((volume.voxels.shape, labels.shape, int(labels.sum())))
        return labels

    volume, _ = scan()
    module.run_cascade(volume, (module.Step("coarse", coarse), module.Step("watch", watch, "box", 5.0)))
    assert seen == [((6, 50, 60), (6, 50, 60), 4 * 40 * 50 - 12 * 9)]


def test_an_empty_liver_ends_in_an_empty_mask():
    def fails(volume: Volume, labels: np.ndarray) -> np.ndarray:
        raise AssertionError("there is no region to look at")

    nothing = Volume(np.full((5, 40, 30), -100, np.int16), SPACING)
    cascade = (module.Step("coarse", coarse), module.Step("fine", fails, "box", 5.0))
    assert not module.run_cascade(nothing, cascade).any()
    assert [step.name for step, _ in module.stages(nothing, cascade)] == ["coarse"]


def test_a_liver_that_is_known_stands_and_tumours_are_looked_for_inside_it():
    volume, truth = scan()
    half = truth > 0
    half[4:] = False
    labels = module.run_cascade(volume, steps(), half)
    np.testing.assert_array_equal(labels, np.where(half, truth, 0))
    assert not module.run_cascade(volume, steps()[1:], np.zeros(truth.shape, bool)).any()
    volume, truth = grey_scan()
    half = (truth > 0) & (np.arange(len(truth)) < 2)[:, None, None]
    single = network("liver", [100.0], -20.0)
    np.testing.assert_array_equal(module.outline(single, volume, half), half.astype(np.uint8))


def network(target: str, weights: list[float], bias: float, inputs=OWN_PICTURE) -> TrainedModel:
    """One 1 x 1 convolution over the channels, steep enough to be a threshold."""
    picture = keras.Input((128, 128, len(weights)))
    maps = layers.Conv2D(1, 1, activation="sigmoid", name="probabilities")
    model = keras.Model(picture, maps(picture))
    maps.set_weights([np.reshape(weights, (1, 1, -1, 1)).astype(np.float32), np.array([bias], np.float32)])
    recipe = Recipe(windows=("stored",))
    return TrainedModel("seer", "unet", {}, model, recipe, target, {target: 0.5}, inputs=inputs)


def grey_scan() -> tuple[Volume, np.ndarray]:
    _, labels = scan((1, 16, 32), (3, 80, 112), (4, 128, 128))
    return Volume(np.array([0, 200, 100], np.int16)[labels], SPACING), labels


def test_a_network_of_livers_replaces_what_was_found_and_one_of_tumours_adds_to_it():
    volume, truth = grey_scan()
    part = module.NetworkPart(network("liver", [100.0], -20.0))
    np.testing.assert_array_equal(part(volume, np.full_like(truth, 2)), (truth > 0).astype(np.uint8))
    dark = network("tumor", [-100.0, 60.0], 0.0, NetworkInput(sees_liver=True))  # dark where the liver is
    part = module.NetworkPart(dark)
    np.testing.assert_array_equal(part(volume, (truth > 0).astype(np.uint8)), truth)
    assert not part(volume, np.zeros_like(truth)).any()


def test_variants_of_a_picture_are_asked_of_every_network_of_a_cascade():
    volume, truth = grey_scan()
    step = module.Step("liver", module.NetworkPart(network("liver", [100.0], -20.0)))
    cascade = module.Cascade("one", ("liver",), (step,), parameters=2)
    several = module.augmented(cascade, ["shift"])
    np.testing.assert_array_equal(module.outline(several, volume) > 0, truth > 0)
    assert several.steps[0].part.trained.network.names == ("shift",)
    with pytest.raises(InputError, match="not a way to vary"):
        module.augmented(cascade, ["upside_down"])


OPTIONS = {"filters": 2, "levels": 2}
RECIPE = Recipe(windows=("liver",), size=32)
PLANS = (
    StepPlan("coarse liver", "network", "coarse"),
    StepPlan("largest piece", "finish", "keep_largest_liver"),
    StepPlan("tumours", "network", "fine", "box", 10.0),
    StepPlan("contour", "contour", "3", "box", 10.0),
)


def save_network(folder, target: str, inputs: NetworkInput, threshold: float) -> None:
    keras.utils.set_random_seed(3)
    network = build_model("unet", (32, 32, inputs.channels(1)), 1, **OPTIONS)
    trained = TrainedModel(folder.name, "unet", OPTIONS, network, RECIPE, target, {target: threshold})
    save_model(replace(trained, inputs=inputs), folder)


@pytest.fixture
def saved(tmp_path):
    sources = {name: tmp_path / "parts" / name for name in ("coarse", "fine")}
    save_network(sources["coarse"], "liver", NetworkInput(), 0.04)
    save_network(sources["fine"], "tumor", NetworkInput(neighbours=1, sees_liver=True), 0.05)
    return module.save_cascade(tmp_path / "cascade", "two", PLANS, sources, {"n_train_patients": 3})


def volume() -> Volume:
    hu = np.random.default_rng(0).integers(-50, 150, (4, 40, 32)).astype(np.int16)
    return Volume(hu, (5.0, 2.0, 2.0))


def test_a_cascade_stands_by_itself_and_answers_as_before(saved, tmp_path):
    before = module.run_cascade(volume(), module.load_cascade(saved).steps)
    moved = saved.rename(tmp_path / "elsewhere")
    (tmp_path / "parts").rename(tmp_path / "gone")
    cascade = module.load_cascade(moved)
    np.testing.assert_array_equal(module.run_cascade(volume(), cascade.steps), before)
    assert before.any() and cascade.system == "two" and cascade.training["n_train_patients"] == 3
    assert [step.name for step in cascade.steps] == [plan.name for plan in PLANS]
    of_parts = [json.loads((moved / name / "model.json").read_text()) for name in ("coarse", "fine")]
    assert cascade.parameters == sum(part["parameters"] for part in of_parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "pickle"}, "not a part of cascades"),
        ({"using": "../../coarse"}, "not the name of a folder"),
        ({"surprise": 1}, "not a livseg cascade"),
    ],
)
def test_steps_that_are_none_are_refused(saved, change, message):
    description = json.loads((saved / "model.json").read_text())
    description["steps"][0] |= change
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=message):
        module.load_cascade(saved)


def test_a_folder_that_is_not_whole_is_refused(saved, tmp_path):
    (saved / "fine" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match=r"not the file that model\.json describes"):
        module.load_cascade(saved)
    with pytest.raises(InputError, match="not a livseg cascade"):
        module.load_cascade(tmp_path)


OWN = (StepPlan("largest piece", "finish", "keep_largest_liver"), StepPlan("contour", "contour", "3"))


@pytest.fixture
def folder(tmp_path):
    return module.save_cascade(tmp_path / "cascade", "two", OWN, {}, {"n_train_patients": 3, "seconds": 1.0})


def step_names(cascade) -> list[str]:
    return [step.name for step in cascade.steps]


def test_finishes_come_last_in_their_order_and_the_rest_stays(folder):
    before = json.loads((folder / "model.json").read_text())
    module.set_finishes(folder, ["fill_liver", "drop_small_tumors"])
    finished = module.load_cascade(folder)
    assert step_names(finished) == ["largest piece", "contour", "fill liver", "drop small tumours"]
    assert [step.part.name for step in finished.steps[2:]] == ["fill_liver", "drop_small_tumors"]
    assert module.chosen_finishes(folder) == ("fill_liver", "drop_small_tumors")
    after = json.loads((folder / "model.json").read_text())
    assert {**after, "steps": before["steps"]} == {**before, "finishes": ["fill_liver", "drop_small_tumors"]}
    labels = np.ones((3, 5, 5), np.uint8)
    labels[1, 2, 2] = 0
    assert (finished.steps[2].part(Volume(labels.astype(np.int16), (1, 1, 1)), labels) == 1).all()


def test_others_replace_them_and_own_finishes_are_no_chosen_ones(folder):
    assert module.chosen_finishes(folder) == ()
    module.set_finishes(folder, ["fill_liver", "fill_tumors"])
    assert step_names(module.load_unfinished(folder)) == ["largest piece", "contour"]
    module.set_finishes(folder, ["drop_small_tumors"])
    assert step_names(module.load_cascade(folder)) == ["largest piece", "contour", "drop small tumours"]
    module.set_finishes(folder, [])
    for cascade in (module.load_cascade(folder), module.load_unfinished(folder)):
        assert step_names(cascade) == ["largest piece", "contour"]


def test_what_is_no_finish_or_no_cascade_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="polish"):
        module.set_finishes(folder, ["polish"])
    (tmp_path / "model.json").write_text(json.dumps({"system": "unet"}))
    with pytest.raises(InputError, match="not a cascade"):
        module.set_finishes(tmp_path, [])
    with pytest.raises(InputError, match=r"no model\.json"):
        module.chosen_finishes(tmp_path / "nowhere")


FINE, SHAPE = (3.0, 1.5, 1.5), (30, 64, 60)
PATCH = PatchRecipe((48, 48, 48), (8, 16, 16))


class DarkIsTumor:
    """Stands in for a network: tumour where the superpixel (last channel) is dark (first channel)."""

    def predict_on_batch(self, patches: np.ndarray) -> np.ndarray:
        assert patches.shape[1:] == (8, 16, 16, 4) and patches.max() <= 1.0
        mask = patches[..., -1]
        grey = (patches[..., 0] * mask).sum(axis=(1, 2, 3)) / mask.sum(axis=(1, 2, 3)).clip(1)
        dark = (grey < 0.3).astype(np.float32)
        return np.stack([1 - dark, dark], axis=-1)

    def count_params(self) -> int:
        return 1


def classifier(network=None) -> TrainedClassifier:
    candidates = CandidateRecipe((8.0, 12.0, 18.0))
    return TrainedClassifier("j", "none", {}, network or DarkIsTumor(), candidates, PATCH, threshold=0.4)


@pytest.fixture(scope="module")
def patient() -> tuple[Volume, np.ndarray]:
    liver, tumor = (ball(SHAPE, *it, FINE) for it in (((45, 48, 45), 38), ((42, 36, 40), 12)))
    labels = np.where(tumor, 2, liver).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return Volume((np.array([-100, 100, 50])[labels] + noise).astype(np.int16), FINE), labels


def test_tumours_are_found_inside_the_liver_and_drawn_to_their_edges(patient):
    volume, truth = patient
    part = module.SuperpixelPart(classifier())
    liver = (truth > 0).astype(np.uint8)
    found = part(volume, liver)
    assert found.dtype == np.uint8 and part.structures == ("tumor",) and part.parameters == 1
    judged_anew = part(volume, liver * np.uint8(2))
    np.testing.assert_array_equal(judged_anew, found)
    np.testing.assert_array_equal(found > 0, truth > 0)
    steps = (
        module.Step("superpixels", part, "box", 6.0),
        module.Step("contour", module.ContourPart(3.0), "box", 6.0),
    )
    refined = module.run_cascade(volume, (module.Step("liver", lambda v, labels: liver), *steps))
    of_found, of_refined = (dice(labels == 2, truth == 2) for labels in (found, refined))
    assert of_found > 0.6 and of_refined > max(0.85, of_found)


def test_an_empty_liver_and_one_without_candidates_stay_as_they_are(patient):
    volume, truth = patient
    part = module.SuperpixelPart(classifier())
    assert not part(volume, np.zeros_like(truth)).any()
    with pytest.raises(InputError, match="spacing"):
        part(Volume(volume.voxels, (np.nan,) * 3), (truth > 0).astype(np.uint8))
    even = Volume(np.full(SHAPE, 100, np.int16), FINE)
    liver = (truth > 0).astype(np.uint8)
    np.testing.assert_array_equal(part(even, liver), liver)


def test_a_cascade_reads_it_from_its_folder(patient, tmp_path):
    volume, truth = patient
    options = {"filters": 2, "columns": 2, "stages": 2}
    network = build_classifier("fractal3d", (*PATCH.voxels, PATCH.channels), 2, **options)
    candidates = CandidateRecipe((12.0, 18.0))
    trained = TrainedClassifier("j", "fractal3d", options, network, candidates, PATCH, threshold=0.3)
    save_model(trained, tmp_path / "part")
    plans = [StepPlan("superpixels", "superpixels", "classifier", "box", 10.0)]
    folder = module.save_cascade(tmp_path / "j", "j", plans, {"classifier": tmp_path / "part"}, {})
    cascade = module.load_cascade(folder)
    liver = (truth > 0).astype(np.uint8)
    assert cascade.parameters == network.count_params() and cascade.structures == ("liver", "tumor")
    found = cascade.steps[0].part(volume, liver)
    np.testing.assert_array_equal(found, module.SuperpixelPart(trained)(volume, liver))


PROGRAM = """
import keras, numpy as np
from livseg_lib.inference.cascade import ContourPart, FinishPart, NetworkPart, Step, run_cascade
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import NetworkInput, Recipe
from livseg_lib.runs import peak_memory_mb
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume

SHAPE = (1000, 512, 512)
keras.utils.set_random_seed(0)

def network(name, shape, target, inputs=NetworkInput(), **options):
    model = build_model(name, shape, 2 if target == "both" else 1, **options)
    structures = ("liver", "tumor") if target == "both" else (target,)
    recipe = Recipe(windows=("liver",), size=shape[-2])
    thresholds = dict.fromkeys(structures, 0.05)
    return NetworkPart(TrainedModel(name, name, options, model, recipe, target, thresholds, inputs=inputs))

def known(volume, labels):
    # A liver of 400 slices with spots: what follows has as much to do as with a real one.
    found = np.zeros(labels.shape, np.uint8)
    found[300:700, 150:380, 100:400] = 1
    found[300:700:40, 200:330:40, 150:350:40] = 2
    found[320:340, 200:230, 200:240] = 2
    return found

small = {"filters": 4, "levels": 2}
stack, masked = NetworkInput(neighbours=1), NetworkInput(sees_liver=True)
steps = (
    Step("coarse", network("cdnn", (64, 64, 1), "liver", **small)),
    Step("known", known),
    Step("largest", FinishPart("keep_largest_liver")),
    Step("blocks", network("unet3d", (16, 64, 64, 1), "both", filters=2, levels=2), "slices", 15.0),
    Step("known again", known),
    Step("stack", network("residual_unet", (64, 64, 3), "both", stack, **small), "box", 15.0),
    Step("known again", known),
    Step("liver channel", network("cdnn", (64, 64, 2), "tumor", masked, **small), "box", 15.0),
    Step("known again", known),
    Step("contour", ContourPart(3.0), "box", 15.0),
)
hu = np.random.default_rng(0).integers(-50, 150, SHAPE, np.int16)
labels = run_cascade(Volume(hu, (1.0, 0.8, 0.8)), steps)
assert labels.shape == SHAPE and (labels > 0).any()
print(peak_memory_mb())
"""


@pytest.mark.slow
def test_a_thousand_slices_need_less_than_six_gigabytes():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) < 6 * 1024
