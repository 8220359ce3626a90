"""The liver: what the cavity, the diaphragm and its neighbours leave, up to a wanted volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livseg_lib.datasets.phantom.body import Body, Shell, shell
from livseg_lib.datasets.phantom.fields import Coordinates, Point, ellipsoid, smooth_min, tube

VOLUME_ML = (1050, 2050)
"""Range of wanted volumes: 3D-IRCADb-01's twenty livers have 1,153 to 2,118 ml."""

COARSE_MM = 5.0
PORTA = Point(-30, 4, 0)
PORTAL_TRUNK = [Point(10, 8, -24), Point(-12, 8, -10), PORTA]
HEPATIC_CONFLUENCE = Point(-18, 16, 52)
VENA_CAVA = [Point(-20, 24, -140), Point(-20, 22, -20), HEPATIC_CONFLUENCE, Point(-12, 4, 92)]
VENA_CAVA_RADII = [11.0, 11.0, 12.0, 12.0]
GALLBLADDER_RADII = Point(13, 21, 23)
KIDNEYS = (Point(-60, 44, -52), Point(60, 44, -36))
KIDNEY_RADII = Point(27, 27, 54)


@dataclass(frozen=True)
class LiverShape:
    """How a liver differs from the next: its cut surfaces."""

    reach_mm: float
    """How far the lower surface lies to the patient's left: decided by the wanted volume."""
    steepness: float
    """Lower surface: mm to the left for a mm to the head."""
    taper: float
    """Left lobe: mm thinner for a mm to the left."""
    left_tip_mm: float
    """x of the left lobe's tip."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> LiverShape:
        """A random shape whose reach is still to be fitted."""
        return cls(0.0, rng.uniform(1.0, 1.35), rng.uniform(0.75, 1.05), rng.uniform(55, 105))

    def lower_x(self, y: np.ndarray | float, z: np.ndarray | float) -> np.ndarray | float:
        """x of the lower surface over (y, z)."""
        return self.reach_mm + self.steepness * z - 0.25 * y

    @property
    def gallbladder(self) -> Point:
        """Middle of the gallbladder: half sunk into the lower surface."""
        return Point(self.lower_x(-30, -22) - 2, -30, -22)

    def with_reach(self, reach_mm: float) -> LiverShape:
        """The same shape, larger or smaller."""
        return LiverShape(reach_mm, self.steepness, self.taper, self.left_tip_mm)


def liver_field(
    body: Body, walls: Shell, at: Coordinates, ripple: np.ndarray, liver: LiverShape
) -> np.ndarray:
    """The field of the liver: under the dome, against the wall, cut by its visceral surfaces."""
    lower = (liver.lower_x(at.y, at.z) - at.x) / np.hypot(liver.steepness, 1)
    behind = (26 - liver.taper * (at.x + 22) - 0.15 * at.z - at.y) / np.hypot(liver.taper, 1)
    field = smooth_min(walls.cavity_mm - 0.5, (-walls.diaphragm_mm - 0.3) * 0.8, 3)
    for surface in (lower, behind, liver.left_tip_mm - at.x):
        field = smooth_min(field, surface + 2.5 * ripple, 9)
    for neighbour in _neighbours(at, ripple):
        field = smooth_min(field, -neighbour, 3)
    return field


def _neighbours(at: Coordinates, ripple: np.ndarray) -> list[np.ndarray]:
    """Fields of what presses into the liver: vessels, kidney, the fissure of the round ligament."""
    fissure = np.minimum(2 - np.abs(at.x + 12 + 0.25 * at.y + 3 * ripple), np.minimum(-38 - at.y, 12 - at.z))
    return [
        tube(at, VENA_CAVA, VENA_CAVA_RADII),
        tube(at, PORTAL_TRUNK, [10, 10, 9]),
        ellipsoid(at, KIDNEYS[0], KIDNEY_RADII) + 2,
        fissure,
    ]


def fit_volume(body: Body, liver: LiverShape, wanted_ml: float) -> tuple[LiverShape, tuple[float, float]]:
    """The shape with the reach that gives `wanted_ml`, and its lowest and highest z in mm in the patient."""
    z = np.arange(-150, 125, COARSE_MM, dtype=np.float32)
    x = np.arange(-170, 140, COARSE_MM, dtype=np.float32)
    y = np.arange(-155, 110, COARSE_MM, dtype=np.float32)
    at = body.coordinates(z, y, x)
    walls, ripple = shell(body, at), body.ripple(z, y, x)

    def inside(reach_mm: float) -> np.ndarray:
        return liver_field(body, walls, at, ripple, liver.with_reach(reach_mm)) > 0

    low, high = -80.0, 120.0
    for _ in range(7):
        middle = (low + high) / 2
        too_small = inside(middle).sum() * COARSE_MM**3 / 1000 < wanted_ml
        low, high = (middle, high) if too_small else (low, middle)
    rows = z[inside(high).any((1, 2))]
    return liver.with_reach(high), (float(rows[0]), float(rows[-1]))
