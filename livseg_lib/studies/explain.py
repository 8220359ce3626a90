"""Whether maps of a network's reasons can be trusted.

The networks of a run that outline a structure, alone or in a cascade, and slices to ask them about.

Are Seg-Grad-CAM maps worth anything here? Against random weights, edges, and the true outlines.

One slice explained: each network's map, one network's levels, what covering places takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import pandas as pd
from skimage.filters import sobel
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.saliency import energy_share, map_similarity, pointing_hit, rank_correlation
from livseg_lib.evaluation.statistics import bootstrap_interval
from livseg_lib.inference.cascade import Cascade, NetworkPart
from livseg_lib.inference.explain import (
    count_layers,
    encoder_maps,
    occlusion_drops,
    pixels_of,
    randomize_from_output,
    seg_grad_cam,
)
from livseg_lib.inference.explained_slice import SliceView, outlined, outlined_labels, view_slice
from livseg_lib.inference.systems import System, load_system
from livseg_lib.labels import LIVER, structure_mask
from livseg_lib.models import MODELS
from livseg_lib.preprocessing.geometry import REGIONS
from livseg_lib.preprocessing.recipe import Recipe, channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.studies.explain import Explained
from livseg_lib.runs import RunFolders
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, load_prediction


@dataclass(frozen=True)
class ExplainedNetwork:
    """A network, and where the system that it belongs to lets it look."""

    trained: TrainedModel
    system: str
    """Whose predictions say where the liver is."""
    region: str = "scan"
    """One of `preprocessing.geometry.REGIONS`."""
    margin_mm: float = 0.0

    @property
    def name(self) -> str:
        """Of the network in tables."""
        return self.trained.system

    def view(self, volume: Volume, index: int, labels: np.ndarray) -> SliceView | None:
        """Slice `index` as the network sees it, with `labels` 0/1/2 (D, H, W) as its system gave them.

        The region is drawn around the liver of these finished labels, which may differ by some voxels from
        that of the step before the network. None where it holds no such slice: the network never sees it.
        """
        liver = structure_mask(labels, "liver")
        region = REGIONS[self.region](liver, volume.spacing_mm, self.margin_mm)
        if region is None or not region.start[0] <= index < region.stop[0]:
            return None
        return view_slice(self.trained, volume, index, region, liver)


@dataclass(frozen=True)
class ShownSlice:
    """A slice to be explained."""

    rank: str
    """Why it was chosen, such as "best"."""
    case: Case
    index: int
    """From the feet."""
    dice: float
    """Of the whole patient, by the system that chose the slice."""


def find_networks(folders: RunFolders, systems: Sequence[str], structure: str) -> list[ExplainedNetwork]:
    """The networks of `systems` that outline `structure`, in the order of the catalogue, cascades' last.

    Of a cascade the last one that does; a network that serves several cascades comes once.
    """
    found: dict[str, ExplainedNetwork] = {}
    for name in systems:
        for network in _networks_of(load_system(folders.model(name)), name, structure):
            found.setdefault(network.name, network)
    order = list(MODELS)
    return sorted(found.values(), key=lambda n: (n.region != "scan", order.index(n.trained.architecture)))


def _networks_of(system: System, name: str, structure: str) -> Iterator[ExplainedNetwork]:
    if isinstance(system, Cascade):
        steps = [step for step in system.steps if isinstance(step.part, NetworkPart)]
        for step in [step for step in steps if structure in step.part.structures][-1:]:
            yield ExplainedNetwork(step.part.trained, name, step.region, step.margin_mm)
    elif structure in system.structures:
        yield ExplainedNetwork(system, name)


def choose_slices(
    system: str, structure: str, patients: pd.DataFrame, cases: Sequence[Case], folders: RunFolders
) -> list[ShownSlice]:
    """The best and the worst patient's slice with most of `structure`, and the largest false alarm.

    `patients` are the rows of patients.csv. A false alarm is a slice of which `system` outlines something
    although it shows none; slices that do not exist are left out.
    """
    scores = patients[(patients.system == system) & (patients.structure == structure)]
    dice = scores.set_index(scores.case.astype(str)).dice
    ranked = dice[~scores.is_empty.to_numpy(bool)].dropna().sort_values(kind="stable").index
    by_id, shown = {case.case_id: case for case in cases}, []
    for rank, case_id in {"worst": ranked[:1], "best": ranked[1:][-1:]}.items():
        for case in map(by_id.get, case_id):
            shown.insert(0, ShownSlice(rank, case, fullest_slice(case, structure), dice[case.case_id]))
    return shown + _false_alarm(system, structure, dice, cases, folders)


def fullest_slice(case: Case, structure: str) -> int | None:
    """The slice with most of `structure` in the truth; None where there is none."""
    areas = structure_mask(case.read_labels(case.read_volume()), structure).sum(axis=(1, 2))
    return int(areas.argmax()) if areas.any() else None


def _false_alarm(
    system: str, structure: str, dice: pd.Series, cases: Sequence[Case], folders: RunFolders
) -> list[ShownSlice]:
    largest, shown = 0, []
    for case in cases:
        volume = case.read_volume()
        labels = load_prediction(volume, folders.predictions(system), case.case_id)
        truth = structure_mask(case.read_labels(volume), structure).any(axis=(1, 2))
        areas = np.where(truth, 0, structure_mask(labels, structure).sum(axis=(1, 2)))
        if areas.max() > largest:
            largest = areas.max()
            shown = [ShownSlice("false alarm", case, int(areas.argmax()), dice.get(case.case_id, np.nan))]
    return shown


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


@dataclass(frozen=True)
class SliceToExplain:
    """A slice with all that is asked of it."""

    shown: ShownSlice
    structure: str
    volume: Volume
    grey: np.ndarray
    """uint8 (H, W)."""
    reference: np.ndarray
    """Labels 0/1/2, (H, W)."""
    folders: RunFolders

    def view(self, network: ExplainedNetwork) -> SliceView | None:
        """As `network` sees it, or None where its system never shows it the slice."""
        folder = self.folders.predictions(network.system)
        return network.view(
            self.volume, self.shown.index, load_prediction(self.volume, folder, self.shown.case.case_id)
        )

    def outline(self, view: SliceView, answer: np.ndarray) -> np.ndarray:
        """What an answer, float32 (s, s, K), outlines on the scan's slice: labels, uint8 (H, W)."""
        enlarged = np.stack([view.onto_scan(plane) for plane in np.moveaxis(answer, -1, 0)], axis=-1)
        return outlined_labels(view.trained, enlarged)

    def region(self, view: SliceView, answer: np.ndarray) -> np.ndarray:
        """Pixels to ask about, bool (s, s): what the network outlines, or the truth where that is nothing."""
        found = outlined(view.trained, answer, self.structure)
        return found if found.any() else view.onto_picture(structure_mask(self.reference, self.structure))


