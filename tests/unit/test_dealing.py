"""Which tickets go to which place of a cluster, for any mix of them."""

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution import op
from execution.executors.dealing import (
    BATCH_S,
    MOST,
    SHORT_S,
    Durations,
    Lane,
    Waiting,
    deal,
    fits,
    kind_of,
    together,
)
from execution.running.brief import Brief
from execution.running.told import Ticket
from runstore import RunStore
from tests.unit.contract_jobs import contract
from tests.unit.executor_contract import Bench

_BRIEF = Brief.of(Bench.state(RunStore.in_memory()), contract)
NODES = {"pieces": 0.001, "fails": 0.02, "writes": 1.0, "more": None}
"""Node -> how long its steps take; None: nobody knows yet."""


def ticket(node: str, number: int, losses: int) -> Ticket:
    """One of many."""
    context = _BRIEF.context(node, (), number)
    return _BRIEF.ticket(context, {}, node, losses)


def learned() -> Durations:
    """What is known of the nodes."""
    known = Durations()
    for node, took_s in NODES.items():
        if took_s is not None:
            known.learn(("node", node), took_s)
    return known


mixes = st.lists(
    st.tuples(
        st.sampled_from(sorted(NODES)),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([{}, {}, {}, {"GPU": 1.0}]),
    ),
    max_size=300,
)


@given(mixes, st.integers(0, 5))
def test_dealing(mix: list[tuple[str, int, dict[str, float]]], count: int) -> None:
    """Nothing is lost or doubled, all keep their order; what may take long is alone; no place is empty for nothing."""
    entries = [
        Waiting(ticket(node, n, losses), needs) for n, (node, losses, needs) in enumerate(mix)
    ]
    spare = {"GPU": 2.0}
    lanes = [Lane(f"at-{n}", spare) for n in range(count)]
    waiting = deque(entries)
    used = deal(waiting, lanes, learned())
    place = {id(entry): n for n, entry in enumerate(entries)}
    dealt = [place[id(entry)] for lane in used for entry in lane.batch]
    left = [place[id(entry)] for entry in waiting]
    assert sorted(dealt + left) == list(range(len(entries)))
    assert left == sorted(left)
    for lane in lanes:
        order = [place[id(entry)] for entry in lane.batch]
        assert order == sorted(order)
        assert len(lane.batch) <= MOST
        if len(lane.batch) > 1:
            assert all(is_short(entry) for entry in lane.batch)
            assert (
                sum(NODES[entry.ticket.context.node] or 1 for entry in lane.batch) <= BATCH_S + 1e-9
            )
    needed = sum(bool(entry.needs) for lane in lanes for entry in lane.batch)
    assert spare["GPU"] == 2.0 - needed >= 0
    if any(not lane.batch for lane in lanes):
        assert all(entry.needs and not fits(entry.needs, spare) for entry in waiting)


def is_short(entry: Any) -> bool:
    """It may have company."""
    took_s = NODES[entry.ticket.context.node]
    return took_s is not None and took_s <= SHORT_S and not entry.needs and not entry.ticket.losses


def test_durations() -> None:
    """One that takes long is noticed at once; that the others do not is learned again in time."""
    known, kind = Durations(), kind_of(ticket("pieces", 1, 0))
    assert known.of(kind) > SHORT_S
    known.learn(kind, 0.001)
    assert known.of(kind) <= SHORT_S
    known.learn(kind, 10.0)
    assert known.of(kind) > SHORT_S
    for _ in range(50):
        known.learn(kind, 0.001)
    assert known.of(kind) <= SHORT_S


@pytest.mark.parametrize("limits", [{"rate": "10/s"}, {"concurrency": 3}, {"timeout": 9}])
def test_limited_steps_go_alone(limits: dict[str, Any]) -> None:
    """Several in a batch would begin one right after the other, however far apart the log says that they started."""

    @op(**limits)
    def limited() -> int:
        return 1

    context = _BRIEF.context("pieces", (), 1)
    one = Ticket(limited, context, {}, "pieces")
    known = Durations()
    known.learn(("node", "pieces"), 0.001)
    assert together(known, one) == 1
