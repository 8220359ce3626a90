"""What may be said of errors as objects, a sentence each."""

from __future__ import annotations

import pandas as pd

from livseg_lib.evaluation.error_causes import BRIGHT_HU, BRIGHT_TEXTURE, CONTRAST_EDGES_HU, TEXTURE_SD_HU
from livseg_lib.evaluation.errors import FALSE_NEGATIVE, FALSE_POSITIVE
from livseg_lib.evaluation.statistics import verdict
from livseg_lib.reporting.wording import p_words


def conclude_classes(classes: pd.DataFrame, missed: pd.DataFrame) -> list[str]:
    """System B's two classes over all systems, a sentence each.

    `classes` as `evaluation.error_causes.count_classes` gives it, `missed` as `missed_by_contrast`.
    """
    invented = classes[classes.error_class == BRIGHT_TEXTURE]
    some = invented[invented.n > 0].system
    who = f"of {', '.join(some)}" if len(some) else "of no system"
    bright = (
        f"Bright textures (mean at least {BRIGHT_HU:.0f} HU above the liver, standard deviation above "
        f"{TEXTURE_SD_HU:.0f} HU): {invented.n.sum()} of {invented.n_of_kind.sum()} false positives, {who}."
    )
    faint = classes[classes.error == FALSE_NEGATIVE]
    rates = missed.dropna(subset=["missed_low_contrast", "missed_other"])
    more = (rates.missed_low_contrast > rates.missed_other).sum()
    low = (
        f"Low contrast (within {CONTRAST_EDGES_HU[0]:.0f} HU of the liver around): {faint.n.sum()} of "
        f"{faint.n_of_kind.sum()} misses; {more} of {len(rates)} systems miss a larger share of such tumours "
        "than of others."
    )
    undefined = int(classes.n_undefined.sum())
    return [
        bright,
        low,
        *([f"{undefined} errors are of unknown brightness or contrast."] if undefined else []),
    ]


def conclude_shared(shared: pd.DataFrame) -> list[str]:
    """What all systems miss and many invent, a sentence each; `shared` as `ErrorStudy.shared`."""
    tumors, places = (shared[shared.error == error] for error in (FALSE_NEGATIVE, FALSE_POSITIVE))
    n = int(shared.n_systems.max()) if len(shared) else 0
    by_all, by_none = (tumors.n_wrong == n).sum(), (tumors.n_wrong == 0).sum()
    most = (tumors.n_wrong > n / 2).sum()
    half = (places.n_wrong >= n / 2).sum()
    return [
        f"Of {len(tumors)} true tumours {by_all} are missed by all {n} systems, {most} by more than half of "
        f"them, {by_none} by none.",
        f"{half} places are marked by at least half of the systems as a tumour that is not there.",
    ]


def conclude_remedies(remedies: pd.DataFrame) -> list[str]:
    """What each remedy changes in each class, a sentence each; `remedies` with REMEDY_COLUMNS."""
    sentences = []
    for row in remedies.itertuples():
        interval = f"{row.difference_low:+.2f} to {row.difference_high:+.2f}"
        sentences.append(
            f"{row.remedy}, {row.error_class} ({row.patients}): {row.n_before} before, {row.n_after} after, "
            f"{row.difference:+.2f} a patient ({interval}, {p_words(row.p_holm)}). {_verdict(row)}"
        )
    return sentences


def _verdict(row) -> str:
    if row.n_before == row.n_after == 0:
        return "There was nothing to mend."
    return {-1: "It helps here.", 1: "It harms here.", 0: "No difference is shown."}[verdict(row)]


def conclude_edges(found: pd.DataFrame) -> str:
    """Whether diffuse tumours are found less completely than sharp ones; `found` as `volume_found`."""
    wide = found.pivot(index="system", columns="edge", values="volume_found").dropna()
    less = int((wide.diffuse < wide.sharp).sum())
    apart = found.pivot(index="system", columns="edge", values=["volume_found_low", "volume_found_high"])
    shown = (apart["volume_found_high"]["diffuse"] < apart["volume_found_low"]["sharp"]).sum()
    return (
        f"Of {len(wide)} systems that hit tumours of both kinds {less} find a smaller share of the volume of "
        f"diffuse ones; in {shown} the two intervals lie apart. Size and contrast differ between them too."
    )
