"""A whole training by one plan: what it sees, how long, what it left in model.json and in the tables."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.lesions import summarize_sizes
from livseg_lib.evaluation.probabilities import quantize
from livseg_lib.evaluation.slices import summarize_slices
from livseg_lib.files import write_atomically
from livseg_lib.inference.evaluate import Evaluation, ScoredSystem, lits_rows, systems_rows
from livseg_lib.inference.predict import choose_thresholds, predict_planes, stored_labels, stored_pictures
from livseg_lib.inference.sorting import sort_stored
from livseg_lib.labels import TARGETS
from livseg_lib.models import MODELS, Build, build_model, keras
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.outputs import read_table, replace_systems, update_systems_table
from livseg_lib.preprocessing.recipe import OWN_PICTURE, NetworkInput, Recipe
from livseg_lib.provenance import code_of, digest, keep_or_make, made_with, name_of
from livseg_lib.reporting.charts import training_curves
from livseg_lib.reporting.pictures import best_median_worst
from livseg_lib.runs import NotebookRun, RunFolders, derived_seed
from livseg_lib.sampling.augmentation import AUGMENTATIONS
from livseg_lib.sampling.batches import OPEN_FILES, RegionBatches, SliceBatches, arrays_checksum, regions_in
from livseg_lib.sampling.blocks import BlockBatches
from livseg_lib.sampling.splits import cases_without_liver, require_structures, resolve_choice, select_slices
from livseg_lib.training.fit import FitSettings, Stage, dice_metrics, fit, training_facts
from livseg_lib.training.losses import CLASS_LOSSES, LOSSES, Loss, find_loss
from livseg_lib.training.model_folder import TrainedModel, TrainedSorter, save_model

REGISTRIES = (MODELS, LOSSES, CLASS_LOSSES, AUGMENTATIONS)
"""Where names are looked up: a new entry changes none of the others."""


@dataclass(frozen=True)
class TrainingPlan:
    """A network of the catalogue, what it learns from, and how. Two plans that differ only in the
    network see the same slices for as long: that is what makes a comparison fair."""

    system: str  # its name in tables
    architecture: str | Build
    """Its name in `livseg_lib.models.MODELS`, or a function of (input_shape, num_classes, **options)."""
    target: str  # "liver", "tumor" or "both"
    stages: tuple[Stage, ...]
    options: dict = field(default_factory=dict)  # of `build_model`, or of that function
    inputs: NetworkInput = OWN_PICTURE  # what it sees besides a slice's own picture
    depth: int | None = None
    """Slices of a block, for a network that sees blocks (system E); None: single slices."""
    batch_size: int = 8
    slices_per_epoch: int | None = None
    """A smaller set comes round again; None takes each slice once. Blocks, where there is a depth."""
    slice_choice: str = "auto"
    negative_ratio: float = 1.0
    augmentation: str = "light"
    loss: str | Loss = "bce_dice"  # its name in `losses.LOSSES`, or a function of (truth, probability)
    loss_options: dict = field(default_factory=dict)  # of `get_loss`
    schedule: str = "cosine"
    plateau_patience: int = 0
    early_stopping_patience: int = 0
    minutes: float | None = None  # as in `FitSettings`
    seed: int = 0  # root seed of the run

    @property
    def structures(self) -> tuple[str, ...]:
        """The channels of the network's output, in order."""
        return TARGETS[self.target]

    @property
    def fit_settings(self) -> FitSettings:
        """The part that `fit` follows."""
        names = {each.name for each in fields(FitSettings)} & {each.name for each in fields(self)}
        return FitSettings(**{name: getattr(self, name) for name in names})

    def choose(self, slices: pd.DataFrame, purpose: str = "selection") -> pd.DataFrame:
        """Those of `slices` (with `class`) that a training takes; the same for every system of a run.

        For blocks, every slice of the cases that show liver at all.
        """
        if self.depth:
            without = cases_without_liver(slices).case
            return slices[~slices.case.isin(without)].reset_index(drop=True)
        choice = resolve_choice(self.slice_choice, self.target)
        return select_slices(slices, choice, self.negative_ratio, derived_seed(self.seed, purpose))

    def training_batches(self, slices: pd.DataFrame, folder: Path) -> SliceBatches:
        """Augmented batches of chosen slices. Raises InputError where they never show the target."""
        require_structures(slices, self.structures)
        settings = {"augmentation": self.augmentation, "seed": derived_seed(self.seed, self.system)}
        return self._batches(slices, folder, self.slices_per_epoch, **settings)

    def validation_batches(self, slices: pd.DataFrame, folder: Path) -> SliceBatches:
        """The same slices each epoch, as they are."""
        return self._batches(slices, folder, None, shuffle=False)

    def _batches(self, slices: pd.DataFrame, folder: Path, an_epoch: int | None, **settings) -> SliceBatches:
        data = (slices, folder, self.target)
        if self.depth:
            return BlockBatches(*data, self.depth, self.batch_size, blocks_per_epoch=an_epoch, **settings)
        return SliceBatches(*data, self.batch_size, inputs=self.inputs, slices_per_epoch=an_epoch, **settings)

    def description(self) -> dict:
        """JSON-ready: tells one training from another."""
        return asdict(self) | {"architecture": name_of(self.architecture), "loss": name_of(self.loss)}

    def code(self) -> dict[str, str]:
        """Digests of the code that trains by this plan."""
        is_function = callable(self.architecture)
        return {
            "network": code_of(self.architecture if is_function else MODELS[self.architecture]),
            "loss": code_of(find_loss(self.loss)),
            "augmentation": code_of(AUGMENTATIONS[self.augmentation]),
            "training": code_of(fit, type(self), SliceBatches, BlockBatches, apart=REGISTRIES),
        }


