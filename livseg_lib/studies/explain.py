"""Why there, and can such answers be trusted? Networks of a run asked about slices, their maps checked.

Seg-Grad-CAM maps are held against random weights, edges and the true outlines; uncertainty is tried as a
warning of wrong pixels near an outline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt
from skimage.filters import sobel
from tqdm import tqdm

from livseg_lib.datasets.case import Case, read_each
from livseg_lib.evaluation.statistics import mean_with_interval
from livseg_lib.inference import explain, explained_slice
from livseg_lib.inference.cascade import Cascade, NetworkPart, load_system
from livseg_lib.inference.explained_slice import SliceView, outlined, outlined_labels, view_slice
from livseg_lib.inference.predict import predict_batches, predict_planes, stored_labels, stored_pictures
from livseg_lib.inference.variants import predictive_entropy
from livseg_lib.labels import LIVER, structure_mask
from livseg_lib.models import MODELS, keras
from livseg_lib.preprocessing.geometry import BOXES
from livseg_lib.preprocessing.recipe import OWN_PICTURE, Recipe, channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.runs import RunFolders
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, load_prediction


@dataclass(frozen=True)
class ExplainedNetwork:
    """A network, and where the system that it belongs to lets it look."""

    trained: TrainedModel
    system: str  # whose predictions say where the liver is
    region: str = "scan"  # one of `preprocessing.geometry.BOXES`
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
        region = BOXES[self.region](liver, volume.spacing_mm, self.margin_mm)
        if region is None or not region[0].start <= index < region[0].stop:
            return None
        return view_slice(self.trained, volume, index, region, liver)


def find_networks(folders: RunFolders, systems: Sequence[str], structure: str) -> list[ExplainedNetwork]:
    """The networks of `systems` that outline `structure`, in the order of the catalogue, cascades' last.

    Of a cascade the last one that does, and each once. One that is used by its graph has no layers: left out.
    """
    found: dict[str, ExplainedNetwork] = {}
    for name in systems:
        system = load_system(folders.model(name))
        networks = [ExplainedNetwork(system, name)]
        if isinstance(system, Cascade):
            steps = [step for step in system.steps if isinstance(step.part, NetworkPart)]
            networks = [ExplainedNetwork(s.part.trained, name, s.region, s.margin_mm) for s in steps]
        networks = [each for each in networks if structure in each.trained.structures]
        for network in networks[-1:]:
            if hasattr(network.trained.network, "layers"):
                found.setdefault(network.name, network)
    order = list(MODELS)
    return sorted(found.values(), key=lambda n: (n.region != "scan", order.index(n.trained.architecture)))


@dataclass(frozen=True)
class ShownSlice:
    """A slice to be explained; those chosen to be looked at have a rank, a Dice and a picture."""

    case: Case
    index: int  # from the feet
    volume: Volume
    truth: np.ndarray  # labels 0/1/2, (H, W)
    rank: str = ""  # why it was chosen, such as "best"
    dice: float = np.nan  # of the whole patient, by the system that chose the slice
    grey: np.ndarray | None = None  # uint8 (H, W)


def choose_slices(
    system: str,
    structure: str,
    patients: pd.DataFrame,
    cases: Sequence[Case],
    folders: RunFolders,
    recipe: Recipe,
) -> list[ShownSlice]:
    """The best and the worst patient's slice with most of `structure`, and the largest false alarm.

    `patients` are the rows of patients.csv; `recipe` says in which window slices are shown. A false alarm is
    a slice of which `system` outlines something although it shows none. What there is not is left out.
    """
    scores = patients[(patients.system == system) & (patients.structure == structure)]
    dice = scores.set_index(scores.case.astype(str)).dice
    by_id, fullest, alarms = {case.case_id: case for case in cases}, {}, []
    for case, volume, truth in read_each(cases, "slices to explain"):
        true = structure_mask(truth, structure).sum(axis=(1, 2))
        labels = load_prediction(volume, folders.predictions(system), case.case_id)
        invented = np.where(true > 0, 0, structure_mask(labels, structure).sum(axis=(1, 2)))
        fullest[case.case_id] = int(true.argmax())
        alarms.append((int(invented.max()), case.case_id, int(invented.argmax())))
    ranked = dice[~scores.is_empty.to_numpy(bool)].dropna().sort_values(kind="stable").index
    ranks = (("best", ranked[1:][-1:]), ("worst", ranked[:1]))
    chosen = [(rank, name, fullest[name]) for rank, names in ranks for name in names]
    size, *alarm = max(alarms, key=lambda each: each[0], default=(0,))
    chosen += [("false alarm", *alarm)] if size else []
    shown = []
    for rank, name, index in chosen:
        case, volume = by_id[name], by_id[name].read_volume()
        grey = apply_window(volume.voxels[index], channel_windows(volume.voxels, recipe)[0])
        truth = case.read_labels(volume)[index]
        shown.append(ShownSlice(case, index, volume, truth, rank, dice.get(name, np.nan), grey))
    return shown


class AskedSlice(NamedTuple):
    """What one network says of a slice."""

    structure: str
    view: SliceView
    answer: np.ndarray  # probabilities in its picture, float32 (s, s, K)
    truth: np.ndarray  # the structure there, bool (s, s)
    region: np.ndarray
    """Pixels to ask about, bool (s, s): what it outlines, or the truth where that is nothing."""

    @property
    def labels(self) -> np.ndarray:
        """What it outlines on the scan's slice: 0/1/2, uint8 (H, W)."""
        planes = [self.view.onto_scan(plane) for plane in np.moveaxis(self.answer, -1, 0)]
        return outlined_labels(self.view.trained, np.stack(planes, axis=-1))

    @property
    def channel(self) -> int:
        """Of the structure in the network's output."""
        return self.view.trained.structures.index(self.structure)

    def heat(self, layer: str | None = None) -> np.ndarray:
        """Seg-Grad-CAM at a layer, by default the bottleneck, on the scan's slice: float32 (H, W)."""
        view, pixels = self.view, self.view.only_slice(self.region)[np.newaxis]
        [heat] = explain.seg_grad_cam(view.trained.network, view.images, pixels, self.channel, layer)
        return view.onto_scan(view.of_slice(heat))

    def occlusion(
        self, truth: np.ndarray, sizes_mm: tuple[float, float], sizes_pixels: tuple[int, int]
    ) -> np.ndarray:
        """The fall of the mean probability where a patch covers the slice, float32 (H, W), -1 to 1.

        For a network of pictures. Over tumours patches have the mean grey of the liver in `truth`, labels
        (H, W), so that a covered one looks healthy, else that of the picture. `sizes` are of a patch and from
        one to the next: millimetres where the scan's spacing is known, else pixels of the picture.
        """
        view, sizes = self.view, [(size, size) for size in sizes_pixels]
        if np.isfinite(view.pixel_mm).all():
            sizes = [explain.pixels_of(size, view.pixel_mm) for size in sizes_mm]
        healthy = view.onto_picture(truth == LIVER) & (self.structure == "tumor")
        fill = view.pictures[healthy].mean(axis=0) if healthy.any() else None
        network = view.trained.network
        drops = explain.occlusion_drops(network, view.pictures, self.region, *sizes, self.channel, fill)
        return view.onto_scan(drops)


