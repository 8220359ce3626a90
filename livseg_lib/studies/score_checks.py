"""Whether scores can be trusted: what a network's probabilities are worth, thresholds, FROC, and D's metrics.

D's metrics are loss, pixel accuracy, Jaccard, precision and recall over all pixels of a set of slices
together, as a training loop prints one number an epoch: a large liver weighs more than a small one, and easy
pixels of the background carry the pixel accuracy. Scores of patients stand in patients.csv.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.froc import (
    FALSE_POSITIVE_RATES,
    TumorCandidates,
    find_tumor_candidates,
    recall_at,
    recall_with_interval,
)
from livseg_lib.evaluation.masks import OverlapCounts, overlap_counts
from livseg_lib.evaluation.probabilities import (
    THRESHOLD_GRID,
    ProbabilityHistogram,
    calibration_region,
    dice_by_threshold,
    is_predicted,
)
from livseg_lib.evaluation.slices import SLICE_SCORES
from livseg_lib.evaluation.statistics import holm, mean_with_interval, sign_flip_test
from livseg_lib.inference.predict import predict_stack, stored_labels, stored_pictures
from livseg_lib.labels import structure_mask
from livseg_lib.preprocessing.recipe import Recipe, prepare_labels
from livseg_lib.runs import RunFolders
from livseg_lib.sampling.batches import SliceBatches
from livseg_lib.systems import SYSTEMS, published_rows
from livseg_lib.training.fit import mean_of_heads, on_every_head, training_twin
from livseg_lib.training.losses import LOSSES, get_loss
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import load_prediction

D_METRICS = ("loss", "pixel_accuracy", "iou", "precision", "recall")  # in the order of D's table
TOGETHER = "both"  # liver and tumour counted together: the pixels of both channels, as D's figures are


def pooled_scores(trained: TrainedModel, batches: SliceBatches) -> pd.DataFrame:
    """A row a structure, and one for both together: structure, n_slices, loss, pixel_accuracy, iou,
    precision, recall. Undefined (0/0) is NaN.

    Pixels count from the system's own thresholds. The loss is the one that it was trained with, on batches as
    they come, as the `val_loss` of `fit` is; one number for all channels, NaN for a loss that the library has
    not. One batch is in memory at a time. Raises InputError for pictures of another size.
    """
    if trained.network.input_shape[1:] != batches.input_shape:
        problem = f"takes pictures of {trained.network.input_shape[1:]}, not {batches.input_shape}."
        raise InputError(trained.system, problem, "Extract slices as its recipe says.")
    facts, loss = trained.training, None
    if facts["loss"] in LOSSES:
        loss = on_every_head(get_loss(facts["loss"], **facts.get("loss_options", {})))
    twin = training_twin(trained.network)
    thresholds = np.array([trained.thresholds[name] for name in trained.structures])
    losses, sizes, counts = [], [], []
    for number in range(len(batches)):
        pictures, truth = batches[number]
        maps = twin.predict_on_batch(pictures)
        losses.append(float(loss(truth, maps)) if loss else np.nan)
        sizes.append(len(pictures))
        predicted = np.asarray(mean_of_heads(truth, maps)) >= thresholds
        counts.append(overlap_counts(predicted, truth >= 0.5, axis=(0, 1, 2)))
    names, pooled = list(trained.structures), np.sum(counts, axis=0)  # (4, K)
    if len(names) > 1:
        names.append(TOGETHER)
        pooled = np.column_stack([pooled, pooled.sum(axis=1)])
    scores = {name: SLICE_SCORES[name](OverlapCounts(*pooled)) for name in D_METRICS[1:]}
    facts = {"n_slices": sum(sizes), "loss": float(np.average(losses, weights=sizes))}
    return pd.DataFrame({"structure": names} | scores).assign(**facts)


def published_scores() -> pd.DataFrame:
    """D's printed figures: columns system (its name here), set, structure, metric, value."""
    systems = {each.source.title: name for name, each in SYSTEMS.items() if each.source.letter == "D"}
    rows = published_rows().query("source == 'D' and metric in @D_METRICS")
    side = rows["protocol"].str.extract("^(train|validation)", expand=False)
    rows = rows.assign(system=rows["system"].map(systems), structure=rows["target"], set=side)
    return rows[["system", "set", "structure", "metric", "value"]].dropna().reset_index(drop=True)


