"""Are Seg-Grad-CAM maps worth anything here? Against random weights, edges, and the true outlines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import pandas as pd
from skimage.filters import sobel
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.probabilities.saliency import (
    energy_share,
    map_similarity,
    pointing_hit,
    rank_correlation,
)
from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval
from livseg_lib.experiments.explanations.explained_networks import ExplainedNetwork
from livseg_lib.inference.explain.sanity import count_layers, randomize_from_output
from livseg_lib.inference.explain.seg_grad_cam import seg_grad_cam
from livseg_lib.inference.explain.slice_view import SliceView, outlined
from livseg_lib.labels import structure_mask
from livseg_lib.paths import RunFolders
from livseg_lib.predictions import load_prediction

TRAINED, RANDOM, EDGES, EVEN = "as trained", "random weights", "edges of the picture", "the same everywhere"
"""Maps that are held against the truth."""

PICTURES_AT_ONCE = 8
"""Blocks of slices are asked about one by one: their gradients fill the memory."""


@dataclass
class AskedPictures:
    """What one network is asked about: a picture of each patient that has the structure, and sees it."""

    network: ExplainedNetwork
    structure: str
    patients: list[str] = field(default_factory=list)
    views: list[SliceView] = field(default_factory=list)
    truths: list[np.ndarray] = field(default_factory=list)
    """bool (s, s), the structure in the picture."""
    regions: list[np.ndarray] = field(default_factory=list)
    """bool (s, s), the pixels whose logits are explained (`ask`)."""
    unseen: list[str] = field(default_factory=list)
    """Patients whose slice the network's system never shows it."""

    def add_slice(self, patient: str, view: SliceView | None, truth: np.ndarray) -> None:
        """One more picture; truth is bool (H, W) on the scan's slice."""
        seen = None if view is None else view.onto_picture(truth)
        if seen is None or not seen.any():
            self.unseen.append(patient)
            return
        self.patients.append(patient)
        self.views.append(view)
        self.truths.append(seen)

    def ask(self) -> None:
        """Fill `regions`: what the network outlines, or the truth where that is nothing."""
        network = self.network.trained.network
        answers = self.in_batches(lambda images, _: np.asarray(network(images, training=False)))
        found = [outlined(self.network.trained, answer, self.structure) for answer in answers]
        self.regions = [f if f.any() else truth for f, truth in zip(found, self.truths, strict=True)]

    def in_batches(self, maps_of: Callable[[np.ndarray, slice], np.ndarray]) -> list[np.ndarray]:
        """The slices' own part of what `maps_of` (images, which of them) gives for all pictures."""
        together = 1 if any(view.place is not None for view in self.views) else PICTURES_AT_ONCE
        maps = []
        for start in range(0, len(self.views), together):
            some = slice(start, start + together)
            maps += list(maps_of(np.concatenate([view.images for view in self.views[some]]), some))
        return [view.of_slice(each) for view, each in zip(self.views, maps, strict=True)]

    @property
    def channel(self) -> int:
        """Of the structure in the network's output."""
        return self.network.trained.structures.index(self.structure)


def gather_pictures(
    networks: Sequence[ExplainedNetwork], cases: Sequence[Case], structure: str, folders: RunFolders
) -> list[AskedPictures]:
    """For each network the slice of each case with most of `structure`; cases without it are left out.

    Asked about are the pixels that the network outlines, or the true ones where it outlines none. Each scan
    is read once.
    """
    asked = [AskedPictures(network, structure) for network in networks]
    for case in tqdm(list(cases), "pictures", unit="patient"):
        volume = case.read_volume()
        truth = structure_mask(case.read_labels(volume), structure)
        if not truth.any():
            continue
        index = int(truth.sum(axis=(1, 2)).argmax())
        for each in asked:
            labels = load_prediction(volume, folders.predictions(each.network.system), case.case_id)
            each.add_slice(case.patient, each.network.view(volume, index, labels), truth[index])
    for each in asked:
        each.ask()
    return asked


