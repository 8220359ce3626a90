"""The speed board of `make bench ONLY=board DATA=... MINUTES="2 5"`: patient Dice by minutes of training.

livseg's recipe of the profile `best` through its own training, against other people's networks: same slices,
split, augmentation, loss, batches, schedule (a cosine that ends with the minutes) and machine, one after
another. Minutes are processor time over two, as the machine may be busy. Peers get the minutes that livseg
took; where one was tried with two learning rates, the better one is what it is compared by.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import bench_ours
import bench_peers
import cv2
import numpy as np
import pandas as pd
import yaml

from livseg_lib.datasets.catalogue import find_cases
from livseg_lib.datasets.files import natural_key
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.evaluation.statistics import compare, summarize, verdict
from livseg_lib.labels import structure_mask
from livseg_lib.notebooks import declared_parameters
from livseg_lib.outputs import read_table, write_table
from livseg_lib.preprocessing.extraction import extract_dataset
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.runs import project_root

OURS = "livseg U-Net"
NETWORKS = ("MONAI UNet", "MONAI BasicUNet", "medicai UNet", "nnU-Net 2D")
RATES = (0.003, 0.001)  # learning rates of peers; the first is livseg's own
SIZE, FOLDS = 128, 5
KEY = ["minutes", "contender", "learning_rate"]
FACTS = ("cpu_minutes", "wall_minutes", "pictures", "parameters", "remark")


def prepare(data: Path, folder: Path) -> pd.DataFrame:
    """Pictures, labels and who trains, for both sides; a row a slice that is tested, with its patient.

    The last of five folds by patient, dealt by the seed 0, is tested on: the recipe was chosen on the others.
    """
    cases = find_cases(data, "kaggle").cases
    recipe = Recipe(windows=("stored",), size=SIZE)
    extract_dataset(cases, recipe, folder / "slices", workers=1, write_png=False)
    patients = sorted({case.patient for case in cases}, key=natural_key)
    dealt = np.random.default_rng(0).permutation(len(patients))
    tested = {patients[place] for place in np.array_split(dealt, FOLDS)[-1]}
    parts = {"images": [], "masks": [], "train": []}
    for case in cases:
        for name in ("images", "masks"):
            parts[name].append(np.load(folder / "slices" / case.case_id / f"{name}.npy"))
        parts["train"].append(np.full(len(parts["masks"][-1]), case.patient not in tested))
    for name, part in parts.items():
        np.save(folder / f"{name}.npy", np.concatenate(part))
    held_out = [case for case in cases if case.patient in tested]
    truth = [structure_mask(case.read_labels(case.read_volume()), "liver") for case in held_out]
    whose = [case.patient for case, masks in zip(held_out, truth, strict=True) for _ in masks]
    return pd.DataFrame({"patient": whose, "truth": [mask for masks in truth for mask in masks]})


def patient_dice(tested: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """Dice of each patient, all slices together, counted on the pictures as they came."""
    rows = []
    for patient, part in tested.assign(found=list(probabilities)).groupby("patient", sort=False):
        pairs = zip(part.found, part.truth, strict=True)
        shown = [cv2.resize(found, truth.shape[::-1]) >= 0.5 for found, truth in pairs]
        counts = overlap_counts(np.stack(shown), np.stack(list(part.truth)))
        rows.append({"patient": patient, "dice": dice(counts)})
    return pd.DataFrame(rows)


def without_parts() -> dict[str, dict]:
    """Contender -> what differs from the recipe: nothing, then each of its parts as notebook 03 has it."""
    notebooks = project_root() / "notebooks"
    recipe = yaml.safe_load((notebooks / "params" / "best.yaml").read_text())
    usual = declared_parameters(notebooks / "03_train_unet.ipynb")
    parts = [name for name in recipe if name in usual and name not in ("target", "minutes")]
    return {OURS: {}} | {f"{OURS}, {name} {usual[name]}": {name: usual[name]} for name in parts}


def run_board(
    data: Path,
    minutes: list[float],
    folder: Path,
    python: Path,
    variables: dict[str, str],
    out: Path,
    made_by: str,
    peers: Sequence[str] = NETWORKS,
    ours: Mapping[str, dict] = {OURS: {}},
    table: str = "board",
) -> None:
    """Train all, mark by mark; `table`_patients.csv and `table`.csv are up to date as each one ends.

    Trainings that stand there and were `made_by` the same code and machine are kept, so that a board that was
    stopped goes on. `python` is the peers' own.
    """
    tested = prepare(data, folder)
    runs = [*((name, RATES[0]) for name in ours), *((name, rate) for rate in RATES for name in peers)]
    path = out / f"{table}_patients.csv"
    for mark in minutes:
        for name, rate in runs:
            key = {"minutes": mark, "contender": name, "learning_rate": rate}
            before = _read_trainings(path).query("made_by == @made_by and minutes == @mark")
            if len(before.query("contender == @name and learning_rate == @rate and dice == dice")):
                print(*key.values(), "is kept", flush=True)
                continue
            spent = before[before.contender == OURS].cpu_minutes
            budget = spent.iloc[0] if len(spent) else mark
            words = [python, bench_peers.__file__, "board", name, folder, budget, rate]
            if name in ours:
                changed = json.dumps(ours[name])
                words = [sys.executable, bench_ours.__file__, "board", folder, mark, name, changed]
            done = subprocess.run([*map(str, words)], env=variables, text=True, capture_output=True)
            said = (done.stderr if done.returncode else done.stdout).strip().splitlines() or [""]
            if done.returncode:
                found = pd.DataFrame([{"patient": "", "dice": np.nan, "remark": f"failed: {said[-1][:200]}"}])
            else:
                facts = json.loads(said[-1])
                found = patient_dice(tested, np.load(folder / f"{name}.npy").astype(np.float32))
                found = found.assign(**facts, remark="")
            print(*key.values(), f"{found.dice.mean():.4f}", said[-1], flush=True)
            keep(found.assign(**key, made_by=made_by), path)


def _read_trainings(path: Path) -> pd.DataFrame:
    return read_table(path) if path.exists() else pd.DataFrame(columns=[*KEY, *FACTS, "dice", "made_by"])


def keep(rows: pd.DataFrame, path: Path) -> None:
    """Put rows in the place of those of the same training in `path`, and sum up anew beside it."""
    before = _read_trainings(path)
    others = before[~before.set_index(KEY).index.isin(rows.set_index(KEY).index)]
    patients = pd.concat([part for part in (others, rows) if len(part)], ignore_index=True)
    patients["patient"] = patients["patient"].astype(str)  # names that are numbers come back as such
    patients = patients.reindex(columns=[*KEY, "patient", "dice", *FACTS, "made_by"])
    write_table(patients.sort_values(KEY, ignore_index=True), path)
    write_table(summarize_board(patients), path.with_name(path.name.replace("_patients", "")))


def summarize_board(patients: pd.DataFrame) -> pd.DataFrame:
    """A row a training: mean Dice with its interval over patients, and what livseg has more, with its own."""
    facts = patients.groupby(KEY, as_index=False)[list(FACTS)].first()
    found = summarize(patients, KEY, "dice").merge(facts, on=KEY)
    better = found.sort_values("dice", ascending=False).groupby(["minutes", "contender"]).head(1)
    found["better_rate"] = found.index.isin(better.index)
    chosen = patients.merge(better[KEY], on=KEY).dropna(subset="dice")
    parts = []
    for mark, part in chosen.groupby("minutes"):
        pairs = [(OURS, name) for name in part.contender.unique() if name != OURS]
        if pairs and OURS in set(part.contender):
            compared = compare(part, pairs, "dice", (), "contender").rename(columns={"second": "contender"})
            parts.append(compared.assign(minutes=mark, better_rate=True))
    if not parts:
        return found
    differences = pd.concat(parts, ignore_index=True)
    differences["livseg_ahead"] = verdict(differences)
    kept = ["difference", "difference_low", "difference_high", "p_holm", "livseg_ahead"]
    same = ["minutes", "contender", "better_rate"]
    return found.merge(differences[same + kept], on=same, how="left")
