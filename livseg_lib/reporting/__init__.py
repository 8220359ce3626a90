"""Figures, tables and the report page: takes arrays, tables and a report folder, never models."""

from livseg_lib.reporting.charts import class_balance, dice_by_patient, split_overview
from livseg_lib.reporting.curves import roc_curves, training_curves
from livseg_lib.reporting.figure_files import read_caption, save_figure
from livseg_lib.reporting.pages.links import broken_links, external_resources
from livseg_lib.reporting.pages.notebooks import notebook_to_html
from livseg_lib.reporting.pages.page import write_report
from livseg_lib.reporting.patients import patient_slice
from livseg_lib.reporting.pictures import (
    PatientSlice,
    best_median_worst,
    contact_sheet,
    overlay,
    pick_best_median_worst,
    preprocessing_steps,
)
from livseg_lib.reporting.studies.lesion_sizes import recall_by_size
from livseg_lib.reporting.tables import (
    SYSTEMS_COLUMNS,
    read_table,
    replace_systems,
    update_systems_table,
    write_table,
)

__all__ = [
    "SYSTEMS_COLUMNS",
    "PatientSlice",
    "best_median_worst",
    "broken_links",
    "class_balance",
    "contact_sheet",
    "dice_by_patient",
    "external_resources",
    "notebook_to_html",
    "overlay",
    "patient_slice",
    "pick_best_median_worst",
    "preprocessing_steps",
    "read_caption",
    "read_table",
    "recall_by_size",
    "replace_systems",
    "roc_curves",
    "save_figure",
    "split_overview",
    "training_curves",
    "update_systems_table",
    "write_report",
    "write_table",
]
