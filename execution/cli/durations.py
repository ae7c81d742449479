"""Durations as they are typed: `30d`, `12h`."""

import datetime as dt
import re

import click

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> dt.timedelta:
    """From `30d`, `12h`, `90m` or `2w`; raises BadParameter."""
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration; write 30d, 12h, 90m or 2w")
    return dt.timedelta(**{_UNITS[found[2]]: int(found[1])})
