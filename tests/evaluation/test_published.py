from __future__ import annotations

from livseg_lib.evaluation.published import published_rows


def value(source: str, metric: str, **also: str) -> list[float]:
    rows = published_rows()
    chosen = (rows["source"] == source) & (rows["metric"] == metric)
    for column, text in also.items():
        chosen &= rows[column].str.contains(text, regex=False)
    return rows.loc[chosen, "value"].tolist()


def test_every_source_that_printed_a_figure_is_there():
    assert set(published_rows()["source"]) == set("ABCDFGHIJK")


def test_figures():
    assert value("B", "dice") == [0.8215, 0.7711] and value("B", "roc_auc") == [1.0, 0.99]
    assert value("C", "presence_accuracy") == [173 / 200]
    assert value("D", "recall", system="UNet++", protocol="validation") == [0.949]
    assert value("I", "tumor_burden_rmse") == [0.017]
    assert value("K", "dice_per_case", target="tumor") == [0.674, 0.702, 0.739]


def test_every_row_says_under_which_protocol():
    rows = published_rows()
    assert list(rows) == ["system", "source", "target", "metric", "value", "protocol", "note"]
    assert (rows[["system", "metric", "protocol"]] != "").all(axis=None) and rows["value"].gt(0).all()
    assert set(rows["target"]) <= {"liver", "tumor", "both", ""}
    assert not rows.duplicated(["system", "source", "target", "metric", "protocol"]).any()
