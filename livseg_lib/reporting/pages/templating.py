"""Pages from templates: escaped, nothing undefined, style and script inside."""

from __future__ import annotations

from functools import cache

import jinja2
from markupsafe import Markup

from livseg_lib.errors import format_duration
from livseg_lib.reporting.cells import MISSING, format_text, is_missing

INCLUDED = ("page.css", "page.js", "patient.css", "patient.js", "card.css")
"""Files of templates/ that a template puts in as they are: page.css is `{{ page_css }}`."""


@cache
def environment() -> jinja2.Environment:
    """Where the templates of all pages come from, with the filters duration, megabytes and words."""
    loader = jinja2.PackageLoader("livseg_lib.reporting.pages")
    found = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in INCLUDED:
        found.globals[name.replace(".", "_")] = Markup(loader.get_source(found, name)[0])
    found.filters |= {
        "duration": lambda seconds: MISSING if is_missing(seconds) else format_duration(seconds),
        "megabytes": lambda size: MISSING if is_missing(size) else f"{size:,.0f} MB".replace(",", "\u202f"),
        "words": format_text,
    }
    return found
