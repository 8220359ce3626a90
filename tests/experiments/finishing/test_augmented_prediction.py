"""Test-time augmentation scored: each variant against the plain prediction, with its seconds."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from livseg_lib.datasets.case import Case
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.studies.finishing import score_variants, summarize_variants
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume


class Bright:
    """A network that answers with the picture itself."""

    input_shape, output_shape = (None, 32, 32, 1), (None, 32, 32, 1)
    asked = 0

    def predict_on_batch(self, images):
        Bright.asked += 1
        return images


def case(number: int) -> Case:
    hu = np.full((3, 32, 32), -200, np.int16)
    hu[:, 8:24, 8 : 22 + number] = 200
    labels = (hu > 0).astype(np.uint8)
    return Case(f"volume-{number}", str(number), (), partial(Volume, hu, (5.0, 1.0, 1.0)), lambda _: labels)


def test_every_variant_is_asked_and_the_plain_one_comes_first():
    recipe = Recipe(windows=("liver",), size=32)
    trained = TrainedModel("bright", "unet", {}, Bright(), recipe, "liver", {"liver": 0.5})
    scores = score_variants(trained, [case(number) for number in range(3)], ["shift", "rotate"])
    assert Bright.asked == 1 + 3 * (1 + 5 + 3)  # warm-up; plain, four shifts and plain, two turns and plain
    assert scores.variant.unique().tolist() == ["none", "shift", "rotate"] and (scores.seconds > 0).all()
    assert (scores[scores.variant == "none"].dice == 1).all() and trained.thresholds == {"liver": 0.5}
    table = summarize_variants(scores, seed=1).set_index("variant")
    assert table.pictures.to_dict() == {"none": 1, "shift": 5, "rotate": 3}
    assert table.verdict["none"] == "" and np.isnan(table.difference["none"])
    assert table.difference["rotate"] == pytest.approx(table.dice["rotate"] - 1)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.1, 0.2, 0.1) * 2, "better"),
        ((-0.1, -0.2, -0.1) * 2, "worse"),
        ((0.1, -0.1, 0.0) * 2, "no difference shown"),
        ((0.1, 0.2, 0.1), "no difference shown"),  # an interval above zero, but p is 2 / 2^3
    ],
)
def test_verdicts_follow_p_and_interval(gains, verdict):
    rows = [
        {
            "patient": str(n),
            "case": str(n),
            "variant": variant,
            "structure": "liver",
            "dice": 0.5 + (variant == "zoom") * gain,
            "seconds": 1 + 2 * (variant == "zoom"),
        }
        for n, gain in enumerate(gains)
        for variant in ("none", "zoom")
    ]
    [plain, zoomed] = summarize_variants(pd.DataFrame(rows), seed=1).to_dict("records")
    assert plain["verdict"] == "" and np.isnan(plain["p_holm"]) and zoomed["p_holm"] == zoomed["p"]
    assert zoomed["verdict"] == verdict and zoomed["times"] == 3 and zoomed["n_patients"] == len(gains)
