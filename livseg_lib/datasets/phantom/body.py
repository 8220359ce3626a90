"""A body of the phantom: its outline and liver, and the tissues that it is made of, for CT and MR.

Places are in mm: x to the patient's left, y to the back, z to the head; the middle of the cavity at the
height of the porta hepatis is near 0. A *tissue* decides about HU (bone marrow, stomach gas); an *organ* is
what anatomy calls it (bone, stomach). The labels of the data set follow from the organ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from livseg_lib.datasets.phantom.fields import (
    Coordinates,
    Point,
    SmoothNoise,
    ellipsoid,
    smooth_max,
    smooth_min,
    tube,
)
from livseg_lib.labels import BACKGROUND, LIVER, TUMOR

WARP_PITCH_MM, WARP_SD_MM, WARP_LIMIT_MM = 75, 3.5, 9
BODY_REACH_MM = 260  # random fields of the body are defined this far from its middle
CAVITY_BACK_Y, BACK_Y = 79, 112
SPINE_MIDDLE_Y, SPINE_CLEARANCE_MM = 58, 26  # the cavity keeps this distance from the line through the spine
Measure = np.ndarray | float


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
    ripple: SmoothNoise  # unit noise over about 24 mm, for surfaces

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
            warp=tuple(SmoothNoise.draw(rng, WARP_PITCH_MM, BODY_REACH_MM) for _ in range(3)),
            ripple=SmoothNoise.draw(rng, 24, BODY_REACH_MM),
        )

    @property
    def cavity_middle_y(self) -> float:
        """y of the cavity's middle: all backs lie alike, bellies do not."""
        return CAVITY_BACK_Y - self.half_depth_mm

    def front_and_back_y(self, fat_mm: Measure) -> tuple[Measure, Measure]:
        """y of the skin of belly and back under `fat_mm` of fat."""
        return self.cavity_middle_y - self.half_depth_mm - 8 - 0.9 * fat_mm, BACK_Y + 0.6 * fat_mm

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
            shifts = [noise.at(patient) * WARP_SD_MM for noise in self.warp[::-1]]
            x, y, z = places.T - np.clip(shifts, -WARP_LIMIT_MM, WARP_LIMIT_MM)
            z *= self.height_scale
            patient = np.stack([cos * x - sin * y, sin * x + cos * y, z], 1)
        return patient


@dataclass(frozen=True)
class Shell:
    """Where a grid's points lie relative to the walls of a body; all (D, H, W)."""

    outside_mm: np.ndarray  # distance outward from the cavity's inner wall, negative inside
    back_angle: np.ndarray  # 0 towards the spine, pi towards the front
    cavity_mm: np.ndarray  # depth inside the cavity of chest and belly, negative outside
    wall_mm: np.ndarray  # thickness of muscle and ribs here
    skin_mm: np.ndarray  # depth below the skin, negative in air
    diaphragm_mm: np.ndarray  # height above the diaphragm, negative in the belly


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


def _superellipse(x: np.ndarray, y: np.ndarray, a: Measure, b: Measure, power: float) -> np.ndarray:
    """Distance in mm, along the ray from the middle, outward from |x / a|^p + |y / b|^p = 1."""
    power = np.float32(power)
    rho = (np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power)
    return (np.hypot(x, y) * (1 - 1 / np.maximum(rho, 0.05))).astype(np.float32)


def _diaphragm_height(body: Body, at: Coordinates) -> np.ndarray:
    """Height z over (x, y): the right dome, the lower left one, and the middle under the heart."""

    def dome(x: float, y: float, lower_mm: float, half_width: float, half_depth: float) -> np.ndarray:
        """`y` and `half_depth` in half depths of the cavity, from its middle."""
        beside = (at.x - x) / half_width
        before = ((at.y - body.cavity_middle_y) / body.half_depth_mm - y) / half_depth
        return body.dome_mm - lower_mm - 90 * (beside**2 + before**2) ** np.float32(1.15)

    right, left = dome(-60, 0.05, 0, 78, 0.95), dome(66, 0.1, 13, 70, 0.9)
    return smooth_max(smooth_max(right, left, 10), dome(2, -0.15, 17, 64, 0.82), 10)


VOLUME_ML = (1050, 2050)  # range of wanted volumes: 3D-IRCADb-01's twenty livers have 1,153 to 2,118 ml
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

    reach_mm: float  # how far the lower surface lies to the patient's left: decided by the wanted volume
    steepness: float  # lower surface: mm to the left for a mm to the head
    taper: float  # left lobe: mm thinner for a mm to the left
    left_tip_mm: float  # x of the left lobe's tip

    @classmethod
    def draw(cls, rng: np.random.Generator) -> LiverShape:
        """A random shape whose reach is still to be fitted."""
        return cls(0.0, rng.uniform(1.0, 1.35), rng.uniform(0.75, 1.05), rng.uniform(55, 105))

    def lower_x(self, y: Measure, z: Measure) -> Measure:
        """x of the lower surface over (y, z)."""
        return self.reach_mm + self.steepness * z - 0.25 * y

    @property
    def gallbladder(self) -> Point:
        """Middle of the gallbladder: half sunk into the lower surface."""
        return Point(self.lower_x(-30, -22) - 2, -30, -22)


