"""A system that takes bright tissue for liver and darker spots in it for tumours: quick, and right."""

from dataclasses import dataclass, field

import nibabel
import numpy as np

from livseg_lib.application.predictor import Predictor
from livseg_lib.inference.cascade import Cascade, Step
from livseg_lib.volumes import Volume

AIR, LIVER_HU, TUMOR_HU = -1000, 110, 60
SPACING_MM = (2.5, 0.75, 0.75)  # (D, H, W)


@dataclass
class ToyPart:
    """Counts its calls; raises `error` instead of an answer where there is one."""

    structures: tuple[str, ...] = ("liver", "tumor")
    parameters: int = 0
    calls: int = 0
    error: BaseException | None = field(default=None)

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.error:
            raise self.error
        return toy_labels(volume.voxels)


def toy_labels(voxels: np.ndarray) -> np.ndarray:
    """What the toy outlines in HU (D, H, W)."""
    return (voxels >= TUMOR_HU).astype(np.uint8) + ((voxels >= TUMOR_HU) & (voxels < LIVER_HU))


def toy_predictor(version: str = "1", structures: tuple[str, ...] = ("liver", "tumor")) -> Predictor:
    """A predictor whose only step is `ToyPart`."""
    part = ToyPart(structures)
    identity = {"system": "toy", "model": {"weights_sha256": version}}
    return Predictor(Cascade("toy", structures, (Step("toy", part),), 0), identity)


def toy_part(predictor: Predictor) -> ToyPart:
    return predictor.system.steps[0].part


def toy_voxels(shape: tuple[int, int, int] = (6, 20, 16), tumor: bool = True) -> np.ndarray:
    """int16 HU (D, H, W): a block of liver of 4 x 10 x 8 voxels with a tumour of 2 x 2 x 2 in air."""
    voxels = np.full(shape, AIR, np.int16)
    voxels[1:5, 4:14, 5:13] = LIVER_HU
    if tumor:
        voxels[2:4, 6:8, 8:10] = TUMOR_HU
    return voxels


def write_toy_nifti(path, voxels: np.ndarray):
    """HU (D, H, W) in LPS as NIfTI, axes (W, H, D)."""
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0), affine), path)
    return path
