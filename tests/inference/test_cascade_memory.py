"""A scan of 512 x 512 x 1000 goes through every kind of part in less than 6 GB."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import keras, numpy as np
from livseg_lib.inference.cascade import Step, run_cascade, with_tumors
from livseg_lib.inference.cascade import ContourPart, FinishPart, NetworkPart
from livseg_lib.models import build_model
from livseg_lib.preprocessing import Recipe
from livseg_lib.preprocessing.recipe import NetworkInput
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