def train_network(
    plan: TrainingPlan,
    training_slices: pd.DataFrame,
    validation_slices: pd.DataFrame | None,
    folder: Path,
    checkpoints: Path,
    network: keras.Model | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train the plan's network on exactly these slices; resumes from `checkpoints`.

    `folder` holds their arrays. Returns the network of the best epoch (by validation loss; without
    validation slices by training loss) and a row an epoch. `network` may bring weights of its own; else
    it starts from random ones that depend on the root seed and the system's name alone.
    """
    training = plan.training_batches(training_slices, folder)
    validation = None if validation_slices is None else plan.validation_batches(validation_slices, folder)
    network = network or build_untrained(plan, training.input_shape)
    metrics = partial(dice_metrics, plan.structures)
    how = metrics, plan.fit_settings, checkpoints, plan.description()
    return network, fit(network, training, validation, *how)


def build_untrained(plan: TrainingPlan, input_shape: tuple[int, int, int]) -> keras.Model:
    """The plan's network with random weights that other trainings before it do not change."""
    keras.utils.set_random_seed(derived_seed(plan.seed, plan.system, "weights"))
    is_function = callable(plan.architecture)
    build = plan.architecture if is_function else partial(build_model, plan.architecture)
    return build(input_shape, len(plan.structures), **plan.options)


def train_system(
    plan: TrainingPlan,
    slices: pd.DataFrame,
    folder: Path,
    checkpoints: Path,
    run_name: str,
    network: keras.Model | None = None,
) -> tuple[TrainedModel, pd.DataFrame]:
    """Train on the run's training patients, choose thresholds on its validation patients; a row an epoch.

    `slices` are the classified ones, with `split`; test patients are never looked at.
    """
    validation_slices = slices[slices.split == "validation"]
    chosen = plan.choose(slices[slices.split == "train"])
    checked = plan.choose(validation_slices, "validation")
    network, history = train_network(plan, chosen, checked, folder, checkpoints, network)
    checked_cases = validation_slices.case.unique()
    thresholds = choose_thresholds(network, plan.structures, checked_cases, folder, plan.inputs)
    facts = training_facts(chosen, history, plan.fit_settings, plan.batch_size, plan.slices_per_epoch)
    trained = TrainedModel(
        system=plan.system,
        architecture=name_of(plan.architecture),
        options=plan.options,
        network=network,
        recipe=Recipe.of_case(folder / chosen.case.iloc[0]),
        target=plan.target,
        inputs=plan.inputs,
        thresholds=thresholds,
        training={"run": run_name, **facts},
    )
    return trained, history


def train_and_save(
    plan: TrainingPlan, slices: pd.DataFrame, folder: Path, run: NotebookRun, name: str = ""
) -> tuple[TrainedModel, Figure]:
    """`train_system` for a report: with its model folder and its curves, called `name` or as the system."""
    folders, name = run.folders, name or plan.system
    trained, history = train_system(plan, slices, folder, folders.training(plan.system), folders.name)
    model = save_model(trained, folders.model(plan.system))
    if callable(plan.architecture):
        from livseg_lib.inference.export import add_own_graph

        add_own_graph(model, plan.architecture)
    curves = training_curves(history, f"{name}, {trained.parameters:,} parameters")
    caption = f"{name}: training patients against validation patients, epoch by epoch."
    return trained, run.figure(f"training_{name}", curves, caption)


@dataclass(frozen=True)
class SorterPlan:
    """All that decides about a slice sorter (system F), besides its patients."""

    stages: tuple[Stage, ...]
    options: dict  # of the network "slice_sorter"
    batch_size: int
    slices_per_epoch: int | None
    augmentation: str
    seed: int  # root seed of the run


def train_sorter(
    plan: SorterPlan, slices: pd.DataFrame, folder: Path, checkpoints: Path, run_name: str
) -> tuple[TrainedSorter, pd.DataFrame]:
    """Train on slices with `region` and `split`; resumes from `checkpoints`. With a row an epoch.

    All slices of validation patients choose the best epoch. The gate is 0, open, until it is chosen.
    """
    name, regions = "slice_sorter", regions_in(slices)
    chosen, checked = (slices[slices.split == split] for split in ("train", "validation"))
    settings = {"augmentation": plan.augmentation, "seed": derived_seed(plan.seed, name)}
    settings["slices_per_epoch"] = plan.slices_per_epoch
    training = RegionBatches(chosen, folder, regions, plan.batch_size, **settings)
    validation = RegionBatches(checked, folder, regions, plan.batch_size, shuffle=False)
    keras.utils.set_random_seed(derived_seed(plan.seed, name, "weights"))
    network = build_classifier(name, training.input_shape, len(regions), **plan.options)
    follow = FitSettings(plan.stages, "cross_entropy", schedule="cosine")
    how = follow, checkpoints, {"options": plan.options, "seed": plan.seed}
    accuracy = partial(keras.metrics.CategoricalAccuracy, name="accuracy")
    history = fit(network, training, validation, lambda: [accuracy()], *how)
    facts = training_facts(chosen, history, follow, plan.batch_size, plan.slices_per_epoch)
    recipe, facts = Recipe.of_case(folder / slices.case.iloc[0]), {"run": run_name, **facts}
    return TrainedSorter(name, name, plan.options, network, recipe, regions, 0.0, facts), history


def made_by(code: dict[str, str], tables: Sequence[pd.DataFrame], folder: Path) -> dict:
    """What decides about a study's result, for `keep_or_make`: `code` (digests), slices of `tables`, their
    pictures in `folder`, the libraries."""
    columns = ["patient", "array", "array_index", "class", "liver_pixels", "tumor_pixels", "split", "fold"]
    return {
        "code": code,
        "slices": digest([table.filter(columns).to_csv(index=False) for table in tables]),
        "pictures": arrays_checksum(folder, pd.concat([table["array"] for table in tables])),
        "libraries": made_with("keras", "tensorflow", "jax", "torch", "numpy", "imgaug"),
    }


def answer_held_out(
    plan: TrainingPlan | SorterPlan,
    learn: pd.DataFrame,
    asked: pd.DataFrame,
    folder: Path,
    place: Path,
    name: str,
) -> np.ndarray:
    """What a network that learnt from `learn` says of the slices `asked`, uint8 levels (n, H, W, channels).

    `folder` holds the arrays of both. A sorter, whose `learn` has `split`, gives the probability that a slice
    shows a tumour, (n, 1, 1, 1). Killed and called again it goes on: answers are kept in `place`, for the
    same plan, slices, pictures, code and libraries. `name` is what they are called where that is said.
    """
    kept, described = place / "answers.npz", asdict(plan)
    code = {"answers": code_of(_ask, apart=REGISTRIES)}
    if isinstance(plan, TrainingPlan):
        described, code = plan.description(), plan.code() | code
    record = made_by(code, [learn, asked], folder) | {"settings": {"plan": digest(described)}}
    keep_or_make(kept, record, partial(_ask, plan, learn, asked, folder, kept), name)
    with np.load(kept, allow_pickle=False) as stored:
        return stored["levels"]


def _ask(
    plan: TrainingPlan | SorterPlan, learn: pd.DataFrame, asked: pd.DataFrame, folder: Path, kept: Path
) -> None:
    keras.utils.clear_session()  # else the graphs of all trainings stay in memory
    if isinstance(plan, SorterPlan):
        sorter, _ = train_sorter(plan, learn, folder, kept.parent, "held out")
        tumor = sort_stored(sorter.network, asked, folder)[:, sorter.regions.index("liver_with_tumor")]
        levels = quantize(tumor)[:, None, None, None]
    else:
        network, _ = train_network(plan, learn, None, folder, kept.parent)
        levels = predict_planes(network, stored_rows(asked, folder, stored_pictures))
    packed = io.BytesIO()
    np.savez_compressed(packed, levels=levels)
    write_atomically(kept, packed.getvalue())
    for weights in kept.parent.glob("*.safetensors"):  # those of a full run would fill the disk
        weights.unlink()


def stored_rows(slices: pd.DataFrame, folder: Path, read=stored_labels) -> Iterator[np.ndarray]:
    """Pictures or labels of the rows of `slices`, one after another."""
    opened = lru_cache(maxsize=OPEN_FILES)(partial(read, folder))
    for array, index in zip(slices["array"], slices["array_index"], strict=True):
        yield opened(array)[index]


BUDGET = ("target", "picture_size", "n_train_patients", "n_slices", "slices_seen", "batch_size", "loss")
"""What has to agree for a difference in score to be one of the networks."""

COST = ("epochs", "seconds", "peak_memory_mb")  # what a training took; may differ


def training_facts_table(models: Iterable[Path]) -> pd.DataFrame:
    """A row a model folder: system, architecture, parameters, and the facts of BUDGET and COST.

    A fact that an older model.json does not hold is NaN. Raises InputError where no model.json can be read.
    """
    rows = []
    for folder in models:
        try:
            model = json.loads((folder / "model.json").read_bytes())
            model_columns = {name: model[name] for name in ("system", "architecture", "parameters", "target")}
            rows.append(model["training"] | model_columns | {"picture_size": model["recipe"]["size"]})
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            problem = f"does not describe a model ({type(error).__name__}: {error})."
            raise InputError(folder / "model.json", problem, "Train the system again.") from error
    return pd.DataFrame(rows).reindex(columns=["system", "architecture", "parameters", *BUDGET, *COST])


def budget_remarks(facts: pd.DataFrame) -> pd.Series:
    """For each row in what it departs from the others: "" or such as "slices_seen 1440, not 4800".

    The measure is what most systems have; among equals the one that comes first. Missing reads "unknown".
    """
    remarks = pd.DataFrame("", facts.index, list(BUDGET))
    for name in BUDGET:
        if facts[name].notna().any():
            texts = facts[name].map(lambda value: f"{value:.0f}" if isinstance(value, float) else f"{value}")
            usual = texts[facts[name] == facts[name].value_counts(sort=False).idxmax()].iloc[0]
            other = f"{name} " + texts + f", not {usual}"
            remarks[name] = other.where(facts[name].notna(), f"{name} unknown").where(texts != usual, "")
    return remarks.agg(lambda row: "; ".join(filter(None, row)), axis=1).astype(str)


def record_evaluations(
    found: Iterable[tuple[ScoredSystem, Evaluation]], folders: RunFolders, seed: int
) -> pd.DataFrame:
    """Bring patients.csv, slices.csv, slices_summary.csv, lits_scores.csv, lesions.csv, lesions_by_size.csv
    and systems.csv up to date: rows of the given systems are replaced, others stay. Returns systems.csv."""
    found, tables = list(found), folders.tables
    bootstrap_seed = derived_seed(seed, "bootstrap")
    patients = pd.DataFrame([row for _, evaluation in found for row in evaluation.patients])
    replace_systems(tables / "patients.csv", patients)
    slices = pd.concat([part for _, evaluation in found for part in evaluation.slices], ignore_index=True)
    replace_systems(tables / "slices.csv", slices.round(4))  # the largest table of a report
    means = [
        {"system": system, "structure": structure, **summarize_slices(group)}
        for (system, structure), group in slices.groupby(["system", "structure"], sort=False)
    ]
    replace_systems(tables / "slices_summary.csv", pd.DataFrame(means))
    lits = [row for system, evaluation in found for row in lits_rows(system, evaluation)]
    replace_systems(tables / "lits_scores.csv", pd.DataFrame(lits))
    of_tumors = {e.system: pd.concat(e.lesions, ignore_index=True) for _, e in found if e.lesions}
    if of_tumors:  # systems that outline livers alone have no rows
        lesions = pd.concat(of_tumors.values(), ignore_index=True)
        replace_systems(tables / "lesions.csv", lesions, of_tumors)
        sizes = {name: summarize_sizes(rows, seed=bootstrap_seed) for name, rows in of_tumors.items()}
        by_size = pd.concat(sizes, names=["system", None]).reset_index(level="system")
        replace_systems(tables / "lesions_by_size.csv", by_size)
    rows = [row for system, evaluation in found for row in systems_rows(system, evaluation, bootstrap_seed)]
    return update_systems_table(tables / "systems.csv", rows)


def best_median_worst_patients(
    system: ScoredSystem, cases: Iterable[Case], run: NotebookRun, recipe: Recipe
) -> list[Figure]:
    """Outlines of a system's best, median and worst test patient by Dice, a figure a structure that any
    shows: the slice with most of it, in the window of `recipe`, truth solid, prediction dashed."""
    by_id, name = {case.case_id: case for case in cases}, system.system
    scores = read_table(run.folders.tables / "patients.csv").astype({"case": str})
    scores = scores[(scores.system == name) & ~scores.is_empty]
    figures = []
    for structure in system.structures:
        dice = scores[scores.structure == structure].set_index("case").dice
        if len(dice):
            figure = best_median_worst(dice, structure, by_id, run.folders.predictions(name), recipe)
            caption = f"{name}, {structure}: best, median and worst test patient by Dice."
            figures.append(run.figure(f"best_median_worst_{name}_{structure}", figure, caption))
    return figures
