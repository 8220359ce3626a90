"""One slice explained: each network's map, one network's levels, what covering places takes away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from livseg_lib.experiments.explanations.explained_networks import ExplainedNetwork, ShownSlice
from livseg_lib.inference.explain.map_layers import encoder_maps
from livseg_lib.inference.explain.occlusion import occlusion_drops, pixels_of
from livseg_lib.inference.explain.seg_grad_cam import seg_grad_cam
from livseg_lib.inference.explain.slice_view import SliceView, outlined, outlined_labels
from livseg_lib.labels import LIVER, structure_mask
from livseg_lib.paths import RunFolders
from livseg_lib.predictions import load_prediction
from livseg_lib.preprocessing import Recipe
from livseg_lib.preprocessing.prepare import channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.studies.explain import Explained
from livseg_lib.volumes import Volume


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
