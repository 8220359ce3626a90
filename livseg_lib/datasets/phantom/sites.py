"""The hospitals of the phantom: each scans, reconstructs and stores in its own way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A scanner and its protocol; ranges are (low, high)."""

    name: str
    matrix: int
    """Rows and columns of a slice."""
    pixel_mm: tuple[float, float]
    slice_mm: tuple[float, float]
    noise_hu: tuple[float, float]
    """Standard deviation in the liver."""
    kernel_mm: float
    """Gaussian sigma of the point spread in the slice."""
    noise_grain_pixels: float
    """Gaussian sigma of the noise's correlation in the slice."""
    sharpness: float
    """0 for a soft kernel; above, the noise loses its coarse part as edge-enhancing kernels make it."""
    slice_overlap: float
    """Weight of each neighbouring slice in a slice's profile."""
    orientation: str
    """Axis codes of the stored file, as nibabel names them."""
    modality: str = "ct"
    """"ct" or "mr"; a magnet has noise of its own (`magnet.NOISE`)."""
    stores_organs: bool = False
    """Whether its label files hold codes of `Organ`, with a labels.json, instead of 0/1/2."""


SITES = {
    "A": Site("A", 512, (0.6, 0.9), (4.0, 5.0), (9, 13), 0.8, 0.58, 0.0, 0.10, "LPS"),
    "B": Site("B", 448, (0.6, 0.9), (2.5, 4.0), (12, 17), 0.7, 0.55, 0.0, 0.12, "RAS"),
    "C": Site("C", 448, (0.6, 0.9), (1.25, 2.0), (16, 20), 0.5, 0.55, 0.4, 0.15, "LAS"),
    "tiny": Site("tiny", 128, (2.0, 3.6), (8.0, 10.0), (4, 6), 1.5, 0.5, 0.0, 0.05, "RAS"),
    "mr": Site("mr", 320, (1.0, 1.5), (3.0, 5.0), (0, 0), 1.0, 0.5, 0.0, 0.08, "LAS", "mr", True),
    "tiny mr": Site("tiny mr", 128, (2.0, 3.6), (8.0, 10.0), (0, 0), 1.5, 0.5, 0.0, 0.05, "LAS", "mr", True),
}
"""Voxels, noise and stored orientation differ as between the centres of LiTS (there 0.6-1.0 mm in the
slice, 0.45-5 mm between slices). Liver noise measured in real CT: 18-20 HU (1.6-2 mm slices), 19-30 HU
in LiTS slices; the correlation of neighbours in real CT is 0.25-0.40, at two pixels -0.13 to 0.08.
Nobody scans like "tiny": it is for tests that need whole patients in a moment. "mr" stands for sets with many
organs in their label files, such as AMOS and TotalSegmentator's."""

ROTATION = "ABABABAC"
"""Sites of patients 0, 1, 2, ...: thin slices are rare, as they weigh most."""


def site_of(index: int) -> Site:
    """The site of patient number `index`."""
    return SITES[ROTATION[index % len(ROTATION)]]
