"""Superpixels and patches in pictures: a tile each, tinted where a candidate lies."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.postprocessing.superpixels import Candidates, Superpixels
from livseg_lib.reporting.studies.superpixels import TINT, PatchPicture, patch_sheet, superpixel_scales


def test_a_tile_a_scale_tinted_by_value():
    box = (slice(2, 4), slice(3, 11), slice(5, 13))
    ids = np.zeros((2, 8, 8), np.int32)
    ids[:, :, :4], ids[:, :, 4:] = 1, 2
    superpixels = [Superpixels(scale_mm, box, ids, 0.001) for scale_mm in (10.0, 20.0)]
    table = pd.DataFrame({"scale_mm": [10.0, 20.0], "superpixel": [2, 1]})
    labels = np.zeros((16, 16), np.uint8)
    labels[4:10, 6:12], labels[5:7, 7:9] = 1, 2
    grey = np.full((16, 16), 90, np.uint8)
    figure = superpixel_scales(grey, labels, Candidates(superpixels, table), [1.0, 0.5], 3, "Candidate")
    tiles = [ax for ax in figure.axes if ax.axison or ax.images]
    assert [ax.get_title("left") for ax in tiles] == ["10 mm, 2 superpixels", "20 mm, 2 superpixels"]
    first, second = (ax.images[1].get_array()[..., 3] for ax in tiles)
    assert first.shape == (8, 8) and first[3, 1] == 0 and np.isclose(first[3, 6], TINT)
    assert np.isclose(second[3, 1], TINT / 2) and second[3, 6] == 0
    assert {text.get_text() for text in figure.legends[0].texts} == {"Candidate", "Tumour"}


def test_patches_stand_side_by_side():
    labels = np.zeros((8, 8), np.uint8)
    labels[2:7, 2:7], labels[3:5, 3:5] = 1, 2
    grey = np.full((8, 8), 90, np.uint8)
    figure = patch_sheet(
        [PatchPicture(grey, labels, "tumour, 10 mm"), PatchPicture(grey, labels * 0, "liver")]
    )
    assert [ax.get_title("left") for ax in figure.axes if ax.images] == ["tumour, 10 mm", "liver"]
