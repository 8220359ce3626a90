"""Which part of the body an axial slice shows, as far as labels of liver and tumour can tell.

System F (Kaur et al. 2021) sorts slices into organ regions (liver, lungs, bone, ...) that people named in
63 503 slices of its own data, with an accuracy of 0.931 on test and 0.991 on validation slices. Labels of
liver and tumour name no lung and no bone: what they tell is liver, liver with tumour, and on which side of
the liver a slice without any lies.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

REGIONS = ("below_liver", "liver", "liver_with_tumor", "above_liver")
"""From feet to head; below the liver lie lower abdomen and pelvis, above it the chest."""

LIVER_REGIONS = ("liver", "liver_with_tumor")
"""Those that a segmentation of the liver cannot do without."""

NO_REGION = ""


def attach_regions(slices: pd.DataFrame) -> pd.DataFrame:
    """`slices` (with `class`, `case`, `array_index`) with `region`: a name of REGIONS, or NO_REGION.

    A slice without liver has no region where its case shows no liver at all, or where liver lies on both
    sides of it. Sides follow `array_index`, which runs from feet to head in volumes; a set of pictures
    does not say which end is the feet: there "below" means lower slice numbers.
    """
    shows, index = slices["class"].to_numpy(dtype=int), slices["array_index"].to_numpy(dtype=float)
    with_liver = pd.Series(np.where(shows > 0, index, np.nan)).groupby(slices["case"].astype(str).to_numpy())
    lowest, highest = (with_liver.transform(end).to_numpy() for end in ("min", "max"))
    found = [shows == 2, shows == 1, index < lowest, index > highest]
    names = ["liver_with_tumor", "liver", "below_liver", "above_liver"]
    return slices.assign(region=np.select(found, names, NO_REGION))


def regions_in(slices: pd.DataFrame) -> tuple[str, ...]:
    """The regions that occur, in the order of REGIONS."""
    return tuple(region for region in REGIONS if (slices["region"] == region).any())


def without_region(slices: pd.DataFrame) -> pd.DataFrame:
    """The slices that no region can be named for, counted: columns `patient, case, slices, reason`."""
    nameless = slices[slices["region"] == NO_REGION]
    counts = nameless.groupby(["patient", "case"], sort=False).size().rename("slices").reset_index()
    has_liver = set(slices.loc[slices["class"] > 0, "case"])
    reasons = ["liver on both sides" if case in has_liver else "no liver at all" for case in counts["case"]]
    return counts.assign(reason=reasons)
