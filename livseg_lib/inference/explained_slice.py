"""One slice as a network sees it, in a picture, a stack or a block; and what a map over it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from sklearn.metrics import roc_auc_score

from livseg_lib.inference.predict import stream_blocks
from livseg_lib.labels import STRUCTURE_LABELS
from livseg_lib.models import keras
from livseg_lib.preprocessing import geometry
from livseg_lib.preprocessing.recipe import channel_windows, prepare_labels, prepare_slice
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two maps of one shape, -1 to 1; NaN where one is the same everywhere. The
    similarity of Adebayo et al. 2018 (arXiv:1810.03292)."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(spearmanr(first, second, axis=None).statistic)


def map_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """SSIM of two maps 0 to 1, (H, W); 1 where they are equal, NaN where one is the same everywhere. Wang et
    al. 2004 (doi:10.1109/TIP.2003.819861)."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(structural_similarity(first, second, data_range=1.0))


def pointing_hit(heat: np.ndarray, truth: np.ndarray) -> float:
    """1.0 where the highest place of `heat` lies in `truth`, else 0.0 (pointing game, Zhang et al. 2016,
    arXiv:1608.00507); of several highest places the share in it.

    NaN where the truth is empty or `heat` the same everywhere.
    """
    if not truth.any() or np.ptp(heat) == 0:
        return np.nan
    return float(truth[heat == heat.max()].mean())


def energy_share(heat: np.ndarray, truth: np.ndarray) -> float:
    """Share of the sum of `heat`, which is nowhere negative, in `truth`, 0 to 1 (Wang et al. 2020,
    arXiv:1910.01279). NaN where the truth is empty or `heat` 0 everywhere."""
    total = heat.sum(dtype=float)
    return float(heat[truth].sum(dtype=float) / total) if truth.any() and total > 0 else np.nan


def warning_auc(warning: np.ndarray, wrong: np.ndarray) -> float:
    """ROC-AUC of `warning`, floats, for what is `wrong`, bool of its shape: 0.5 is chance. NaN where all is
    wrong or nothing is."""
    if wrong.all() or not wrong.any():
        return np.nan
    return float(roc_auc_score(wrong.ravel(), warning.ravel()))


@dataclass(frozen=True)
class SliceView:
    """What a network is asked about a slice; `s` is the side of its pictures."""

    trained: TrainedModel
    pictures: np.ndarray  # uint8 (s, s, C), or the block (d, s, s, C) around the slice
    place: int | None  # of the slice in the block; None where there is no block
    region: geometry.Box  # what of the scan is in the picture
    slice_shape: tuple[int, int]  # of the scan, (H, W)
    spacing_mm: geometry.Spacing

    @property
    def images(self) -> np.ndarray:
        """The network's input: float32 (1, s, s, C) or (1, d, s, s, C), 0 to 1."""
        return self.pictures[np.newaxis] / np.float32(255)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Size of a pixel of the picture, down and across; NaN where the scan's is unknown."""
        (_, height, width), (_, down, across) = self._grid()
        shrunk = max(height, width) / self.trained.recipe.size
        return down * shrunk, across * shrunk

    def answer(self) -> np.ndarray:
        """Probabilities of the slice, float32 (s, s, K)."""
        output = self.trained.network(self.images, training=False)
        return self.of_slice(keras.ops.convert_to_numpy(output)[0])

    def of_slice(self, maps: np.ndarray) -> np.ndarray:
        """The slice's own part of maps of its picture or block."""
        return maps if self.place is None else maps[self.place]

    def only_slice(self, mask: np.ndarray) -> np.ndarray:
        """A mask bool (s, s) as one of the network's input, (s, s) or (d, s, s): other slices are False."""
        if self.place is None:
            return mask
        block = np.zeros(self.pictures.shape[:-1], bool)
        block[self.place] = mask
        return block

    def onto_picture(self, mask: np.ndarray) -> np.ndarray:
        """A mask bool (H, W) of the scan's slice as it lies in the picture, bool (s, s)."""
        cut = mask[self.region[1:]][np.newaxis].astype(np.uint8)
        return prepare_labels(cut, self.spacing_mm, self.trained.recipe)[0] > 0

    def onto_scan(self, plane: np.ndarray) -> np.ndarray:
        """A map float32 (s, s) of the picture on the scan's slice, (H, W): 0 where the picture ends."""
        (_, *shape), _ = self._grid()
        whole = np.zeros(self.slice_shape, np.float32)
        cut = whole[self.region[1:]]
        cut[:] = geometry.resize(geometry.restore_plane(plane, tuple(shape)), cut.shape)
        return whole

    def _grid(self) -> tuple[geometry.Shape, geometry.Spacing]:
        """Shape and spacing of the region as the recipe resamples it."""
        cut = tuple(side.stop - side.start for side in self.region)
        return geometry.working_grid(cut, self.spacing_mm, self.trained.recipe.voxel_size_mm)


def view_slice(
    trained: TrainedModel, volume: Volume, index: int, region: geometry.Box, liver: np.ndarray | None = None
) -> SliceView:
    """Slice `index` of `volume` for a network that looks at `region`, which holds it.

    `liver`, bool (D, H, W), is for a network that sees it. A network of blocks gets the one with the slice
    in its middle, as far as the region goes.
    """
    cut, inputs = geometry.crop_volume(volume, region), trained.inputs
    shape, _ = geometry.working_grid(cut.voxels.shape, cut.spacing_mm, trained.recipe.voxel_size_mm)
    position = int((index - region[0].start + 0.5) * shape[0] / len(cut.voxels))
    is_of_blocks = len(trained.network.input_shape) == 5
    depth = trained.network.input_shape[1] if is_of_blocks else 2 * inputs.neighbours + 1
    start = position - depth // 2
    if is_of_blocks:
        start = min(max(start, 0), max(shape[0] - depth, 0))
    visible = range(max(start, 0), min(start + depth, shape[0]))
    windows = channel_windows(cut.voxels, trained.recipe)
    pictures = (
        prepare_slice(geometry.resample_slice(cut.voxels, shape, each), windows, trained.recipe)
        for each in visible
    )
    livers = None
    if inputs.sees_liver and liver is not None:
        livers = prepare_labels(liver[region].astype(np.uint8), cut.spacing_mm, trained.recipe) > 0
        livers = livers[visible.start : visible.stop]
    stream = inputs.compose(pictures, livers)
    position -= visible.start
    facts = (region, volume.voxels.shape[1:], volume.spacing_mm)
    if is_of_blocks:
        [(_, block)] = stream_blocks(stream, [0], len(visible), depth)
        return SliceView(trained, block, position, *facts)
    return SliceView(trained, list(stream)[position], None, *facts)


def outlined(trained: TrainedModel, answer: np.ndarray, structure: str) -> np.ndarray:
    """What a network outlines, bool (...), by its thresholds: tumours in its own liver, where it has one.
    answer: probabilities float (..., K)."""
    channels = enumerate(trained.structures)
    masks = {name: answer[..., channel] >= trained.thresholds[name] for channel, name in channels}
    return masks[structure] & masks.get("liver", True)


def outlined_labels(trained: TrainedModel, answer: np.ndarray) -> np.ndarray:
    """All that a network outlines, as labels 0/1/2, uint8 (...)."""
    labels = np.zeros(answer.shape[:-1], np.uint8)
    for structure in trained.structures:  # liver before tumour
        labels[outlined(trained, answer, structure)] = STRUCTURE_LABELS[structure]
    return labels
