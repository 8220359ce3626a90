"""The project's own data: abdominal CT made from formulas, in LiTS's format."""

from livseg_lib.datasets.phantom.body import PHASES, Organ
from livseg_lib.datasets.phantom.lesions import Lesion
from livseg_lib.datasets.phantom.patient import (
    PhantomPatient,
    make_phantom_follow_up,
    make_phantom_organs,
    make_phantom_patient,
)
from livseg_lib.datasets.phantom.scanner import SITES, Site
from livseg_lib.datasets.phantom.writing import (
    is_phantom,
    painted_lesions,
    phantom_numbers,
    remake_organs,
    write_phantom,
)

__all__ = [
    "PHASES",
    "SITES",
    "Lesion",
    "Organ",
    "PhantomPatient",
    "Site",
    "is_phantom",
    "make_phantom_follow_up",
    "make_phantom_organs",
    "make_phantom_patient",
    "painted_lesions",
    "phantom_numbers",
    "remake_organs",
    "write_phantom",
]
