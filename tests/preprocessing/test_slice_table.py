"""slices.csv is read as it stands, or refused with the line that is wrong."""

from __future__ import annotations

import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.extraction import SLICE_COLUMNS, read_classified, read_slices, write_slices


def table(n_cases: int = 2) -> pd.DataFrame:
    """Two slices a case; of the second case nothing is known but its pictures."""
    rows = []
    for case in range(n_cases):
        for k in range(2):
            known = case == 0
            row = {"patient": f"00{case}", "case": f"ct {case}", "slice": 10 + k, "array_index": k}
            row |= {"image": f"ct {case}/png/{k}.png", "mask": f"ct {case}/m.png" if known else None}
            row |= {"array": f"ct {case}", "spacing_z_mm": 2.5 if known else None}
            row |= {"spacing_y_mm": 0.5 if known else None, "spacing_x_mm": 0.5 if known else None}
            row |= {"liver_pixels": 8 * k if known else None, "tumor_pixels": k if known else None}
            row |= {"liver_area_mm2": 2.0 * k, "tumor_area_mm2": 0.25 * k} if known else {}
            rows.append(row)
    return pd.DataFrame(rows).astype(SLICE_COLUMNS)


def classified() -> pd.DataFrame:
    added = {"class": [0, 2, 0, 0], "split": ["train", "train", "test", "test"], "fold": [1, 1, -1, -1]}
    return table().assign(**added).astype({"class": "Int64", "split": "string", "fold": "Int64"})


def test_what_is_written_is_read_as_it_was(tmp_path):
    write_slices(table(), tmp_path / "slices.csv")
    pd.testing.assert_frame_equal(read_slices(tmp_path / "slices.csv"), table())
    write_slices(classified(), tmp_path / "slices.csv")
    pd.testing.assert_frame_equal(read_classified(tmp_path / "slices.csv"), classified())


@pytest.mark.parametrize(
    "change",
    [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n"), lambda text: text + "\n\n"],
)
def test_how_a_file_was_saved_changes_nothing(tmp_path, change):
    write_slices(table(), tmp_path / "slices.csv")
    text = (tmp_path / "slices.csv").read_text()
    (tmp_path / "slices.csv").write_text(change(text), newline="")
    pd.testing.assert_frame_equal(read_slices(tmp_path / "slices.csv"), table())


CELLS = [
    *[
        ("patient", ""),
        ("case", " "),
        ("case", "../other"),
        ("slice", "1.5"),
        ("slice", "-1"),
        ("slice", "x"),
    ],
    *[
        ("array_index", ""),
        ("array_index", "1e300"),
        ("array_index", "9" * 30),
        ("array", "/etc"),
        ("array", ".."),
    ],
    *[("image", "a/../../b.png"), ("mask", "/m.png"), ("spacing_z_mm", "0"), ("spacing_x_mm", "inf")],
    *[("spacing_y_mm", "-1"), ("liver_pixels", "nan"), ("tumor_pixels", "0.5"), ("liver_area_mm2", "-0.1")],
    *[("class", "3"), ("class", ""), ("split", "tset"), ("split", ""), ("fold", "-2"), ("fold", "a")],
]


@pytest.mark.parametrize(("column", "text"), CELLS, ids=lambda value: value[:12] or "empty")
def test_a_value_that_cannot_be_is_refused_with_its_line(tmp_path, column, text):
    rows = classified().astype(object)
    rows.loc[1, column] = text
    rows.to_csv(tmp_path / "slices.csv", index=False)
    with pytest.raises(InputError, match=rf"slices.csv: Line 3 has .* as {column}\. Mend"):
        read_classified(tmp_path / "slices.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda text: b"", "is empty"),
        (lambda text: text.splitlines()[0].encode(), "lists no slice"),
        (lambda text: text.replace("ct", "\u00e7t").encode("latin-1"), "Line 2 is no UTF-8"),
        (lambda text: text.encode("utf-16"), "Line 1 is no UTF-8"),
        (lambda text: text.replace("ct 0", "ct\0", 1).encode(), "zero byte in line 2"),
        (lambda text: text.replace("ct 0", '"ct 0', 1).encode(), "is no CSV"),
        (lambda text: text.replace(",", ";").encode(), "has the columns"),
        (lambda text: text.replace("mask", "image", 1).encode(), "has the columns"),
        (lambda text: text.replace("case,", "", 1).encode(), "has the columns"),
        (lambda text: text.replace("001,", "001,,", 1).encode(), "Line 4 has 15 fields, the first 14"),
        (lambda text: (text + text.splitlines()[1]).encode(), "Line 6 has the case and slice of another"),
        (lambda text: text.replace("11,1,", "11,0,", 1).encode(), "Line 3 has the array and array_index of"),
        (lambda text: text.replace("000,ct 0,11", "007,ct 0,11", 1).encode(), "case ct 0 has two of patient"),
        (lambda text: text.replace(",8,1,", ",8,9,", 1).encode(), "Line 3 has more tumor_pixels than liver"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, content, said):
    (tmp_path / "slices.csv").write_bytes(content(table().to_csv(index=False)))
    with pytest.raises(InputError, match=said):
        read_slices(tmp_path / "slices.csv")


def test_a_patient_on_two_sides_and_a_missing_file_are_refused(tmp_path):
    rows = classified()
    rows.loc[2:, "patient"] = "000"
    write_slices(rows, tmp_path / "slices.csv")
    with pytest.raises(InputError, match="patient 000 lies in two splits"):
        read_classified(tmp_path / "slices.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_slices(tmp_path / "none.csv")
