"""Everything that decides about one training, besides its patients."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from livseg_lib.labels import TARGETS
from livseg_lib.models import MODELS
from livseg_lib.preprocessing.network_input import OWN_PICTURE, NetworkInput
from livseg_lib.provenance import code_of
from livseg_lib.runs import derived_seed
from livseg_lib.sampling.augmentation import AUGMENTATIONS
from livseg_lib.sampling.batches import SliceBatches
from livseg_lib.sampling.block_batches import BlockBatches
from livseg_lib.sampling.selection import (
    cases_without_liver,
    require_structures,
    resolve_choice,
    select_slices,
)
from livseg_lib.training.fit import FitSettings, Stage, fit
from livseg_lib.training.losses import CLASS_LOSSES, LOSSES, loss_options

REGISTRIES = (MODELS, LOSSES, CLASS_LOSSES, AUGMENTATIONS)
"""Where names are looked up: a new entry changes none of the others."""


@dataclass(frozen=True)
class TrainingPlan:
    """A network of the catalogue, what it learns from, and how. Two plans that differ only in the
    network see the same slices for as long: that is what makes a comparison fair."""

    system: str
    """Its name in tables."""
    architecture: str
    """Its name in the catalogue `livseg_lib.models.MODELS`."""
    target: str
    """"liver", "tumor" or "both"."""
    stages: tuple[Stage, ...]
    options: dict = field(default_factory=dict)
    """Of `build_model`."""
    inputs: NetworkInput = OWN_PICTURE
    """What it sees besides a slice's own picture."""
    depth: int | None = None
    """Slices of a block, for a network that sees blocks (system E); None: single slices."""
    batch_size: int = 8
    slices_per_epoch: int | None = None
    """A smaller set comes round again; None takes each slice once. Blocks, where there is a depth."""
    slice_choice: str = "auto"
    negative_ratio: float = 1.0
    augmentation: str = "light"
    loss: str = "bce_dice"
    loss_options: dict = field(default_factory=dict)
    """Of `get_loss`."""
    schedule: str = "cosine"
    plateau_patience: int = 0
    early_stopping_patience: int = 0
    seed: int = 0
    """Root seed of the run."""

    @property
    def structures(self) -> tuple[str, ...]:
        """The channels of the network's output, in order."""
        return TARGETS[self.target]

    @property
    def fit_settings(self) -> FitSettings:
        """The part that `fit` follows."""
        names = ("stages", "loss", "loss_options", "schedule", "plateau_patience", "early_stopping_patience")
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
        what = (slices, folder, self.target)
        if self.depth:
            return BlockBatches(*what, self.depth, self.batch_size, blocks_per_epoch=an_epoch, **settings)
        return SliceBatches(*what, self.batch_size, inputs=self.inputs, slices_per_epoch=an_epoch, **settings)

    def description(self) -> dict:
        """JSON-ready: tells one training from another."""
        return asdict(self)

    def code(self) -> dict[str, str]:
        """Digests of the code that trains by this plan."""
        loss_options(self.loss)  # refuses an unknown name
        return {
            "network": code_of(MODELS[self.architecture]),
            "loss": code_of(LOSSES[self.loss]),
            "augmentation": code_of(AUGMENTATIONS[self.augmentation]),
            "training": code_of(fit, type(self), SliceBatches, BlockBatches, apart=REGISTRIES),
        }
