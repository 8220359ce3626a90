"""Cases as extraction leaves them, from arrays made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.preprocessing.recipe import Recipe


def store_case(folder: Path, name: str, masks, images, recipe: Recipe | None = None, **facts) -> pd.DataFrame:
    """Write labels 0/1/2 and pictures, (n, h, w) each; a row a slice, with `facts` such as its patient."""
    (folder / name).mkdir(parents=True)
    np.save(folder / name / "images.npy", np.asarray(images)[..., None].astype(np.uint8))
    np.save(folder / name / "masks.npy", masks)
    if recipe is not None:
        (folder / name / "case.json").write_text(json.dumps({"request": {"recipe": recipe.to_dict()}}))
    planes = masks.reshape(len(masks), -1)
    counts = {"liver_pixels": (planes >= 1).sum(axis=1), "tumor_pixels": (planes == 2).sum(axis=1)}
    rows = pd.DataFrame({"array_index": range(len(masks)), "class": planes.max(axis=1).astype(int), **counts})
    return rows.assign(case=name, array=name, **facts)
