"""The changes of UTC offset of a zone, read from the bytes of its TZif file (RFC 9636).

Another way to the same facts as the job `timezone_audit`, which asks `zoneinfo` day by day: nothing
here knows `zoneinfo`, and nothing is searched for. The 64-bit table lists the transitions up to
some year, and the rule in the footer (a POSIX TZ string) gives those of every later year.
"""

import calendar
import re
import struct
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

START = calendar.timegm((1970, 1, 1, 0, 0, 0))
LAST_YEAR = 2037
END = calendar.timegm((LAST_YEAR + 1, 1, 1, 0, 0, 0))  # exclusive


class Clock(NamedTuple):
    """What a zone's clocks show: its UTC offset in seconds, whether it is DST, its name."""

    offset_s: int
    dst: bool
    abbreviation: str


class Transition(NamedTuple):
    """From the second `at` of the epoch on, `after` is shown; until then `before`."""

    at: int
    before: Clock
    after: Clock


@dataclass(frozen=True)
class ZoneFacts:
    offset_changes: list[Transition]
    final: Clock


def zone_facts(zone: str) -> ZoneFacts:
    """All changes of the UTC offset from 1970 to 2037, and the clock in the last second of 2037."""
    data = files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()
    first, table, footer = _read_tzif(data)
    moments = table + [
        (at, clock) for at, clock in _from_footer(footer) if not table or at > table[-1][0]
    ]
    clock, changes = first, []
    for at, following in moments:
        if START < at < END and following.offset_s != clock.offset_s:
            changes.append(Transition(at, clock, following))
        if at < END:
            clock = following
    return ZoneFacts(changes, clock)


def _read_tzif(data: bytes) -> tuple[Clock, list[tuple[int, Clock]], str]:
    """The clock before the first transition, the transitions of the 64-bit block, the footer."""
    skipped = _counts(data)
    begin = 44 + _block_size(skipped, time_size=4)
    counts = _counts(data[begin:])
    _, _, leaps, times, types, chars = counts
    assert leaps == 0, "zones of tzdata are without leap seconds"

    body = data[begin + 44 :]
    instants = struct.unpack_from(f">{times}q", body)
    indices = body[8 * times : 9 * times]
    infos = [struct.unpack_from(">lBB", body, 9 * times + 6 * i) for i in range(types)]
    names = body[9 * times + 6 * types :][:chars]
    clocks = [
        Clock(offset_s, bool(dst), names[at : names.index(b"\0", at)].decode("ascii"))
        for offset_s, dst, at in infos
    ]
    footer = body[_block_size(counts, time_size=8) :].decode("ascii")
    assert (footer[0], footer[-1]) == ("\n", "\n")
    return (
        clocks[0],
        [(at, clocks[i]) for at, i in zip(instants, indices, strict=True)],
        footer[1:-1],
    )


def _counts(data: bytes) -> tuple[int, ...]:
    """isutcnt, isstdcnt, leapcnt, timecnt, typecnt, charcnt."""
    assert data[:5] in (b"TZif2", b"TZif3", b"TZif4"), "64-bit data begins with version 2"
    return struct.unpack_from(">6L", data, 20)


def _block_size(counts: tuple[int, ...], time_size: int) -> int:
    isutc, isstd, leaps, times, types, chars = counts
    return times * (time_size + 1) + types * 6 + chars + leaps * (time_size + 4) + isstd + isutc


_NAME = r"<[^>]+>|[A-Za-z]+"
_TIME = r"[+-]?\d+(?::\d+){0,2}"
_FOOTER = re.compile(
    rf"(?P<std>{_NAME})(?P<std_offset>{_TIME})"
    rf"(?:(?P<dst>{_NAME})(?P<dst_offset>{_TIME})?,(?P<begin>[^,]+),(?P<end>[^,]+))?"
)


def _from_footer(footer: str) -> list[tuple[int, Clock]]:
    """The transitions of a rule, in order of time, as if it had held in all years."""
    match = _FOOTER.fullmatch(footer)
    assert match, footer
    # POSIX counts offsets westwards.
    standard = Clock(-_seconds(match["std_offset"]), False, match["std"].strip("<>"))
    if match["dst"] is None:
        return []
    dst_s = -_seconds(match["dst_offset"]) if match["dst_offset"] else standard.offset_s + 3600
    saving = Clock(dst_s, True, match["dst"].strip("<>"))
    moments = []
    for year in range(1970, LAST_YEAR + 1):
        moments.append((_wall_time(match["begin"], year) - standard.offset_s, saving))
        moments.append((_wall_time(match["end"], year) - saving.offset_s, standard))
    return sorted(moments)


def _wall_time(rule: str, year: int) -> int:
    """`M3.5.0/2`, `J60` or `59`, in seconds as if the wall clock were UTC; at 02:00 if not said."""
    day, _, time = rule.partition("/")
    if day.startswith("M"):
        month, week, weekday = map(int, day[1:].split("."))
        instant = calendar.timegm((year, month, _day_of_month(year, month, week, weekday), 0, 0, 0))
    elif day.startswith("J"):  # 1 to 365, February 29 is never counted
        number = int(day[1:])
        leap = calendar.isleap(year) and number >= 60
        instant = calendar.timegm((year, 1, 1, 0, 0, 0)) + (number - 1 + leap) * 86_400
    else:  # 0 to 365
        instant = calendar.timegm((year, 1, 1, 0, 0, 0)) + int(day) * 86_400
    return instant + _seconds(time or "2")


def _day_of_month(year: int, month: int, week: int, weekday: int) -> int:
    """The week-th such weekday (0 is Sunday) of a month; the fifth is the last one."""
    days = [
        day
        for row in calendar.Calendar(calendar.SUNDAY).monthdayscalendar(year, month)
        if (day := row[weekday])
    ]
    return days[-1] if week == 5 else days[week - 1]


def _seconds(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    hours, minutes, seconds = [*map(int, text.lstrip("+-").split(":")), 0, 0][:3]
    return sign * (hours * 3600 + minutes * 60 + seconds)
