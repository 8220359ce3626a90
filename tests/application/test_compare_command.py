"""Two files of scores compared case by case."""

from __future__ import annotations

import json
from argparse import Namespace

import pytest

from livseg_lib.application.compare_command import compare
from livseg_lib.errors import InputError


def write(path, **dice):
    cases = [{"case": name, "liver_dice": value, "tumor_dice": None} for name, value in dice.items()]
    path.write_text(json.dumps({"cases": cases}))
    return path


def test_the_mean_difference_of_shared_cases_is_told(tmp_path, capsys):
    first = write(tmp_path / "new.json", a=0.9, b=0.8, c=0.7, extra=0.1)
    second = write(tmp_path / "old.json", a=0.8, b=0.8, c=0.4)
    assert compare(Namespace(first=first, second=second, score="dice")) == 0
    printed = capsys.readouterr().out
    assert "new minus old +0.1333" in printed and "3 cases, 0 undefined" in printed
    assert "tumor  dice: new minus old +nan" in printed and "3 undefined" in printed
    assert "left out: extra" in printed


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"cases": [{"liver_dice": 1}]}'])
def test_a_file_without_scores_is_named(tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=r"bad\.json"):
        compare(Namespace(first=tmp_path / "bad.json", second=tmp_path / "bad.json", score="dice"))


def test_other_cases_cannot_be_compared(tmp_path):
    with pytest.raises(InputError, match="no case in common"):
        compare(
            Namespace(
                first=write(tmp_path / "a.json", a=1), second=write(tmp_path / "b.json", b=1), score="dice"
            )
        )
