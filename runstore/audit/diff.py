"""How two runs differ: keys, outputs by their digest, time by op, code and config.

Each run is read once; outputs are compared by step key, name and mapping key, never by a position.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from runstore.audit.stored import OpTotal, Output, Stored
from runstore.store import RunStore


class Side(msgspec.Struct, frozen=True):
    """One of the runs."""

    run_id: str
    status: str
    job: str
    version: str
    """Of runstore."""
    epochs: int
    outputs: int
    """How many count."""


class Changed(msgspec.Struct, frozen=True):
    """An output that both runs have, with other bytes."""

    step: str
    output: str
    key: str | None
    left: str
    """sha256"""
    right: str


class Single(msgspec.Struct, frozen=True):
    """An output, or a key, that one run has and the other has not."""

    step: str
    output: str
    key: str | None


class Setting(msgspec.Struct, frozen=True):
    """A value of the run config that differs; None where one run has none."""

    path: str
    left: Any
    right: Any


class OpDiff(msgspec.Struct, frozen=True):
    """One op in both runs; None where one has no such op."""

    op: str
    left_steps: int | None
    right_steps: int | None
    left_seconds: float
    right_seconds: float
    """Of the successful attempts together."""
    code_changed: bool
    left_code: tuple[str, ...]
    right_code: tuple[str, ...]


class RunDiff(msgspec.Struct, frozen=True):
    """What differs between `left` and `right`."""

    left: Side
    right: Side
    same: int
    """Outputs that are the same, byte for byte."""
    keys_added: tuple[Single, ...]
    """Mapping keys that only `right` has: `step` has yielded `key` under `output`."""
    keys_gone: tuple[Single, ...]
    outputs_added: tuple[Single, ...]
    """Plain outputs that only `right` has."""
    outputs_gone: tuple[Single, ...]
    changed: tuple[Changed, ...]
    config: tuple[Setting, ...]
    ops: tuple[OpDiff, ...]


def diff(store: RunStore, left: str, right: str) -> RunDiff:
    """What has changed from one run to the other. Raises RunNotFound, LogDamaged."""
    ours, theirs = _side(store, left), _side(store, right)
    before, after = ours[1].contents, theirs[1].contents
    both = before.keys() & after.keys()
    changed = [one for one in before if one in both and before[one] != after[one]]
    added, gone = _only(after, before), _only(before, after)
    return RunDiff(
        left=ours[0],
        right=theirs[0],
        same=len(both) - len(changed),
        keys_added=tuple(one for one in added if one.key is not None),
        keys_gone=tuple(one for one in gone if one.key is not None),
        outputs_added=tuple(one for one in added if one.key is None),
        outputs_gone=tuple(one for one in gone if one.key is None),
        changed=tuple(Changed(*one, before[one], after[one]) for one in changed),
        config=tuple(_settings("", ours[1].frame.config, theirs[1].frame.config)),
        ops=tuple(_ops(ours[1].ops, theirs[1].ops)),
    )


def _side(store: RunStore, run: str) -> tuple[Side, Stored]:
    summary = store.run(run)
    stored = Stored(store, summary.run_id)
    frame = stored.frame
    assert frame.started is not None
    side = Side(
        summary.run_id,
        summary.status,
        frame.job,
        frame.started.version,
        frame.epoch,
        len(stored.contents),
    )
    return side, stored


def _only(of: dict[Output, str], other: dict[Output, str]) -> list[Single]:
    return [Single(*one) for one in of if one not in other]


def _settings(path: str, left: Any, right: Any) -> Iterator[Setting]:
    if isinstance(left, dict) and isinstance(right, dict):
        for name in dict.fromkeys((*left, *right)):
            below = f"{path}.{name}" if path else str(name)
            yield from _settings(below, left.get(name), right.get(name))
    elif left != right or type(left) is not type(right):
        yield Setting(path, left, right)


def _ops(left: dict[str, OpTotal], right: dict[str, OpTotal]) -> Iterator[OpDiff]:
    for op in dict.fromkeys((*left, *right)):
        ours, theirs = left.get(op), right.get(op)
        left_code, right_code = _code(ours), _code(theirs)
        yield OpDiff(
            op,
            ours.succeeded if ours else None,
            theirs.succeeded if theirs else None,
            round(ours.seconds, 6) if ours else 0.0,
            round(theirs.seconds, 6) if theirs else 0.0,
            bool(left_code and right_code and left_code != right_code),
            left_code,
            right_code,
        )


def _code(total: OpTotal | None) -> tuple[str, ...]:
    return tuple(sorted(total.codes)) if total else ()