def scores_as_published(scores: pd.DataFrame) -> pd.DataFrame:
    """D's table: a row a set, structure and metric; a column a system, and `<system>_published` beside it.

    `scores` has the columns of `pooled_scores`, `system` and `set` ("train", "validation").
    """
    measured = scores.melt(["system", "set", "structure"], list(D_METRICS), "metric", "value")
    published = published_scores()
    systems = list(dict.fromkeys([*measured["system"], *published["system"]]))
    published = published.assign(system=published["system"] + "_published")
    index = ["set", "structure", "metric"]
    table = pd.concat([measured, published]).pivot(index=index, columns="system", values="value")
    columns = [name for system in systems for name in (system, f"{system}_published") if name in table]
    levels = [["train", "validation"], [*dict.fromkeys([*scores["structure"], TOGETHER])], list(D_METRICS)]
    order = [row for row in pd.MultiIndex.from_product(levels) if row in table.index]
    return table.reindex(index=order, columns=columns).rename_axis(columns=None)


CALIBRATION_REGIONS = {"picture": "all pixels", "near": "tumour: inside the liver; liver: the box around it"}
"""Over which pixels calibration is asked."""

NOTHING = TumorCandidates(np.zeros(0, np.uint8), np.zeros(0, np.uint8), 0)


@dataclass
class CheckedNetwork:
    """What is kept of a network's answers."""

    system: str
    thresholds: dict[str, float]  # a structure, as validation patients chose it
    histograms: dict[tuple[str, str, str, str], ProbabilityHistogram] = field(
        default_factory=lambda: defaultdict(ProbabilityHistogram)
    )
    """(split, structure, region, patient) -> all pixels; of the validation patients only "picture"."""
    candidates: dict[str, TumorCandidates] = field(default_factory=lambda: defaultdict(lambda: NOTHING))
    """Test patient -> what its tumour map proposes, inside the liver that it finds."""
    outlined: dict[str, TumorCandidates] = field(default_factory=lambda: defaultdict(lambda: NOTHING))
    """Test patient -> the tumours that it outlines at its threshold."""

    def of_split(self, *split: str) -> list[ProbabilityHistogram]:
        """One histogram a patient of this split, structure and region."""
        return [found for key, found in self.histograms.items() if key[:3] == split]


def extracted_for(trained: TrainedModel, folder: Path, case_id: str) -> Path | None:
    """Where pictures lie as `trained` takes them: `folder`, or the one for its size; None if in neither."""
    for candidate in (folder, folder / f"size-{trained.recipe.size}"):
        described = (candidate / case_id / "case.json").exists()
        if described and Recipe.of_case(candidate / case_id) == trained.recipe:
            return candidate
    return None


def ask_network(
    trained: TrainedModel, slices: pd.DataFrame, folder: Path, finds_lesions: bool
) -> CheckedNetwork:
    """Ask `trained` once about each validation and test case, one in memory at a time.

    `slices` are classified slices, their arrays lie in `folder`. With `finds_lesions` its tumour map is
    searched for candidates: pictures that are no volumes have no connected tumours.
    """
    checked = CheckedNetwork(trained.system, trained.thresholds)
    cases = slices.loc[slices.split.isin(["validation", "test"]), ["split", "patient", "case"]]
    for row in tqdm(list(cases.drop_duplicates().itertuples()), trained.system, unit="case"):
        labels = np.asarray(stored_labels(folder, row.case))
        pictures = trained.inputs.compose(stored_pictures(folder, row.case))
        planes = predict_stack(trained.network, pictures, len(labels), trained.inputs.block_overlap)
        maps = {name: planes[..., channel] for channel, name in enumerate(trained.structures)}
        for structure, levels in maps.items():
            mask = structure_mask(labels, structure)
            checked.histograms[row.split, structure, "picture", row.patient].add(levels, mask)
            if row.split == "test":
                near = calibration_region(labels, structure)
                checked.histograms[row.split, structure, "near", row.patient].add(levels[near], mask[near])
        if row.split == "test" and finds_lesions and "tumor" in maps:
            levels, tumors = maps["tumor"], structure_mask(labels, "tumor")
            if "liver" in maps:  # as in `labels_from_planes`, a tumour counts inside the liver that is found
                levels = levels * is_predicted(maps["liver"], trained.thresholds["liver"])
            outlined = is_predicted(levels, trained.thresholds["tumor"])
            checked.candidates[row.patient] += find_tumor_candidates(levels, tumors)
            checked.outlined[row.patient] += find_tumor_candidates(outlined, tumors)
    return checked