def ask_slice(
    network: ExplainedNetwork, shown: ShownSlice, structure: str, folders: RunFolders
) -> AskedSlice | None:
    """The network's answer to a slice; None where its system never shows it the slice."""
    labels = load_prediction(shown.volume, folders.predictions(network.system), shown.case.case_id)
    view = network.view(shown.volume, shown.index, labels)
    if view is None:
        return None
    answer, truth = view.answer(), view.onto_picture(structure_mask(shown.truth, structure))
    found = outlined(view.trained, answer, structure)
    return AskedSlice(structure, view, answer, truth, found if found.any() else truth)


@dataclass
class AskedPictures:
    """What one network is asked about: a picture of each patient that has the structure, and sees it."""

    network: ExplainedNetwork
    structure: str
    slices: list[AskedSlice] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    """Patients whose slice the network's system never shows it."""

    def signed_maps(self, network: keras.Model) -> list[np.ndarray]:
        """Signed Seg-Grad-CAM of each picture at the bottleneck of `network`, float32 (s, s), -1 to 1."""
        # Blocks of slices are asked about one by one: their gradients fill the memory.
        together = 1 if any(each.view.place is not None for each in self.slices) else 8
        maps = []
        for start in range(0, len(self.slices), together):
            some = self.slices[start : start + together]
            images = np.concatenate([each.view.images for each in some])
            pixels = np.stack([each.view.only_slice(each.region) for each in some])
            maps += list(explain.seg_grad_cam(network, images, pixels, some[0].channel, signed=True))
        return [each.view.of_slice(found) for each, found in zip(self.slices, maps, strict=True)]


