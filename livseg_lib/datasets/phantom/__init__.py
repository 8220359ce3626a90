"""The project's own data: abdominal CT made from formulas, in LiTS's format."""

from livseg_lib.datasets.phantom.follow_up import make_phantom_follow_up
from livseg_lib.datasets.phantom.lesions import Lesion
from livseg_lib.datasets.phantom.patient import PhantomPatient, make_phantom_organs, make_phantom_patient
from livseg_lib.datasets.phantom.remaking import (
    is_phantom,
    painted_lesions,
    phantom_numbers,
    remake_organs,
)
from livseg_lib.datasets.phantom.sites import SITES, Site
from livseg_lib.datasets.phantom.tissues import PHASES, Organ
from livseg_lib.datasets.phantom.writing import write_phantom

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