def stored_tumors(
    systems: Sequence[str], cases: Iterable[Case], folders: RunFolders
) -> dict[str, dict[str, TumorCandidates]]:
    """System -> test patient -> the tumours of its stored labels, for systems that keep no probabilities.

    Labels are brought to the pictures' grid, so that the same tumours are asked for as of the networks.
    """
    found = {system: defaultdict(lambda: NOTHING) for system in systems}
    for case in tqdm(list(cases), "stored labels", unit="case"):
        recipe = Recipe.of_case(folders.slices / case.case_id)
        tumors = structure_mask(np.asarray(stored_labels(folders.slices, case.case_id)), "tumor")
        volume = case.read_volume()
        for system in systems:
            labels = load_prediction(volume, folders.predictions(system), case.case_id)
            outlined = structure_mask(prepare_labels(labels, volume.spacing_mm, recipe), "tumor")
            found[system][case.patient] += find_tumor_candidates(outlined, tumors)
    return found


def froc_table(
    networks: Iterable[CheckedNetwork], others: Mapping[str, Mapping[str, TumorCandidates]], seed: int
) -> pd.DataFrame:
    """A row a system; those of `others`, without probabilities, have no curve.

    Columns: system, n_patients, n_tumors, froc_score and recall_at_1 (at one false positive a patient) with
    their 95 % bootstrap intervals over patients, highest_recall (of all candidates), and where the system's
    own outlines lie: recall and false_positives a patient. A system that looked for no tumour has no row.
    """
    checked = [(network.system, list(network.candidates.values()), network.outlined) for network in networks]
    checked += [(name, [], found) for name, found in others.items()]
    rows = []
    for system, candidates, outlined in [each for each in checked if each[2]]:
        cases = list(outlined.values())
        row = {"system": system, "n_patients": len(cases), "n_tumors": sum(each.n_tumors for each in cases)}
        for name, rates in {"froc_score": FALSE_POSITIVE_RATES, "recall_at_1": (1,)}.items():
            found = recall_with_interval(candidates, rates, seed) if candidates else [np.nan] * 3
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
        row["highest_recall"] = recall_at(candidates, [np.inf])[0] if candidates else np.nan
        row["recall"] = recall_at(cases, [np.inf])[0]
        row["false_positives"] = np.mean([len(each.false_positives) for each in cases])
        rows.append(row)
    return pd.DataFrame(rows)


def threshold_table(networks: Iterable[CheckedNetwork], seed: int) -> pd.DataFrame:
    """A row a system and structure: where the threshold chosen on validation patients lands on test patients.

    Mean Dice over patients, at picture size: of validation patients, of test patients, of these at 0.5 and at
    the grid's best in hindsight. gain: over 0.5, with its 95 % bootstrap interval over patients, p (signs
    flipped) and p_holm (corrected for a structure's systems). regret: what hindsight would have added.
    """
    rows = []
    for network in networks:
        for structure, threshold in network.thresholds.items():
            grid = (threshold, 0.5, *THRESHOLD_GRID)
            validation, each = (
                np.array([dice_by_threshold(h, grid) for h in network.of_split(split, structure, "picture")])
                for split in ("validation", "test")
            )
            test = each.mean(axis=0)
            best = int(test.argmax())  # of equals the first, which is the chosen one
            gains = each[:, 0] - each[:, 1]
            row = {"system": network.system, "structure": structure, "threshold": threshold}
            row |= {"dice_validation": validation[:, 0].mean(), "dice_test": test[0], "dice_at_half": test[1]}
            row |= mean_with_interval("gain", gains, range(len(gains)), seed=seed)
            row |= {"p": sign_flip_test(gains, seed=seed), "hindsight_threshold": grid[best]}
            rows.append(row | {"dice_hindsight": test[best], "regret": test[best] - test[0]})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=table.groupby("structure").p.transform(holm)) if rows else table
