"""The log of a run asked by its index: one step, one piece, one event at a time, never all of it.

What the run is as a whole (graph, bases, config, epoch) is folded by `RunState` from the few events that belong to no
step. Everything else is a `History` of the step that is asked for, as of now or as of an earlier seq.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import dropwhile
from operator import itemgetter
from typing import NamedTuple, Protocol

import msgspec

from runstore.audit.history import History
from runstore.audit.keys import find_node, find_step
from runstore.errors import LogDamaged
from runstore.keys import KeyPath, parse_step_key
from runstore.log.codec import decode
from runstore.log.event_log import row_id
from runstore.log.events import (
    STORES,
    AnyEvent,
    DynamicOutputStored,
    OutputDeleted,
    StepInvalidated,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Graph, Level, Node
from runstore.log.state import RunState
from runstore.log.transitions import SUCCEEDED
from runstore.outputs.output_store import OutputStore
from runstore.store import RunStore

# What happened to the run as a whole, to a step itself, and under one key of a step: each by `ix_step`.
_WIDE = "SELECT seq, body FROM events WHERE run = ? AND step IS NULL ORDER BY row_id"
_OWN = "SELECT seq, body FROM events WHERE run = ? AND step = ? AND key IS NULL ORDER BY row_id"
_PIECE = "SELECT seq, body FROM events WHERE run = ? AND step = ? AND key = ? ORDER BY row_id"
# The keys of one attempt, in yield order: from the index, which has to be sorted; or, where its rows lie close
# together, by walking them, so that the first keys of many cost what they are.
_KEYS = """
SELECT seq, key FROM events WHERE run = ? AND step = ? AND key IS NOT NULL AND row_id > ? AND row_id < ?
ORDER BY row_id"""
_KEYS_WALKED = """
SELECT seq, key FROM events WHERE +run = ? AND +step = ? AND +key IS NOT NULL AND row_id > ? AND row_id < ?
ORDER BY row_id"""
_SPARSE = 4
# Of these keys the ones that are like a glob or named: so few that sorting them costs nothing.
_KEYS_CHOSEN = """
SELECT seq, key FROM events WHERE run = ? AND step = ? AND key IS NOT NULL AND row_id > ? AND row_id < ?
AND (key GLOB ? OR key IN (SELECT value FROM json_each(?))) ORDER BY row_id"""

Rows = list[tuple[int, AnyEvent]]


class TooMany(Exception):
    """So much would have to be looked up that the whole log is better read at once."""


class Choice(NamedTuple):
    """The keys of one expansion that may lead on."""

    like: str | None
    """A glob of SQLite's; None: none but the named."""
    names: frozenset[str]


class Narrowing(Protocol):
    """What a walk over the key paths of a node asks."""

    def after(self, path: KeyPath) -> Choice | None:
        """The keys to go on with behind the begin of a key path; None: all."""


