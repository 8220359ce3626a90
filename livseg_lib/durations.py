"""Seconds as people say them."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Such as "38 s", "5 min 12 s" or "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"
