"""The plan of one body: its size, its chest and belly cavity, its diaphragm, and how it is bent.

Reference frame in mm: x to the patient's left, y to the back, z to the head; the middle of the
cavity at the height of the porta hepatis is near 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livseg_lib.datasets.phantom.fields import Coordinates, SmoothNoise, smooth_max, smooth_min

WARP_PITCH_MM, WARP_SD_MM, WARP_LIMIT_MM = 75, 3.5, 9
REACH_MM = 260
"""Random fields of the body are defined this far from its middle."""

CAVITY_BACK_Y, BACK_Y = 79, 112
SPINE_MIDDLE_Y, SPINE_CLEARANCE_MM = 58, 26
"""The cavity keeps this distance from the line through the spine."""


@dataclass(frozen=True)
class Body:
    """Everything about a body that is drawn by chance before its organs."""

    half_width_mm: float
    half_depth_mm: float
    height_scale: float
    fat_mm: float
    dome_mm: float
    tilt_rad: float
    warp: tuple[SmoothNoise, SmoothNoise, SmoothNoise]
    ripple: SmoothNoise
    """Unit noise over about 24 mm, for surfaces."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Body:
        """A random adult: cavity 23 to 28 cm wide, 4 to 26 mm of fat around it."""
        half_width = rng.uniform(116, 138)
        return cls(
            half_width_mm=half_width,
            half_depth_mm=half_width * rng.uniform(0.68, 0.80),
            height_scale=rng.uniform(0.92, 1.06),
            fat_mm=float(np.clip(rng.lognormal(np.log(12), 0.5), 4, 26)),
            dome_mm=rng.uniform(68, 84),
            tilt_rad=rng.normal(0, 0.03),
            warp=tuple(SmoothNoise.draw(rng, WARP_PITCH_MM, REACH_MM) for _ in range(3)),
            ripple=SmoothNoise.draw(rng, 24, REACH_MM),
        )

    @property
    def relative_size(self) -> float:
        """Cross-section of the cavity, 1 on average."""
        return self.half_width_mm * self.half_depth_mm / (127 * 94)

    @property
    def cavity_middle_y(self) -> float:
        """y of the cavity's middle: all backs lie alike, bellies do not."""
        return CAVITY_BACK_Y - self.half_depth_mm

    def front_and_back_y(self, fat_mm: np.ndarray | float) -> tuple[np.ndarray | float, np.ndarray | float]:
        """y of the skin of belly and back under `fat_mm` of fat."""
        return self.cavity_middle_y - self.half_depth_mm - 8 - 0.9 * fat_mm, BACK_Y + 0.6 * fat_mm

    @property
    def outer_width_mm(self) -> float:
        """Width that a field of view has to hold."""
        return 2 * (self.half_width_mm + 12 + 1.2 * self.fat_mm + WARP_LIMIT_MM)

    def coordinates(self, z_mm: np.ndarray, y_mm: np.ndarray, x_mm: np.ndarray) -> Coordinates:
        """Places in the reference frame of a grid's points (axes 1D, in mm): bent, tilted and scaled."""
        z, y, x = np.meshgrid(*(np.float32(a) for a in (z_mm, y_mm, x_mm)), indexing="ij", copy=True)
        cos, sin = np.float32(np.cos(self.tilt_rad)), np.float32(np.sin(self.tilt_rad))
        z, y, x = z / np.float32(self.height_scale), cos * y - sin * x, sin * y + cos * x
        for coordinate, noise in zip((z, y, x), self.warp, strict=True):
            shift = noise(z_mm, y_mm, x_mm) * np.float32(WARP_SD_MM)
            coordinate += np.clip(shift, -WARP_LIMIT_MM, WARP_LIMIT_MM)
        return Coordinates(x, y, z)

    def to_patient(self, places: np.ndarray) -> np.ndarray:
        """Where reference points (n, 3: x, y, z) lie in the patient; the inverse of `coordinates`."""
        cos, sin = np.cos(self.tilt_rad), np.sin(self.tilt_rad)
        patient = places.copy()
        for _ in range(4):  # the warp is gentle: each round shrinks the error about fourfold
            shifts = [
                np.clip(noise.at(patient) * WARP_SD_MM, -WARP_LIMIT_MM, WARP_LIMIT_MM) for noise in self.warp
            ]
            x, y = places[:, 0] - shifts[2], places[:, 1] - shifts[1]
            z = (places[:, 2] - shifts[0]) * self.height_scale
            patient = np.stack([cos * x - sin * y, sin * x + cos * y, z], 1)
        return patient


