"""Blocks blend without a seam; labels lie on the scan's own grid, and scores are those of the labels."""

import tracemalloc

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.inference import predict as module
from livseg_lib.inference.evaluate import evaluate_labels, evaluate_system, lits_rows, systems_rows
from livseg_lib.outputs import SYSTEMS_COLUMNS
from livseg_lib.preprocessing.extraction import extract_dataset
from livseg_lib.preprocessing.geometry import cover_blocks
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, load_prediction

DEPTH, SIZE = 8, 4


class StandIn:
    """Answers like a network of blocks of DEPTH slices, by `answer` of images float32 (1, DEPTH, ...)."""

    input_shape, output_shape = (None, DEPTH, SIZE, SIZE, 1), (None, DEPTH, SIZE, SIZE, 2)

    def __init__(self, answer):
        self.answer, self.shapes = answer, []

    def predict_on_batch(self, images):
        assert images.dtype == np.float32
        self.shapes.append(images.shape)
        return np.repeat(self.answer(images), 2, axis=-1)


def numbered(count: int) -> np.ndarray:
    """Pictures uint8 (count, SIZE, SIZE, 1), each of one grey: its number."""
    greys = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(greys, (count, SIZE, SIZE, 1))


@pytest.mark.parametrize("count", [0, 1, 8, 9, 12, 40])
@pytest.mark.parametrize("overlap", [None, 0, 7])
def test_what_each_slice_answers_by_itself_comes_back_in_its_place(count, overlap):
    network = StandIn(lambda images: images)
    planes = module.predict_blocks(network, iter(numbered(count)), count, overlap)
    assert planes.shape == (count, SIZE, SIZE, 2) and planes.dtype == np.uint8
    np.testing.assert_array_equal(planes, np.repeat(numbered(count), 2, axis=-1))
    assert set(network.shapes) <= {(1, DEPTH, SIZE, SIZE, 1)}


@pytest.mark.parametrize(("answer", "level"), [(1.004, 255), (1 + 1e-7, 255), (-0.01, 0), (-1e-7, 0)])
def test_what_rounding_takes_out_of_0_to_1_is_brought_back(answer, level):
    network = StandIn(lambda images: np.full_like(images, answer))
    assert (
        module.predict_blocks(network, numbered(12), 12) == level
    ).all()  # 1.004 * 255 is 256: 0 in eight bits
    flat = StandIn(lambda images: np.full_like(images, answer))
    flat.output_shape = (None, SIZE, SIZE, 2)
    assert (module.predict_planes(flat, numbered(12)) == level).all()
    for lost in (network, flat):
        lost.answer = lambda images: np.full_like(images, np.nan)
    with pytest.raises(InputError, match="not all between 0 and 1"):
        module.predict_blocks(network, numbered(12), 12)
    with pytest.raises(InputError, match="not all between 0 and 1"):
        module.predict_planes(flat, numbered(12))


def test_blocks_share_a_quarter_and_the_last_slice_fills_a_short_volume_up():
    for count, blocks in ((14, 2), (15, 3)):  # 8 and 8 slices with 2 in common
        network = StandIn(lambda images: images)
        module.predict_blocks(network, numbered(count), count)
        assert len(network.shapes) == blocks
    [(start, block)] = module.stream_blocks(numbered(3), [0], 3, DEPTH)
    assert start == 0 and block[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    with pytest.raises(ValueError, match="after 9 of 20"):
        module.predict_blocks(StandIn(lambda images: images), iter(numbered(9)), 20)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(0, 11), st.integers(12, 60), st.integers(0, 2**32 - 1))
def test_a_slice_is_the_weighted_mean_of_its_blocks(depth, overlap, n_slices, seed):
    overlap = min(overlap, depth - 1)
    generator = np.random.default_rng(seed)
    answers = [
        (start, generator.random((depth, 2), np.float32)) for start in cover_blocks(n_slices, depth, overlap)
    ]
    total, weight = np.zeros((n_slices + depth, 2)), np.zeros((n_slices + depth, 1))
    for start, answer in answers:
        total[start : start + depth] += module.blend_window(depth)[:, None] * answer
        weight[start : start + depth] += module.blend_window(depth)[:, None]
    stretches = list(module.blend_blocks(answers, depth))
    found = np.concatenate([slices for _, slices in stretches])
    np.testing.assert_allclose(found, (total / np.maximum(weight, 1e-9))[: len(found)], rtol=1e-4)
    firsts = np.cumsum([0] + [len(slices) for _, slices in stretches])[:-1]
    assert [start for start, _ in stretches] == firsts.tolist() and len(found) >= n_slices


