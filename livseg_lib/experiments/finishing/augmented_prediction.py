"""Test-time augmentation on validation patients: what it gains in Dice, and what it takes in seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.statistics.paired import compare_pairs, patient_scores, verdict
from livseg_lib.evaluation.structure_dice import structure_dice
from livseg_lib.inference import predict_volume
from livseg_lib.inference.augmented import AugmentedNetwork, choose_variants
from livseg_lib.training.model_folder import TrainedModel

PLAIN = "none"
DIFFERENCE = ("difference", "difference_low", "difference_high", "p", "p_holm")
VERDICTS = {1: "better", -1: "worse", 0: "no difference shown"}


def score_variants(trained: TrainedModel, cases: Sequence[Case], names: Sequence[str]) -> pd.DataFrame:
    """Dice and seconds of `trained` by itself ("none") and with each of the variants `names` alone.

    A row a case, variant and structure: patient, case, variant, structure, dice, seconds (prediction of
    the volume in memory). Thresholds stay as they are. Each case is read once; the first is predicted once
    before any clock runs, as a network is compiled at its first picture.
    """
    systems = {name: replace(trained, network=AugmentedNetwork(trained.network, (name,))) for name in names}
    systems = {PLAIN: trained} | systems
    rows = []
    for number, case in enumerate(tqdm(list(cases), "test-time augmentation", unit="patient")):
        volume = case.read_volume()
        reference = case.read_labels(volume)
        if number == 0:
            predict_volume(trained, volume)
        for name, system in systems.items():
            began = time.perf_counter()
            labels = predict_volume(system, volume)
            seconds = time.perf_counter() - began
            whose = {"patient": case.patient, "case": case.case_id, "variant": name}
            for structure in trained.structures:
                dice = structure_dice(labels, reference, structure)
                rows.append(whose | {"structure": structure, "dice": dice, "seconds": seconds})
    return pd.DataFrame(rows)


def summarize_variants(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a structure and variant of `score_variants`, the plain prediction first.

    Columns: variant, structure, pictures (asked for each one), n_patients, dice, difference (from the plain
    prediction, paired), difference_low, difference_high (95 % bootstrap over patients), p and p_holm
    (corrected for the variants), seconds_a_volume, times (its seconds over the plain ones), verdict.
    """
    parts = []
    for structure, group in scores.groupby("structure", sort=False):
        table = patient_scores(group.rename(columns={"variant": "system"}))
        found = compare_pairs(table, [(name, PLAIN) for name in table if name != PLAIN], seed=seed)
        means = {
            "variant": list(table),
            "structure": structure,
            "pictures": [len(choose_variants([name])) for name in table],
            "n_patients": table.notna().sum().to_numpy(),
            "dice": table.mean().to_numpy(),
        }
        found = found.assign(verdict=verdict(found).map(VERDICTS), variant=found["first"])
        parts.append(pd.DataFrame(means).merge(found[["variant", *DIFFERENCE, "verdict"]], "left"))
    summary = pd.concat(parts, ignore_index=True).fillna({"verdict": ""})
    seconds = scores.groupby(["variant", "case"], sort=False).seconds.first().groupby("variant").mean()
    took = summary.variant.map(seconds)
    return summary.assign(seconds_a_volume=took, times=took / seconds[PLAIN], verdict=summary.pop("verdict"))
