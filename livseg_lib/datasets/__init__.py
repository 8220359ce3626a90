"""Where cases come from: every data set becomes a list of cases that can be read one at a time."""

from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.catalogue import ADAPTERS, find_cases
from livseg_lib.datasets.check import check_dataset, data_checksum

__all__ = ["ADAPTERS", "Case", "Dataset", "check_dataset", "data_checksum", "find_cases"]