@dataclass(frozen=True)
class Shell:
    """Where a grid's points lie relative to the walls of a body; all (D, H, W)."""

    outside_mm: np.ndarray
    """Distance outward from the cavity's inner wall, negative inside."""
    back_angle: np.ndarray
    """0 towards the spine, pi towards the front."""
    cavity_mm: np.ndarray
    """Depth inside the cavity of chest and belly, negative outside."""
    wall_mm: np.ndarray
    """Thickness of muscle and ribs here."""
    skin_mm: np.ndarray
    """Depth below the skin, negative in air."""
    diaphragm_mm: np.ndarray
    """Height above the diaphragm, negative in the belly."""


def shell(body: Body, at: Coordinates) -> Shell:
    """The walls of `body` around the points `at`."""
    narrowing = 1 - 0.05 * ((at.z - 10) / 90) ** 2
    x, y = at.x / narrowing, (at.y - body.cavity_middle_y) / narrowing
    outside = _superellipse(x, y, body.half_width_mm, body.half_depth_mm, 2.4)
    back_angle = np.arctan2(np.abs(x), y)
    wall = 8 + 4 * np.sin(back_angle) + 5 * np.exp(-(((back_angle - 0.9) / 0.4) ** 2))
    spine = np.hypot(at.x, at.y - SPINE_MIDDLE_Y) - SPINE_CLEARANCE_MM
    return Shell(
        outside_mm=outside,
        back_angle=back_angle,
        cavity_mm=smooth_min(-outside, spine, 8),
        wall_mm=wall,
        skin_mm=smooth_max(_skin_depth(body, at), wall + 4 - outside, 4),
        diaphragm_mm=at.z - _diaphragm_height(body, at),
    )


def _skin_depth(body: Body, at: Coordinates) -> np.ndarray:
    """Depth below a rounded box around the cavity, flat at the back, with the furrow over the spine."""
    fat = body.fat_mm * (1 - at.z / 500)
    front, back = body.front_and_back_y(fat)
    y = at.y - (front + back) / 2
    outside = _superellipse(at.x, y, body.half_width_mm + 12 + fat, (back - front) / 2, 2.5)
    furrow = 7 * np.exp(-((at.x / 13) ** 2)) * (at.y > 40)
    return -outside - furrow


def _superellipse(
    x: np.ndarray, y: np.ndarray, half_width: np.ndarray | float, half_depth: np.ndarray | float, power: float
) -> np.ndarray:
    """Distance in mm, along the ray from the middle, outward from |x / a|^p + |y / b|^p = 1."""
    power = np.float32(power)
    rho = (np.abs(x / half_width) ** power + np.abs(y / half_depth) ** power) ** (1 / power)
    return (np.hypot(x, y) * (1 - 1 / np.maximum(rho, 0.05))).astype(np.float32)


def _diaphragm_height(body: Body, at: Coordinates) -> np.ndarray:
    """Height z over (x, y): the right dome, the lower left one, and the middle under the heart."""

    def dome(x: float, y: float, top_mm: float, half_width: float, half_depth: float) -> np.ndarray:
        """`y` and `half_depth` in half depths of the cavity, from its middle."""
        beside = (at.x - x) / half_width
        before = ((at.y - body.cavity_middle_y) / body.half_depth_mm - y) / half_depth
        return top_mm - 90 * (beside**2 + before**2) ** np.float32(1.15)

    top = body.dome_mm
    right = dome(-60, 0.05, top, 78, 0.95)
    left = dome(66, 0.1, top - 13, 70, 0.9)
    middle = dome(2, -0.15, top - 17, 64, 0.82)
    return smooth_max(smooth_max(right, left, 10), middle, 10)
