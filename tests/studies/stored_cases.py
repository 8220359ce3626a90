"""A small plan of a training, and cases as extraction leaves them, from arrays made by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.studies.training import TrainingPlan
from livseg_lib.training.fit import Stage

WHICH = {"batch_size": 4, "slices_per_epoch": 8, "seed": 7}
PLAN = TrainingPlan("tiny", "unet", "both", (Stage(2, 0.003),), {"filters": 4, "levels": 2}, **WHICH)


def store_case(folder: Path, name: str, masks, images, recipe: Recipe | None = None, **facts) -> pd.DataFrame:
    """Write labels 0/1/2, (n, h, w), and pictures, (n, h, w) or (n, h, w, C); a row a slice, with `facts`."""
    (folder / name).mkdir(parents=True)
    images = np.asarray(images).astype(np.uint8)
    np.save(folder / name / "images.npy", images if images.ndim == 4 else images[..., None])
    np.save(folder / name / "masks.npy", masks)
    if recipe is not None:
        (folder / name / "case.json").write_text(json.dumps({"request": {"recipe": recipe.to_dict()}}))
    planes = masks.reshape(len(masks), -1)
    counts = {"liver_pixels": (planes >= 1).sum(axis=1), "tumor_pixels": (planes == 2).sum(axis=1)}
    rows = pd.DataFrame({"array_index": range(len(masks)), "class": planes.max(axis=1).astype(int), **counts})
    return rows.assign(case=name, array=name, **facts)
