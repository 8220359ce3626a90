"""What a voxel of the phantom is made of, and how bright that is.

A *tissue* decides about HU (bone marrow, stomach gas); an *organ* is what anatomy calls it (bone,
stomach). The labels of the data set follow from the organ.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from livseg_lib.labels import BACKGROUND, LIVER, TUMOR


class Organ(IntEnum):
    """Codes of `PhantomPatient.organs`. AIR is what lies outside the body, the table too."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    BONE = 3
    SKIN = 4
    LUNG = 5
    HEART = 6
    AORTA = 7
    VENA_CAVA = 8
    LIVER = 9
    LIVER_VESSEL = 10
    CYST = 11
    TUMOR = 12
    SPLEEN = 13
    KIDNEY = 14
    STOMACH = 15
    GALLBLADDER = 16
    PANCREAS = 17
    BOWEL = 18
    DIAPHRAGM = 19
    CARTILAGE = 20
    SPINAL_CANAL = 21
    MESENTERIC_VESSEL = 22
    PORTAL_VEIN = 23
    OESOPHAGUS = 24


PHASES = ("native", "arterial", "portal venous")

TISSUES: dict[str, tuple[Organ, tuple[float, float, float], float]] = {
    # tissue: organ, HU in each of PHASES, sd in HU of its texture (before scanner noise)
    "air": (Organ.AIR, (-1000, -1000, -1000), 0),
    "table": (Organ.AIR, (20, 20, 20), 0),
    "fat": (Organ.FAT, (-106, -105, -103), 4),
    "skin": (Organ.SKIN, (0, 5, 10), 15),
    "muscle": (Organ.MUSCLE, (48, 54, 59), 7),
    "muscle streak": (Organ.MUSCLE, (-25, -22, -20), 25),
    "compact bone": (Organ.BONE, (560, 560, 560), 90),
    "marrow": (Organ.BONE, (150, 160, 170), 30),
    "cartilage": (Organ.CARTILAGE, (105, 108, 112), 12),
    "spinal canal": (Organ.SPINAL_CANAL, (22, 25, 27), 5),
    "lung": (Organ.LUNG, (-860, -855, -850), 22),
    "lung vessel": (Organ.LUNG, (-100, 0, 0), 60),
    "heart muscle": (Organ.HEART, (46, 100, 108), 5),
    "heart chamber": (Organ.HEART, (42, 250, 150), 8),
    "diaphragm": (Organ.DIAPHRAGM, (48, 55, 60), 5),
    "aorta": (Organ.AORTA, (42, 270, 152), 3),
    "vena cava": (Organ.VENA_CAVA, (41, 75, 130), 5),
    "mesenteric vessel": (Organ.MESENTERIC_VESSEL, (41, 150, 150), 10),
    "portal vein": (Organ.PORTAL_VEIN, (41, 105, 170), 3),
    "liver": (Organ.LIVER, (54, 68, 105), 2.5),
    "hepatic vein": (Organ.LIVER_VESSEL, (41, 62, 150), 2),
    "portal branch": (Organ.LIVER_VESSEL, (41, 95, 160), 2),
    "cyst": (Organ.CYST, (54, 68, 105), 0),  # as the liver: the lesion adds its own contrast
    "tumor": (Organ.TUMOR, (54, 68, 105), 3),
    "spleen": (Organ.SPLEEN, (46, 108, 112), 4),
    "kidney cortex": (Organ.KIDNEY, (32, 170, 180), 8),
    "kidney medulla": (Organ.KIDNEY, (30, 85, 150), 8),
    "stomach wall": (Organ.STOMACH, (42, 70, 82), 8),
    "stomach fluid": (Organ.STOMACH, (12, 12, 12), 5),
    "stomach gas": (Organ.STOMACH, (-950, -950, -950), 0),
    "gallbladder": (Organ.GALLBLADDER, (8, 10, 12), 1.5),
    "pancreas": (Organ.PANCREAS, (38, 96, 85), 14),
    "bowel wall": (Organ.BOWEL, (40, 78, 88), 8),
    "bowel content": (Organ.BOWEL, (24, 26, 28), 14),
    "faeces": (Organ.BOWEL, (5, 5, 5), 70),
    "bowel gas": (Organ.BOWEL, (-900, -900, -900), 40),
    "oesophagus": (Organ.OESOPHAGUS, (38, 52, 58), 8),
}
"""Portal venous and native values lie among those MEASURED. What is not measured there (arterial phase,
late at about 35 s; kidneys, bone, bowel, small structures) is set to what textbooks say."""

MEASURED: dict[str, dict[str, float]] = {
    "liver": {"ircad17": 103, "chaos3": 146, "lits": 64, "totalseg native": 47},
    "spleen": {"ircad17": 96, "lits": 109, "totalseg native": 35},
    "aorta": {"ircad17": 159, "chaos3": 172, "lits": 130, "totalseg native": 44},
    "vena cava": {"ircad17": 131, "totalseg native": 42},
    "portal vein": {"ircad17": 179, "totalseg native": 41},
    "muscle": {"ircad17": 55, "chaos3": 72, "lits": 49, "totalseg native": 22},
    "fat": {"ircad17": -100, "chaos3": -98, "lits": -107},
    "gallbladder": {"chaos3": 16, "totalseg native": 3},
    "stomach fluid": {"ircad17": 11},
    "pancreas": {"ircad17": 82},
    "tumour minus liver": {"ircad17 1": -13, "ircad17 2": -44, "lits": -33},
}
"""HU in real CT: 3D-IRCADb-01 case 17 and CHAOS CT set 3 (both portal venous), six LiTS slices (mixed
late phases, medians), TotalSegmentator's example (native, 3 mm voxels, so muscle and spleen hold partial
volume). Liver, tumours, vessels of IRCAD, LiTS' liver and all of TotalSegmentator's inside eroded masks; the
others in regions grown from a seed set by hand.

Noise: 18 to 20 HU in the liver of IRCAD and CHAOS, 19 to 30 HU in LiTS. Correlation of neighbours 0.25 to
0.40 in plane at one pixel, -0.13 (CHAOS, a sharp kernel) to 0.08 at two; 0.29 between slices 1.6 mm apart."""

CODE = {name: code for code, name in enumerate(TISSUES)}
"""Tissue name to code in the order of TISSUES."""

ORGAN_OF_TISSUE = np.array([organ for organ, _, _ in TISSUES.values()], np.uint8)
TEXTURE_SD_HU = np.array([sd for _, _, sd in TISSUES.values()], np.float32)

LIVER_ORGANS = (Organ.LIVER, Organ.LIVER_VESSEL, Organ.CYST)
"""What is labelled liver; the tumour has its own label."""


def mean_hu(phase: str) -> np.ndarray:
    """Mean HU of each tissue code in a contrast phase, float32."""
    return np.array([values[PHASES.index(phase)] for _, values, _ in TISSUES.values()], np.float32)


def labels_of_organs(organs: np.ndarray) -> np.ndarray:
    """Labels 0/1/2, uint8, of an organ map: cysts and vessels inside the liver are liver."""
    table = np.full(len(Organ), BACKGROUND, np.uint8)
    table[list(LIVER_ORGANS)] = LIVER
    table[Organ.TUMOR] = TUMOR
    return table[organs]
