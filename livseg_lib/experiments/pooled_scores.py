"""Loss, pixel accuracy, Jaccard, precision and recall over all pixels of a set of slices (system D).

Pixels of all slices are counted together before any score is formed, as a training loop does that prints
one number an epoch: a large liver weighs more than a small one, and easy pixels of the background carry
the pixel accuracy. Scores of patients stand in patients.csv; these are here to be set beside D's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation import overlap
from livseg_lib.evaluation.overlap import OverlapCounts, overlap_counts
from livseg_lib.evaluation.published import published_rows
from livseg_lib.inference.systems_rows import PUBLISHED
from livseg_lib.sampling.batches import SliceBatches
from livseg_lib.training.deep_supervision import mean_of_heads, on_every_head, training_twin
from livseg_lib.training.losses import get_loss
from livseg_lib.training.model_folder import TrainedModel

SCORES = {
    "pixel_accuracy": overlap.pixel_accuracy,
    "iou": overlap.jaccard,
    "precision": overlap.precision,
    "recall": overlap.recall,
}
METRICS = ("loss", *SCORES)
"""In the order of D's table."""

SETS = {"train": "training set", "validation": "validation set"}
"""Side of the split -> how the protocol of D's published figures begins."""

TOGETHER = "both"
"""Liver and tumour counted together: the pixels of both channels, as D's figures are."""


def pooled_scores(trained: TrainedModel, batches: SliceBatches) -> pd.DataFrame:
    """A row a structure, and one for both together: structure, n_slices, loss, pixel_accuracy, iou,
    precision, recall. Undefined (0/0) is NaN.

    Pixels count from the system's own thresholds. The loss is the one that it was trained with, on batches
    as they come, so that on the slices of a validation it is the `val_loss` that `fit` printed; it is one
    number for all channels. One batch is in memory at a time. Raises InputError for pictures of another
    size than the network's.
    """
    if trained.network.input_shape[1:] != batches.input_shape:
        problem = f"takes pictures of {trained.network.input_shape[1:]}, not {batches.input_shape}."
        raise InputError(trained.system, problem, "Extract slices as its recipe says.")
    facts = trained.training
    loss = on_every_head(get_loss(facts["loss"], **facts.get("loss_options", {})))
    twin = training_twin(trained.network)
    thresholds = np.array([trained.thresholds[name] for name in trained.structures])
    losses, sizes, counts = [], [], []
    for number in range(len(batches)):
        pictures, truth = batches[number]
        maps = twin.predict_on_batch(pictures)
        losses.append(float(loss(truth, maps)))
        sizes.append(len(pictures))
        predicted = np.asarray(mean_of_heads(truth, maps)) >= thresholds
        counts.append(overlap_counts(predicted, truth >= 0.5, axis=(0, 1, 2)))
    pooled = OverlapCounts(*np.sum(counts, axis=0))  # (4, K)
    mean_loss = float(np.average(losses, weights=sizes))
    return _rows(trained.structures, pooled).assign(n_slices=sum(sizes), loss=mean_loss)


def _rows(structures: tuple[str, ...], pooled: OverlapCounts) -> pd.DataFrame:
    """Scores of each channel and, of several, of all their pixels together."""
    names = list(structures)
    if len(structures) > 1:
        names.append(TOGETHER)
        pooled = OverlapCounts(*(np.append(count, count.sum()) for count in pooled))
    return pd.DataFrame({"structure": names} | {name: score(pooled) for name, score in SCORES.items()})


def published_scores() -> pd.DataFrame:
    """D's printed figures: columns system (its name here), set, structure, metric, value."""
    systems = {published: ours for ours, (letter, published, _) in PUBLISHED.items() if letter == "D"}
    rows = published_rows()
    rows = rows[(rows["source"] == "D") & rows["metric"].isin(METRICS)]
    rows = rows.assign(system=rows["system"].map(systems), structure=rows["target"])
    for side, beginning in SETS.items():
        rows.loc[rows["protocol"].str.startswith(beginning), "set"] = side
    return rows[["system", "set", "structure", "metric", "value"]].dropna().reset_index(drop=True)


def scores_as_published(scores: pd.DataFrame) -> pd.DataFrame:
    """D's table: a row a set, structure and metric; a column a system, and `<system>_published` beside it.

    `scores` has the columns of `pooled_scores`, `system` and `set` ("train", "validation").
    """
    ours = scores.melt(["system", "set", "structure"], list(METRICS), "metric", "value")
    theirs = published_scores()
    systems = list(dict.fromkeys([*ours["system"], *theirs["system"]]))
    theirs = theirs.assign(system=theirs["system"] + "_published")
    table = pd.concat([ours, theirs]).pivot(
        index=["set", "structure", "metric"], columns="system", values="value"
    )
    columns = [name for system in systems for name in (system, f"{system}_published") if name in table]
    places = [list(SETS), [*dict.fromkeys([*scores["structure"], TOGETHER])], list(METRICS)]
    order = [row for row in pd.MultiIndex.from_product(places) if row in table.index]
    return table.reindex(index=order, columns=columns).rename_axis(columns=None)
