"""Bounds that an op or a job sets to its steps: how long, how many at a time, how often; read and checked. Pure."""

import re
from collections.abc import Mapping
from math import inf
from typing import Any

from execution.errors import DefinitionError

_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_RATE = re.compile(r"(\d+(?:\.\d+)?)/([smh])")


def checked_timeout(timeout: Any, where: str) -> float | None:
    """Seconds that an attempt may take."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < inf:
        raise DefinitionError(f"{where}: timeout is {timeout!r}; write seconds, more than 0")
    return float(timeout)


def checked_count(count: Any, where: str) -> int | None:
    """How many steps may run at a time."""
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise DefinitionError(f"{where} is {count!r}; write a whole number from 1 on")
    return count


def checked_rate(rate: Any, where: str) -> float | None:
    """How many steps may start per second, of `10/s`, `90/m` or `500/h`."""
    if rate is None:
        return None
    found = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    if found is None or float(found[1]) == 0:
        raise DefinitionError(
            f"{where}: rate is {rate!r}; write '10/s', '90/m' or '500/h', more than 0"
        )
    return float(found[1]) / _UNITS_S[found[2]]


def checked_tag_counts(counts: Mapping[Any, Any] | None, where: str) -> dict[str, int]:
    """Tag, or `tag=value`, -> how many steps may run at a time that have it."""
    checked = {}
    for tag, count in dict(counts or {}).items():
        if not isinstance(tag, str):
            raise DefinitionError(
                f"{where}: tag_concurrency names {tag!r}; write 'tag' or 'tag=value'"
            )
        found = checked_count(count, f"{where}: tag_concurrency of {tag!r}")
        if found is not None:
            checked[tag] = found
    return checked