class Lookup:
    """One run, asked step by step. What was asked once is remembered: a living run is to be looked up anew."""

    def __init__(self, store: RunStore, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self.number = number_of(store, run_id)
        self.wide = self.rows(_WIDE, self.number)
        self.frame = _frame(run_id, self.wide)
        """The run without its steps."""
        self._own: dict[StepId, Rows] = {}
        self._histories: dict[tuple[StepId, int | None], History] = {}

    @cached_property
    def outputs(self) -> OutputStore:
        """The stored outputs of the run, over all bases that its log declares."""
        return self.store.outputs(self.frame)

    @property
    def graph(self) -> Graph:
        """The graph in force."""
        return self.frame.graph

    def event(self, seq: int) -> AnyEvent:
        """One event."""
        return self.store.event(self.run_id, seq)

    def own(self, step: StepId) -> Rows:
        """(seq, event) of what happened to a step itself, without what it yielded under keys."""
        found = self._own.get(step)
        if found is None:
            found = self._own[step] = self.rows(_OWN, self.number, str(step))
        return found

    def story(self, step: StepId) -> Rows:
        """What happened to a step and to the run as a whole, in the order of the log."""
        return sorted([*self.wide, *self.own(step)], key=itemgetter(0))

    def history(self, step: StepId, upto: int | None = None) -> History:
        """What became of a step, `upto` a seq."""
        found = self._histories.get((step, upto))
        if found is None:
            found = self._histories[step, upto] = History(step)
            for seq, event in self.story(step):
                if upto is None or seq <= upto:
                    found.apply(seq, event)
        return found

    def status(self, step: StepId) -> int:
        """As `RunState.status`, for a step that is known."""
        return self.history(step).status

    def stored(self, step: StepId) -> Rows:
        """(seq, event) of what a step stored, or of what was stored as one piece: `echo[a]` may be either."""
        node = self.graph.by_name[step.node]
        if len(step.key_path) > len(node.scope):
            maker = StepId(step.node, step.key_path[:-1])
            return self.rows(_PIECE, self.number, str(maker), step.key_path[-1])
        return [(seq, event) for seq, event in self.own(step) if isinstance(event, STORES)]

    # Keys

    def piece(
        self, level: Level, maker_path: KeyPath, key: str, upto: int | None = None
    ) -> tuple[int, bool]:
        """(seq of the event that counts, is the key in the last seal) of one piece; (0, False): it was never sealed."""
        maker = StepId(level.node, maker_path)
        rows = self.rows(_PIECE, self.number, str(maker), key)
        stored = [
            seq
            for seq, event in rows
            if isinstance(event, DynamicOutputStored) and event.output == level.output
        ]
        return self.history(maker, upto).piece_seq(stored, level.output, key)

    def keys(
        self,
        level: Level,
        maker_path: KeyPath,
        upto: int | None = None,
        choice: Choice | None = None,
    ) -> Iterator[str]:
        """The keys that a dynamic output was last sealed with, in their order; or just those of a choice."""
        maker = StepId(level.node, maker_path)
        successes = self.history(maker, upto).successes
        if not successes:
            return
        last = successes[-1]
        asked = (
            self.number, str(maker), row_id(self.number, last.started), row_id(self.number, last.seq),
        )  # fmt: skip
        if choice is not None:
            names = msgspec.json.encode(list(choice.names)).decode()
            rows = self.store.query(_KEYS_CHOSEN, (*asked, choice.like, names))
        else:
            attempts = self.history(maker, upto).attempts
            sealed = sum(seal.count for one in attempts for seal in one.seals)
            is_dense = last.seq - last.started <= _SPARSE * (sealed + 1)
            rows = self.store.query(_KEYS_WALKED if is_dense else _KEYS, asked)
        several = len(self.graph.dynamic_outputs.get(level.node, ())) > 1
        for seq, key in rows:
            if not several or getattr(self.event(seq), "output", "") == level.output:
                yield str(key)

    def find(self, text: str) -> StepId:
        """The step of that step key; raises InvalidKey, or StepNotFound with what to write instead."""
        step = StepId(*parse_step_key(text))
        find_node(self.frame, step.node)
        return step if self.is_known(step) else find_step(self.store.state(self.run_id), text)

    def is_known(self, step: StepId) -> bool:
        """True for a step that the run has, orphans included: each of its keys was sealed once."""
        node = self.graph.by_name.get(step.node)
        if node is None or len(node.scope) != len(step.key_path):
            return False
        return all(seq for seq, _ in self._pieces(node, step.key_path))

    def is_sealed(self, step: StepId) -> bool:
        """False for an orphan: a clone with a key that the last seal no longer holds."""
        return all(
            sealed for _, sealed in self._pieces(self.graph.by_name[step.node], step.key_path)
        )

    def paths(
        self,
        node: Node,
        fixed: Mapping[int, str],
        after: KeyPath = (),
        path: KeyPath = (),
        narrowing: Narrowing | None = None,
    ) -> Iterator[KeyPath]:
        """The key paths of a node's clones, in order; `fixed`: keys at places of the path, `after`: behind this one.

        `narrowing`: perhaps just those that it leads to.
        """
        depth = len(path)
        if depth == len(node.scope):
            yield path
            return
        if depth in fixed:
            keys = iter((fixed[depth],))
        else:
            at = self.graph.makers[node.name][depth]
            choice = narrowing.after(path) if narrowing else None
            if choice is not None and after:
                choice = choice._replace(names=choice.names | {after[0]})
            maker_path = tuple([path[place] for place in at])
            keys = self.keys(node.scope[depth], maker_path, choice=choice)
        if after:
            keys = dropwhile(lambda key: key != after[0], keys)
            first = next(keys, None)
            if first is not None and len(after) > 1:
                yield from self.paths(node, fixed, after[1:], (*path, first), narrowing)
        for key in keys:
            yield from self.paths(node, fixed, (), (*path, key), narrowing)

    def _pieces(self, node: Node, path: KeyPath) -> Iterator[tuple[int, bool]]:
        for depth, key in enumerate(path):
            at = self.graph.makers[node.name][depth]
            yield self.piece(node.scope[depth], tuple([path[place] for place in at]), key)

    def output_seq(self, step: StepId, output: str, upto: int | None = None) -> int:
        """The seq of the event that stored a plain output, where it counts (or did); else 0."""
        return self.history(step, upto).output_seq(output)

    def counts(self, seq: int, event: AnyEvent) -> bool:
        """True for an event that stored an output which counts now."""
        step = step_of(event)
        if self.status(step) != SUCCEEDED:
            return False
        if isinstance(event, DynamicOutputStored):
            level = Level(step.node, event.output)
            return self.piece(level, step.key_path, event.mapping_key) == (seq, True)
        return self.output_seq(step, getattr(event, "output", "")) == seq

    def rows(self, sql: str, *parameters: int | str) -> Rows:
        """(seq, event) of a statement that selects seq and body."""
        rows = list(self.store.query(sql, parameters))
        return [(seq, decode(body, self.run_id, seq)) for seq, body in rows]


def _frame(run_id: str, wide: Rows) -> RunState:
    frame = RunState(run_id)
    for seq, event in wide:
        if not isinstance(event, StepInvalidated | OutputDeleted):  # of steps: a frame has none
            frame.seq = seq - 1
            frame.apply(seq, event)
    if frame.started is None:
        raise LogDamaged(
            f"run {run_id!r}: its log does not begin with RunStarted; `runstore verify {run_id}` says more"
        )
    return frame


def number_of(store: RunStore, run_id: str) -> int:
    """The number of a run, which stands in its rows."""
    return int(next(store.query("SELECT run FROM runs WHERE id = ?", (run_id,)))[0])


def step_of(event: AnyEvent) -> StepId:
    """The step that an event speaks of."""
    return StepId(*parse_step_key(getattr(event, "step", "")))
