"""What model cards and the data card are made of: headings, sentences, facts and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup, escape

from livseg_lib.reporting.cells import TableView, format_text, is_missing
from livseg_lib.reporting.pages.card_wording import MISSING

Tables = Mapping[str, pd.DataFrame]
"""Name of a table of the report -> the table; those that are not written yet are not in it."""


@dataclass(frozen=True)
class CardSection:
    """One heading of a card with what stands below it."""

    title: str
    text: Sequence[str | Markup] = ()
    facts: Sequence[tuple[str, str | Markup]] = ()
    tables: Sequence[tuple[str, TableView]] = ()


def facts_of(pairs: Iterable[tuple[str, object]]) -> list[tuple[str, str | Markup]]:
    """Terms with values as people write them; what is empty or undefined is said to be missing."""
    return [(term, _told(value)) for term, value in pairs]


def linked(markdown: str) -> Markup:
    """Text in which `[word](address)` is a link, and all else escaped."""
    text = str(escape(markdown))
    return Markup(re.sub(r"\[([^\]]+)\]\((https://[^)\s]+)\)", r'<a href="\2">\1</a>', text))


def _told(value: object) -> str | Markup:
    if isinstance(value, Markup):
        return value
    empty = value in ("", [], {}, ()) if isinstance(value, (str, list, dict, tuple)) else is_missing(value)
    return MISSING if empty else format_text(value)