def gather_pictures(
    networks: Sequence[ExplainedNetwork], cases: Sequence[Case], structure: str, folders: RunFolders
) -> list[AskedPictures]:
    """For each network the slice of each case with most of `structure`; cases without it are left out.

    Each scan is read once.
    """
    gathered = [AskedPictures(network, structure) for network in networks]
    for case, volume, labels in read_each(cases, "pictures"):
        sizes = structure_mask(labels, structure).sum(axis=(1, 2))
        shown = ShownSlice(case, int(sizes.argmax()), volume, labels[sizes.argmax()])
        for each in gathered if sizes.any() else ():
            answered = ask_slice(each.network, shown, structure, folders)
            if answered is None or not answered.truth.any():
                each.unseen.append(case.patient)
            else:
                each.slices.append(answered)
    return gathered


def check_network(asked: AskedPictures, steps: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of explain_sanity.csv and of explain_pointing.csv for one network.

    Its layers are made random from the output down, in `steps` about equal steps besides the first layer
    alone. Sanity, a row a step: system, architecture, structure, randomized_layers, layers, randomized_last,
    rank_correlation of the signed maps with those of the trained network, absolute_correlation (a map upside
    down shows the same places) and similarity (SSIM of the maps' positive part), means over pictures;
    n_pictures, n_undefined (a signed map the same everywhere). Pointing: see `pointing_rows`.
    """
    trained = asked.network.trained
    names = {"system": asked.network.name, "architecture": trained.architecture, "structure": asked.structure}
    layers = explain.count_layers(trained.network)
    chosen_counts = {1, *np.linspace(0, layers, steps + 1).round().astype(int).tolist()}
    sanity, original, maps = [], [], []
    for step in explain.randomize_from_output(trained.network, seed):
        if step.count in chosen_counts:
            maps = asked.signed_maps(step.network)
            original = original or maps
            counted = {"randomized_layers": step.count, "layers": layers, "randomized_last": step.layer}
            sanity.append(names | counted | _similarities(original, maps))
    pointing = [names | row for row in pointing_rows(asked, original, maps, seed)]
    return pd.DataFrame(sanity), pd.DataFrame(pointing)


def _similarities(original: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> dict:
    pairs = list(zip(original, maps, strict=True))
    ranks = [explained_slice.rank_correlation(*pair) for pair in pairs]
    similar = [explained_slice.map_similarity(positive(first), positive(second)) for first, second in pairs]
    values = {"rank_correlation": ranks, "absolute_correlation": np.abs(ranks), "similarity": similar}
    counts = {"n_pictures": len(pairs), "n_undefined": int(np.isnan(ranks).sum())}
    return pd.DataFrame(values, dtype=float).mean().to_dict() | counts


def pointing_rows(
    asked: AskedPictures, trained: Sequence[np.ndarray], random: Sequence[np.ndarray], seed: int
) -> Iterator[dict]:
    """How much of each kind of map lies in the truth: a row a kind, means over pictures, one a patient.

    kind, energy_share with its 95 % bootstrap interval (_low, _high), pointing_hit (share of pictures whose
    highest place is in the truth), n_pictures, n_undefined. A map that is the same everywhere has the truth's
    share of the picture: chance. Edges, by Sobel of the first window, know no network (Adebayo et al. 2018).
    """
    views, truths = ([getattr(each, field) for each in asked.slices] for field in ("view", "truth"))
    kinds = {
        "as trained": map(positive, trained),
        "random weights": map(positive, random),
        "edges of the picture": (sobel(np.float32(v.of_slice(v.pictures)[..., 0])) for v in views),
        "the same everywhere": (np.ones_like(truth, np.float32) for truth in truths),
    }
    for name, maps in kinds.items():
        pairs = list(zip(maps, truths, strict=True))
        shares = [explained_slice.energy_share(*pair) for pair in pairs]
        hits = [explained_slice.pointing_hit(*pair) for pair in pairs]
        row = {"kind": name} | mean_with_interval("energy_share", shares, range(len(shares)), seed=seed)
        row["pointing_hit"] = pd.Series(hits, dtype=float).mean()
        yield row | {"n_pictures": len(shares), "n_undefined": int(np.isnan(shares).sum())}


def positive(signed: np.ndarray) -> np.ndarray:
    """What speaks for the structure in a signed map, 0 to 1; 0 everywhere where nothing does."""
    cut = np.maximum(signed, 0)
    return cut / cut.max() if cut.any() else cut


def who_warns(networks: Sequence[ExplainedNetwork], recipe: Recipe) -> list[TrainedModel]:
    """The first network that sees pictures by `recipe` as they are, and all others like it of its target.

    None where no network does.
    """
    whole = [network.trained for network in networks if network.region == "scan"]
    seeing = [each for each in whole if (each.recipe, each.inputs) == (recipe, OWN_PICTURE)]
    return [each for each in seeing if each.target == seeing[0].target]


def study_warnings(
    models: Sequence[TrainedModel],
    cases: Sequence[Case],
    folder: Path,
    structure: str,
    variants: Sequence[str],
    near_pixels: float,
    slices_each: int,
) -> pd.DataFrame:
    """ROC-AUC of each warning for wrong pixels of the first of `models`, a row a case and warning.

    Of each case up to `slices_each` of the extracted slices in `folder` that it outlines something of, and
    in them the pixels up to `near_pixels` from its outline: what it misses elsewhere no map can warn of
    here. Columns: patient, case, structure, source, measure, roc_auc, n_pixels, n_wrong. A warning is a
    source, the answer itself, `variants` of the picture or all `models`, and a measure; beside them stands
    how near a pixel is to the outline. Cases of which nothing is outlined have rows with NaN.
    """
    rows, trained = [], models[0]
    for case in tqdm(list(cases), "uncertainty", unit="patient"):
        pictures, truth = stored_pictures(folder, case.case_id), stored_labels(folder, case.case_id)
        found = outlined(trained, predict_planes(trained.network, pictures) / np.float32(255), structure)
        shown = np.flatnonzero(found.any(axis=(1, 2)))
        chosen = shown[np.linspace(0, len(shown) - 1, min(len(shown), slices_each)).round().astype(int)]
        found, reference = found[chosen], structure_mask(np.asarray(truth[chosen]), structure)
        both = [distance_transform_edt(mask) + distance_transform_edt(~mask) for mask in found]
        distance = np.reshape(both, found.shape).astype(np.float32) - np.float32(0.5)  # 0.5 on either side
        warnings = _warnings(models, pictures[chosen], structure, variants)
        warnings["outline", "nearness"] = -distance
        near = distance <= near_pixels
        wrong = found[near] != reference[near]
        identity = {"patient": case.patient, "case": case.case_id, "structure": structure}
        for (source, measure), warning in warnings.items():
            row = identity | {"source": source, "measure": measure}
            row["roc_auc"] = explained_slice.warning_auc(warning[near], wrong)
            rows.append(row | {"n_pixels": len(wrong), "n_wrong": np.count_nonzero(wrong)})
    return pd.DataFrame(rows)


def _warnings(
    models: Sequence[TrainedModel], pictures: np.ndarray, structure: str, variants: Sequence[str]
) -> dict[tuple[str, str], np.ndarray]:
    """(source, measure) -> float32 (n, s, s)."""
    images = pictures / np.float32(255)
    ask, *others = (partial(_probability, each, structure) for each in models)
    answer, sources = ask(images), {}
    if variants:
        sources["variants"] = explain.over_variants(ask, images, variants)
    if others:
        sources["models"] = explain.over_models(chain([answer], (other(images) for other in others)))
    found = {("one answer", "entropy"): predictive_entropy(answer)[..., 0]}
    for source, uncertainty in sources.items():
        found[source, "entropy"] = uncertainty.entropy[..., 0]
        found[source, "deviation"] = uncertainty.deviation[..., 0]
    return found


def _probability(trained: TrainedModel, structure: str, images: np.ndarray) -> np.ndarray:
    """Of one structure, float32 (n, s, s, 1), in pictures float32 (n, s, s, C), 0 to 1."""
    channel = trained.structures.index(structure)
    parts = list(predict_batches(trained.network, images * np.float32(255)))
    found = np.concatenate(parts) if parts else np.zeros((*images.shape[:-1], channel + 1), np.float32)
    return found[..., channel : channel + 1].clip(0, 1)
