"""Which objects of a run may go, and why. Pure.

An object goes when nobody needs any output in it: not this run, not a rerun that took it by reference. What no event
names may go as soon as the run is in the hands of who asks: an executor of an older epoch can still write, but no
longer name it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, get_args

import msgspec

from runstore.housekeeping.inventory import Seqs
from runstore.log.events import DeletionReason
from runstore.outputs.base import Found

Why = Literal["orphan", "unnamed", "left behind", "old"]
"""An output that the run does not need; an object that no event names; one at a place that the run was moved away
from; one of a run that is old."""
WHYS: tuple[Why, ...] = get_args(Why)


class Amount(msgspec.Struct, frozen=True):
    """So many objects, of so many bytes."""

    objects: int = 0
    size_bytes: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.objects + other.objects, self.size_bytes + other.size_bytes)


class Surplus:
    """What may go of one place."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.why: dict[Why, Amount] = {}
        self.seqs: dict[DeletionReason, set[int]] = {"orphan": set(), "old": set()}
        """Outputs that go with these objects, of which the log does not say so yet."""
        self.in_use = Amount()
        """What would go, if no other run used it."""
        self.users: set[str] = set()
        """These runs."""

    def _add(self, found: Found, why: Why) -> None:
        self.paths.append(found.path)
        self.why[why] = self.why.get(why, Amount()) + Amount(1, found.size_bytes)


def surplus(
    objects: Iterable[Found],
    *,
    named: Mapping[str, Seqs],
    wanted: Collection[int],
    deleted: Collection[int],
    used: Mapping[str, str],
    is_old: bool = False,
    is_former: bool = False,
) -> Surplus:
    """Divide the objects of a place.

    `named`: path -> seqs of the events by which the run finds it there. `wanted`: the seqs that the run needs.
    `deleted`: those of which the log says that they are gone. `used`: path -> the other run that uses it. `is_old`: the
    run itself needs nothing any longer. `is_former`: the run was moved away from here.
    """
    result = Surplus()
    for found in objects:
        seqs = named.get(found.path, ())
        holds = [seq for seq in seqs if seq in wanted and seq not in deleted]
        if holds and not is_old:
            continue
        if found.path in used:
            result.in_use += Amount(1, found.size_bytes)
            result.users.add(used[found.path])
            continue
        if holds:
            result._add(found, "old")
        elif seqs:
            result._add(found, "orphan")
        else:
            result._add(found, "left behind" if is_former else "unnamed")
        result.seqs["old"].update(holds)
        result.seqs["orphan"].update(
            seq for seq in seqs if seq not in wanted and seq not in deleted
        )
    return result