def read_slice(shown: ShownSlice, structure: str, recipe: Recipe, folders: RunFolders) -> SliceToExplain:
    """The slice with its truth; `recipe` says in which window it is shown."""
    volume = shown.case.read_volume()
    grey = apply_window(volume.voxels[shown.index], channel_windows(volume.voxels, recipe)[0])
    reference = shown.case.read_labels(volume)[shown.index]
    return SliceToExplain(shown, structure, volume, grey, reference, folders)


def explain_slice(networks: Sequence[ExplainedNetwork], asked: SliceToExplain) -> list[Explained]:
    """Each network's map at its bottleneck on the scan's slice; networks that never see it are left out."""
    tiles = []
    for network in networks:
        view = asked.view(network)
        if view is None:
            continue
        answer = view.answer()
        labels = asked.outline(view, answer)
        heat = _map(asked, view, asked.region(view, answer), None)
        found = structure_mask(labels, asked.structure).any()
        remark = "" if found and heat.any() else "\nempty map" if found else "\nno outline"
        tiles.append(Explained(network.name + remark, heat, labels))
    return tiles


def explain_levels(network: ExplainedNetwork, asked: SliceToExplain) -> dict[str, np.ndarray]:
    """The network's map at each level of its encoder, finest first: title -> float32 (H, W)."""
    view = asked.view(network)
    region = asked.region(view, view.answer())
    return {
        f"{level.name} ({' x '.join(map(str, level.grid))})": _map(asked, view, region, level.name)
        for level in encoder_maps(network.trained.network)
    }


def occlude_slice(
    network: ExplainedNetwork,
    asked: SliceToExplain,
    patch_mm: float,
    stride_mm: float,
    patch_pixels: int,
    stride_pixels: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(what the network outlines, labels uint8 (H, W); the fall of the mean probability, float32 (H, W)).

    For a network of pictures. Over tumours patches have the mean grey of the liver, so that a covered one
    looks healthy, else that of the picture. They are millimetres where the scan's spacing is known, else
    pixels of the picture.
    """
    view = asked.view(network)
    answer = view.answer()
    region = asked.region(view, answer)
    if np.isfinite(view.pixel_mm).all():
        patch, stride = pixels_of(patch_mm, view.pixel_mm), pixels_of(stride_mm, view.pixel_mm)
    else:
        patch, stride = (patch_pixels,) * 2, (stride_pixels,) * 2
    healthy = view.onto_picture(asked.reference == LIVER) & (asked.structure == "tumor")
    fill = view.pictures[healthy].mean(axis=0) if healthy.any() else None
    channel = network.trained.structures.index(asked.structure)
    drops = occlusion_drops(network.trained.network, view.pictures, region, patch, stride, channel, fill)
    return asked.outline(view, answer), view.onto_scan(drops)


def _map(asked: SliceToExplain, view: SliceView, region: np.ndarray, layer: str | None) -> np.ndarray:
    trained = view.trained
    pixels = view.only_slice(region)[np.newaxis]
    channel = trained.structures.index(asked.structure)
    [heat] = seg_grad_cam(trained.network, view.images, pixels, channel, layer)
    return view.onto_scan(view.of_slice(heat))