def test_where_blocks_differ_the_seam_is_smooth_and_each_rules_its_middle():
    answers = [(0, np.zeros((DEPTH, 1), np.float32)), (4, np.ones((DEPTH, 1), np.float32))]
    blended = np.concatenate([slices for _, slices in module.blend_blocks(answers, DEPTH)])[:, 0]
    assert (blended[:4] == 0).all() and (blended[8:] == 1).all()
    # Raised cosines that overlap by half add up to one by themselves.
    np.testing.assert_allclose(blended[4:8], np.sin(np.pi * (np.arange(4) + 0.5) / 8) ** 2, rtol=1e-5)


def test_a_long_volume_streams_through_the_memory_of_a_block():
    stream = (np.full((64, 64, 1), number % 251, np.uint8) for number in range(1000))
    network = StandIn(lambda images: images)
    network.input_shape, network.output_shape = (None, DEPTH, 64, 64, 1), (None, DEPTH, 64, 64, 2)
    tracemalloc.start()
    planes = module.predict_blocks(network, stream, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < planes.nbytes + 12 * DEPTH * 64 * 64 * 2 * 4  # all pictures: 16 blocks


RECIPE = Recipe(windows=("stored",), size=128)
LIVER_GREY, TUMOR_GREY = 120, 220


def seer(bias: float = 0.0) -> keras.Model:
    """A network that is right by construction: bright is liver, brighter is tumour."""
    picture = keras.Input((128, 128, 1))
    steep = layers.Conv2D(2, 1, activation="sigmoid", name="probabilities")
    network = keras.Model(picture, steep(picture))
    kernel = np.full((1, 1, 1, 2), 100.0, np.float32)
    levels = np.array([LIVER_GREY / 2, (LIVER_GREY + TUMOR_GREY) / 2]) / 255
    steep.set_weights([kernel, (-100 * levels + bias).astype(np.float32)])
    return network


def scan(seed: int, with_tumor: bool = True) -> tuple[Volume, np.ndarray]:
    """A stack of five 128 x 128 pictures: a block of liver, a tumour in it."""
    top = 20 + 5 * seed
    labels = np.zeros((5, 128, 128), np.uint8)
    labels[1:4, top : top + 50, 30:90] = 1
    if with_tumor:
        labels[2:4, top + 10 : top + 25, 40:60] = 2
    grey = np.array([0, LIVER_GREY, TUMOR_GREY], np.int16)[labels]
    return Volume(grey, (3.0, 0.8, 0.8)), labels


def case(number: int, has_tumor: bool) -> Case:
    volume, labels = scan(number, has_tumor)
    return Case(f"case-{number}", f"p{number}", (), lambda: volume, lambda _: labels)


def cases(*with_tumor: bool) -> list[Case]:
    return [case(number, has_tumor) for number, has_tumor in enumerate(with_tumor)]


def trained(network: keras.Model | None = None) -> TrainedModel:
    thresholds = {"liver": 0.5, "tumor": 0.5}
    training = {"n_train_patients": 7, "seconds": 12.0}
    return TrainedModel("unet", "unet", {}, network or seer(), RECIPE, "both", thresholds, training)


@pytest.mark.parametrize("count", [0, 1, 16, 17])
def test_planes_do_not_depend_on_how_pictures_fall_into_batches(count):
    pictures = np.random.default_rng(count).integers(0, 256, (count, 128, 128, 1), np.uint8)
    network = seer()
    planes = module.predict_planes(network, iter(pictures))
    assert planes.shape == (count, 128, 128, 2) and planes.dtype == np.uint8
    if count:
        alone = np.asarray(network.predict_on_batch(pictures[-1:] / np.float32(255)))[0]
        np.testing.assert_array_equal(planes[-1], np.rint(alone * 255).astype(np.uint8))


def test_a_tumour_is_written_over_the_liver_and_thresholds_count():
    volume, _ = scan(0)
    planes = np.zeros((5, 128, 128, 2), np.uint8)
    planes[2, :64, :, 0], planes[2, :32, :, 1] = 255, 128  # probability 0.502
    planes[2, 90:, :, 1] = 255  # outside the liver
    labels = module.labels_from_planes(planes, volume, RECIPE, {"liver": 0.5, "tumor": 0.5})
    assert (labels[2, 10] == 2).all() and (labels[2, 50] == 1).all() and not labels[2, 80:].any()
    alone = module.labels_from_planes(planes[..., 1:], volume, RECIPE, {"tumor": 0.5})
    assert (alone[2, 100] == 2).all()
    assert not (module.labels_from_planes(planes, volume, RECIPE, {"liver": 0.5, "tumor": 0.6}) == 2).any()


def test_a_right_network_scores_one_and_keeps_its_masks(tmp_path):
    patients = cases(True, True, False)
    extract_dataset(patients, RECIPE, tmp_path / "slices", workers=1)
    found = evaluate_system(trained(), patients, tmp_path / "slices", tmp_path / "predictions")
    rows = pd.DataFrame(found.patients)
    assert (rows.dice == 1).all()  # the tumour-free patient too: nothing there, nothing found
    assert rows.set_index(["case", "structure"]).loc[("case-2", "tumor"), "is_empty"]
    voxel_ml = 3.0 * 0.8 * 0.8 / 1000
    assert rows.reference_ml[0] == pytest.approx(3 * 50 * 60 * voxel_ml)
    volume, truth = scan(0)
    np.testing.assert_array_equal(load_prediction(volume, tmp_path / "predictions", "case-0"), truth)

    table = pd.DataFrame(systems_rows(trained(), found, seed=0))
    assert set(table) <= set(SYSTEMS_COLUMNS)
    assert list(table.target) == ["liver", "tumor"]
    assert (table.dice_per_case == 1).all() and (table.dice_global == 1).all()
    assert (table.roc_auc > 0.999).all() and (table.presence_accuracy == 1).all()
    assert table.n_test_patients.tolist() == [3, 3]
    assert table.published_value.tolist()[1] == 0.85  # system C, tumours
    assert np.isnan(table.published_value.tolist()[0])  # nobody published its liver


def test_labels_without_probabilities_score_as_the_network_that_gave_them(tmp_path):
    patients, system = cases(True, False), trained()
    extract_dataset(patients, RECIPE, tmp_path / "slices", workers=1)
    network = evaluate_system(system, patients, tmp_path / "slices", tmp_path / "network")
    labels = evaluate_labels(
        system, lambda case, volume: module.predict_volume(system, volume), patients, tmp_path / "labels"
    )
    tables = [pd.DataFrame(each.patients) for each in (labels, network)]
    without_seconds = [table.drop(columns="predict_seconds") for table in tables]
    pd.testing.assert_frame_equal(*without_seconds)
    pd.testing.assert_frame_equal(pd.concat(labels.slices), pd.concat(network.slices))
    volume, truth = scan(0)
    np.testing.assert_array_equal(load_prediction(volume, tmp_path / "labels", "case-0"), truth)
    rows = [pd.DataFrame(systems_rows(system, found, seed=0)) for found in (labels, network)]
    assert rows[0].roc_auc.isna().all() and rows[1].roc_auc.notna().all()
    pd.testing.assert_frame_equal(*(each.drop(columns="roc_auc") for each in rows))
    assert lits_rows(system, labels)[1]["tumor_burden_rmse"] == 0


def test_a_network_of_other_pictures_than_those_extracted_is_shown_its_own(tmp_path):
    patients = cases(True, False)
    extract_dataset(patients, RECIPE, tmp_path / "its", workers=1)
    extract_dataset(patients, Recipe(windows=((-100, 200), "lung"), size=64), tmp_path / "others", workers=1)
    its, others = (
        evaluate_system(trained(), patients, tmp_path / f, tmp_path / f"of {f}") for f in ("its", "others")
    )
    pd.testing.assert_frame_equal(pd.concat(its.slices), pd.concat(others.slices))
    assert pd.DataFrame(others.patients).dice.tolist() == pd.DataFrame(its.patients).dice.tolist()
    assert all(its.histograms[name].auc() == others.histograms[name].auc() for name in its.histograms)


def test_a_blind_network_is_counted_as_having_missed_everybody(tmp_path):
    patients = cases(True, False)
    extract_dataset(patients, RECIPE, tmp_path / "slices", workers=1)
    found = evaluate_system(trained(seer(bias=-200)), patients, tmp_path / "slices", tmp_path / "p")
    summary = {row["structure"]: row for row in lits_rows(trained(), found)}
    assert summary["liver"]["dice_per_case"] == 0 and summary["liver"]["n_missed"] == 2
    assert summary["tumor"]["dice_per_case"] == 0.5  # one missed, one rightly empty
    assert (summary["tumor"]["n_missed"], summary["tumor"]["n_empty_reference"]) == (1, 1)
    assert pd.DataFrame(found.patients).is_missed.sum() == 3


def test_the_threshold_is_the_one_that_suits_the_validation_patients(tmp_path):
    patients = cases(True, True)
    extract_dataset(patients, RECIPE, tmp_path, workers=1)
    shy = seer(bias=-20.0)  # a tumour has the probability 0.40, all else is near 0 or 1
    thresholds = module.choose_thresholds(shy, ("liver", "tumor"), ["case-0", "case-1"], tmp_path)
    assert thresholds["liver"] == 0.5 and 0.1 <= thresholds["tumor"] <= 0.4
    volume, truth = scan(0)
    planes = module.predict_planes(shy, list(np.load(tmp_path / "case-0" / "images.npy")))
    labels = module.labels_from_planes(planes, volume, RECIPE, thresholds)
    np.testing.assert_array_equal(labels, truth)