def liver_field(
    body: Body, walls: Shell, at: Coordinates, ripple: np.ndarray, liver: LiverShape
) -> np.ndarray:
    """Under the dome, against the wall, cut by its visceral surfaces, pressed into by its neighbours."""
    lower = (liver.lower_x(at.y, at.z) - at.x) / np.hypot(liver.steepness, 1)
    behind = (26 - liver.taper * (at.x + 22) - 0.15 * at.z - at.y) / np.hypot(liver.taper, 1)
    field = smooth_min(walls.cavity_mm - 0.5, (-walls.diaphragm_mm - 0.3) * 0.8, 3)
    for surface in (lower, behind, liver.left_tip_mm - at.x):
        field = smooth_min(field, surface + 2.5 * ripple, 9)
    vessels = tube(at, VENA_CAVA, VENA_CAVA_RADII), tube(at, PORTAL_TRUNK, [10, 10, 9])
    kidney = ellipsoid(at, KIDNEYS[0], KIDNEY_RADII) + 2
    # of the round ligament
    fissure = np.minimum(2 - np.abs(at.x + 12 + 0.25 * at.y + 3 * ripple), np.minimum(-38 - at.y, 12 - at.z))
    for neighbour in (*vessels, kidney, fissure):
        field = smooth_min(field, -neighbour, 3)
    return field


def fit_volume(body: Body, liver: LiverShape, wanted_ml: float) -> tuple[LiverShape, tuple[float, float]]:
    """The shape with the reach that gives `wanted_ml`, and its lowest and highest z in mm in the patient."""
    z = np.arange(-150, 125, COARSE_MM, dtype=np.float32)
    x = np.arange(-170, 140, COARSE_MM, dtype=np.float32)
    y = np.arange(-155, 110, COARSE_MM, dtype=np.float32)
    at = body.coordinates(z, y, x)
    walls, ripple = shell(body, at), body.ripple(z, y, x)

    def inside(reach_mm: float) -> np.ndarray:
        return liver_field(body, walls, at, ripple, replace(liver, reach_mm=reach_mm)) > 0

    low, high = -80.0, 120.0
    for _ in range(7):
        middle = (low + high) / 2
        too_small = inside(middle).sum() * COARSE_MM**3 / 1000 < wanted_ml
        low, high = (middle, high) if too_small else (low, middle)
    rows = z[inside(high).any((1, 2))]
    return replace(liver, reach_mm=high), (float(rows[0]), float(rows[-1]))


