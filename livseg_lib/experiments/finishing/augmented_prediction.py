"""Test-time augmentation on validation patients: what it gains in Dice, and what it takes in seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.statistics.paired import compare_pairs, patient_scores
from livseg_lib.evaluation.structure_dice import structure_dice
from livseg_lib.inference import predict_volume
from livseg_lib.inference.augmented import AugmentedNetwork, choose_variants
from livseg_lib.training.model_folder import TrainedModel

PLAIN = "none"


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
    prediction, paired), difference_low, difference_high (95 % bootstrap over patients), seconds_a_volume,
    times (its seconds over the plain ones), verdict.
    """
    seconds = scores.groupby(["variant", "case"], sort=False).seconds.first().groupby("variant").mean()
    rows = []
    for structure, group in scores.groupby("structure", sort=False):
        table = patient_scores(group.rename(columns={"variant": "system"}))
        pairs = [(name, PLAIN) for name in table if name != PLAIN]
        found = {row["first"]: row for row in compare_pairs(table, pairs, seed=seed).to_dict("records")}
        for name in table:
            row = {
                "variant": name,
                "structure": structure,
                "pictures": len(choose_variants([name])),
                "n_patients": int(table[name].notna().sum()),
                "dice": table[name].mean(),
            }
            ends = ("difference", "difference_low", "difference_high")
            row |= {end: found[name][end] if name in found else float("nan") for end in ends}
            row |= {"seconds_a_volume": seconds[name], "times": seconds[name] / seconds[PLAIN]}
            rows.append(row | {"verdict": _verdict(row)})
    return pd.DataFrame(rows)


def _verdict(row: dict) -> str:
    if row["variant"] == PLAIN:
        return ""
    if row["difference_low"] > 0:
        return "better"
    return "worse" if row["difference_high"] < 0 else "no difference shown"
