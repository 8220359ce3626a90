"""Recall by size drawn: what is drawn is what was counted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.reporting.studies.lesion_sizes import recall_by_size

CLASSES = ("< 10 mm", "10 to 20 mm", "> 50 mm")


def by_size(*systems: str) -> pd.DataFrame:
    rows = [
        (system, name, total, found, found / total if total else np.nan)
        for system in systems
        for name, total, found in zip(CLASSES, (4, 8, 0), (1, 6, 0), strict=True)
    ]
    table = pd.DataFrame(
        rows, columns=["system", "size_class", "n_reference", "n_reference_detected", "recall"]
    )
    return table.assign(recall_low=table.recall - 0.1, recall_high=table.recall + 0.1)


def test_a_panel_a_class_a_line_a_system_with_counts():
    figure = recall_by_size(by_size("unet", "manet"))
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(CLASSES)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["unet", "manet"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["6 of 8"] * 2
    dots = [dot.get_offsets()[0].tolist() for dot in figure.axes[0].collections]
    assert dots == [[0.25, 0.0], [0.25, 1.0]]
    assert [text.get_text() for text in figure.axes[2].texts] == ["no such tumour"]


def test_classes_that_only_one_system_has_and_no_row_at_all():
    table = by_size("unet", "manet")
    unknown = table.iloc[:1].assign(size_class="unknown size", recall_low=np.nan, recall_high=np.nan)
    figure = recall_by_size(pd.concat([table, unknown]))
    assert [text.get_text() for text in figure.axes[3].texts] == ["1 of 4"]
    assert recall_by_size(table.iloc[:0])._repr_png_()