Organ = IntEnum(
    "Organ",
    "AIR FAT MUSCLE BONE SKIN LUNG HEART AORTA VENA_CAVA LIVER LIVER_VESSEL CYST TUMOR SPLEEN KIDNEY STOMACH "
    "GALLBLADDER PANCREAS BOWEL DIAPHRAGM CARTILAGE SPINAL_CANAL MESENTERIC_VESSEL PORTAL_VEIN OESOPHAGUS",
    start=0,
)
"""Codes of `PhantomPatient.organs`. AIR is what lies outside the body, the table too."""
PHASES = ("native", "arterial", "portal venous")
FLUID, GAS = (2800.0, 1.0), (1000.0, 0.0)
"""T1 in ms, protons: what has none gives no signal, such as air and the table."""
TISSUES: dict[str, tuple[Organ, tuple[float, float, float], float, tuple[float, float]]] = {
    # tissue: organ, HU in each of PHASES, sd in HU of its texture (before scanner noise),
    # T1 in ms at 1.5 T and protons relative to the liver's
    "air": (Organ.AIR, (-1000, -1000, -1000), 0, GAS),
    "table": (Organ.AIR, (20, 20, 20), 0, GAS),
    "fat": (Organ.FAT, (-106, -105, -103), 4, (343, 0.95)),
    "skin": (Organ.SKIN, (0, 5, 10), 15, (850, 0.7)),
    "muscle": (Organ.MUSCLE, (48, 54, 59), 7, (856, 0.95)),
    "muscle streak": (Organ.MUSCLE, (-25, -22, -20), 25, (500, 0.95)),
    "compact bone": (Organ.BONE, (560, 560, 560), 90, (800, 0.08)),
    "marrow": (Organ.BONE, (150, 160, 170), 30, (549, 0.8)),
    "cartilage": (Organ.CARTILAGE, (105, 108, 112), 12, (1000, 0.6)),
    "spinal canal": (Organ.SPINAL_CANAL, (22, 25, 27), 5, FLUID),
    "lung": (Organ.LUNG, (-860, -855, -850), 22, (1000, 0.1)),
    "lung vessel": (Organ.LUNG, (-100, 0, 0), 60, (1400, 0.7)),
    "heart muscle": (Organ.HEART, (46, 100, 108), 5, (1000, 1.0)),
    "heart chamber": (Organ.HEART, (42, 250, 150), 8, (1441, 1.0)),
    "diaphragm": (Organ.DIAPHRAGM, (48, 55, 60), 5, (856, 0.95)),
    "aorta": (Organ.AORTA, (42, 270, 152), 3, (1441, 1.0)),
    "vena cava": (Organ.VENA_CAVA, (41, 75, 130), 5, (1441, 1.0)),
    "mesenteric vessel": (Organ.MESENTERIC_VESSEL, (41, 150, 150), 10, (1441, 1.0)),
    "portal vein": (Organ.PORTAL_VEIN, (41, 105, 170), 3, (1441, 1.0)),
    "liver": (Organ.LIVER, (54, 68, 105), 8, (586, 1.0)),
    "hepatic vein": (Organ.LIVER_VESSEL, (41, 62, 150), 2, (1441, 1.0)),
    "portal branch": (Organ.LIVER_VESSEL, (41, 95, 160), 2, (1441, 1.0)),
    "cyst": (Organ.CYST, (54, 68, 105), 0, (586, 1.0)),  # as the liver: the lesion adds its own contrast
    "tumor": (Organ.TUMOR, (54, 68, 105), 20, (586, 1.0)),
    "spleen": (Organ.SPLEEN, (46, 108, 112), 4, (1057, 1.05)),
    "kidney cortex": (Organ.KIDNEY, (32, 170, 180), 8, (966, 1.0)),
    "kidney medulla": (Organ.KIDNEY, (30, 85, 150), 8, (1412, 1.05)),
    "stomach wall": (Organ.STOMACH, (42, 70, 82), 8, (900, 0.95)),
    "stomach fluid": (Organ.STOMACH, (12, 12, 12), 5, FLUID),
    "stomach gas": (Organ.STOMACH, (-950, -950, -950), 0, GAS),
    "gallbladder": (Organ.GALLBLADDER, (8, 10, 12), 1.5, FLUID),
    "pancreas": (Organ.PANCREAS, (38, 96, 85), 14, (584, 1.0)),
    "bowel wall": (Organ.BOWEL, (40, 78, 88), 8, (900, 0.95)),
    "bowel content": (Organ.BOWEL, (24, 26, 28), 14, (1500, 0.9)),
    "faeces": (Organ.BOWEL, (5, 5, 5), 70, (700, 0.6)),
    "bowel gas": (Organ.BOWEL, (-900, -900, -900), 40, GAS),
    "oesophagus": (Organ.OESOPHAGUS, (38, 52, 58), 8, (900, 0.95)),
}
"""Portal venous and native values lie among those measured in real CT (the phantom's tests list them). What
is not measured there (arterial phase, late at about 35 s; kidneys, bone, bowel, small structures) is set to
what textbooks say.

T1 of liver, spleen, kidney, pancreas, muscle, marrow and fat as de Bazelaire et al. 2004 measured them
(doi 10.1148/radiol.2303021331), of blood as Stanisz et al. 2005 (doi 10.1002/mrm.20605); the others and all
protons are rough values of ours."""
CODE = {name: code for code, name in enumerate(TISSUES)}  # tissue name to code in the order of TISSUES
ORGAN_OF_TISSUE = np.array([organ for organ, *_ in TISSUES.values()], np.uint8)
TISSUE_TEXTURE_SD_HU = np.array([sd for _, _, sd, _ in TISSUES.values()], np.float32)
LIVER_ORGANS = (Organ.LIVER, Organ.LIVER_VESSEL, Organ.CYST)
"""What is labelled liver; the tumour has its own label."""


def mean_hu(phase: str) -> np.ndarray:
    """Mean HU of each tissue code in a contrast phase, float32."""
    return np.array([values[PHASES.index(phase)] for _, values, *_ in TISSUES.values()], np.float32)


def labels_of_organs(organs: np.ndarray) -> np.ndarray:
    """Labels 0/1/2, uint8, of an organ map: cysts and vessels inside the liver are liver."""
    table = np.full(len(Organ), BACKGROUND, np.uint8)
    table[list(LIVER_ORGANS)] = LIVER
    table[Organ.TUMOR] = TUMOR
    return table[organs]