def signed_maps(asked: AskedPictures, network: keras.Model | None = None) -> list[np.ndarray]:
    """Signed Seg-Grad-CAM of each picture at the bottleneck, float32 (s, s), -1 to 1.

    `network` is asked in place of the trained one, about the same pixels.
    """
    network = asked.network.trained.network if network is None else network
    pixels = [view.only_slice(each) for view, each in zip(asked.views, asked.regions, strict=True)]

    def explain(images: np.ndarray, some: slice) -> np.ndarray:
        return seg_grad_cam(network, images, np.stack(pixels[some]), asked.channel, signed=True)

    return asked.in_batches(explain)


def check_network(asked: AskedPictures, steps: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of explain_sanity.csv and of explain_pointing.csv for one network.

    Its layers are made random from the output down, in `steps` about equal steps besides the first layer
    alone. Sanity, a row a step: system, architecture, structure, randomized_layers, layers, randomized_last,
    rank_correlation of the signed maps with those of the trained network, absolute_correlation (a map upside
    down shows the same places) and similarity (SSIM of the maps' positive part), means over pictures;
    n_pictures, n_undefined (a signed map the same everywhere). Pointing: see `pointing_rows`.
    """
    whose = {
        "system": asked.network.name,
        "architecture": asked.network.trained.architecture,
        "structure": asked.structure,
    }
    layers = count_layers(asked.network.trained.network)
    wanted = {1, *np.linspace(0, layers, steps + 1).round().astype(int).tolist()}
    sanity, original, maps = [], [], []
    for step in randomize_from_output(asked.network.trained.network, seed):
        if step.count not in wanted:
            continue
        maps = signed_maps(asked, step.network)
        original = original or maps
        counted = {"randomized_layers": step.count, "layers": layers, "randomized_last": step.layer}
        sanity.append(whose | counted | _similarities(original, maps))
    pointing = [whose | row for row in pointing_rows(asked, original, maps, seed)]
    return pd.DataFrame(sanity), pd.DataFrame(pointing)


def _similarities(original: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> dict:
    pairs = list(zip(original, maps, strict=True))
    ranks = [rank_correlation(first, second) for first, second in pairs]
    similar = [map_similarity(positive(first), positive(second)) for first, second in pairs]
    return {
        "rank_correlation": _mean(ranks),
        "absolute_correlation": _mean(np.abs(ranks)),
        "similarity": _mean(similar),
        "n_pictures": len(pairs),
        "n_undefined": int(np.isnan(ranks).sum()),
    }


def pointing_rows(
    asked: AskedPictures, trained: Sequence[np.ndarray], random: Sequence[np.ndarray], seed: int
) -> Iterator[dict]:
    """How much of each kind of map lies in the truth: a row a kind, means over pictures, one a patient.

    kind, energy_share with its 95 % bootstrap interval (energy_share_low, energy_share_high), pointing_hit
    (share of the pictures whose highest place is in the truth), n_pictures, n_undefined. A map that is the
    same everywhere has the truth's share of the picture as its energy share: chance.
    """
    kinds = {
        TRAINED: [positive(each) for each in trained],
        RANDOM: [positive(each) for each in random],
        EDGES: [_edges(view) for view in asked.views],
        EVEN: [np.ones_like(truth, np.float32) for truth in asked.truths],
    }
    for name, maps in kinds.items():
        shares = [energy_share(*pair) for pair in zip(maps, asked.truths, strict=True)]
        hits = [pointing_hit(*pair) for pair in zip(maps, asked.truths, strict=True)]
        low, high = bootstrap_interval(shares, seed=seed) if shares else (np.nan, np.nan)
        yield {
            "kind": name,
            "energy_share": _mean(shares),
            "energy_share_low": low,
            "energy_share_high": high,
            "pointing_hit": _mean(hits),
            "n_pictures": len(shares),
            "n_undefined": int(np.isnan(shares).sum()),
        }


def positive(signed: np.ndarray) -> np.ndarray:
    """What speaks for the structure in a signed map, 0 to 1; 0 everywhere where nothing does."""
    cut = np.maximum(signed, 0)
    return cut / cut.max() if cut.any() else cut


def _edges(view: SliceView) -> np.ndarray:
    """Sobel edges of the slice's first window, which know nothing of any network (Adebayo et al. 2018)."""
    return sobel(view.of_slice(view.pictures)[..., 0].astype(np.float32))


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
