"""The project's own data: abdominal CT made from formulas, in LiTS's format."""

from livseg_lib.datasets.phantom.lesions import Lesion
from livseg_lib.datasets.phantom.patient import PhantomPatient, make_phantom_patient
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
    "make_phantom_patient",
    "write_phantom",
]
