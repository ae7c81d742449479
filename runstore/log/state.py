"""What a run has become, computed from its events alone.

Nothing here reads a clock, a file or a database: same events in, same RunState out. Facts are held in columns, by the
place ("slot") at which a key was first sealed; of a stored output only the seq of its event is kept. An event that
cannot follow what came before means that the log is damaged, and is refused before anything changes.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from runstore.errors import InvalidKey, LogDamaged
from runstore.keys import KeyPath, format_step_key, parse_step_key
from runstore.log.codec import keys_digest
from runstore.log.columns import Expansion, OpenExpansion, Steps
from runstore.log.events import (
    UNSTAMPED,
    AnyEvent,
    CollectResolved,
    DynamicOutputStored,
    Event,
    ExpansionSealed,
    HookFailed,
    HooksDue,
    HookSucceeded,
    OutputStored,
    ReuseSealed,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from runstore.log.graph import Graph, Level, Node
from runstore.log.transitions import (
    FAILED,
    FAILED_BEFORE,
    INTERRUPTED,
    INVALIDATED,
    OUTPUT_LOST,
    PENDING,
    SKIPPED,
    STATUS_NAMES,
    STEP_TRANSITIONS,
    SUCCEEDED,
)

_ANY: Final[dict[int, str]] = {}


class StepId(NamedTuple):
    """A step: a node at a key path."""

    node: str
    key_path: KeyPath

    def __str__(self) -> str:
        return format_step_key(self.node, self.key_path)


class RunState:
    """The fold of a run's events. `apply` is the only way in."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.seq = 0
        self.epoch = 0
        self.started: RunStarted | None = None
        self.time = UNSTAMPED
        self.ended: RunEnded | None = None
        self.job = ""
        self.config: dict[str, Any] = {}
        self.bases: list[str] = []
        self.level = "durable"
        self.is_taking = False
        """True while what a rerun takes from its parent is not yet whole."""
        self.graph = Graph("", ())
        self.running: dict[StepId, int] = {}
        """Step -> seq of its start."""
        self.failures: dict[StepId, int] = {}
        """Step -> seq of its `StepFailed`, of this epoch."""
        self.waiting: dict[StepId, dt.datetime] = {}
        """Step -> when its next attempt is due."""
        self.retries: dict[StepId, int] = {}
        """Step that waits or runs again -> how many retries of its budget are used up; a resume gives a new one."""
        self.codes: dict[str, set[str]] = {}
        """Node -> digests of the code by which its finished work came to be."""
        self.deaths: dict[StepId, int] = {}
        """Step -> how many of the last epochs in a row died while it ran (rule R2)."""
        self.lost: dict[StepId, frozenset[str]] = {}
        """Step that runs again for lost bytes -> its lost outputs (rule R6)."""
        self.hooks_due: dict[tuple[StepId, int], HooksDue] = {}
        """Step and attempt -> the hooks that its outcome is still to be told to."""
        self.hook_failures: dict[str, tuple[int, int]] = {}
        """Hook -> how many of its calls have failed, and the seq of the first `HookFailed`."""
        self._expansions: dict[tuple[str, str, KeyPath], Expansion] = {}
        self._open: dict[StepId, dict[str, OpenExpansion]] = {}
        self._steps: dict[str, dict[KeyPath, Steps]] = {}
        self._started_codes: dict[StepId, str] = {}
        self._lookup: dict[tuple[str, KeyPath], tuple[dict[str, int] | None, Steps]] = {}
        self._has_orphans = False
        self._placed: tuple[str, tuple[StepId, Steps, int] | None] = ("", None)

    # What it answers

    def status(self, step: StepId) -> int:
        """PENDING, RUNNING, SUCCEEDED, FAILED, SKIPPED or WAITING; PENDING for a step that is not known (yet)."""
        place = self.find(step)
        return place[0].status[place[1]] if place else PENDING

    def find(self, step: StepId) -> tuple[Steps, int] | None:
        """The columns and the slot of a step; None where its key is not sealed or its node does not exist."""
        node, key_path = step
        found = self._lookup.get((node, key_path[:-1])) or self._look_up(node, key_path)
        if found is None:
            return None
        keys, columns = found
        if keys is None or not key_path:
            return (columns, 0) if keys is None and not key_path else None
        slot = keys.get(key_path[-1])
        return None if slot is None else (columns, slot)

    def _look_up(self, name: str, key_path: KeyPath) -> tuple[dict[str, int] | None, Steps] | None:
        """Remember where the steps of a node below a key path are; forgotten when keys are sealed."""
        node = self.graph.by_name.get(name)
        if node is None or len(node.scope) != len(key_path):
            return None
        prefix = key_path[:-1]
        if not self._are_known(node, prefix):
            return None
        expansion = self.expansion_under(node, prefix) if node.scope else None
        if node.scope and expansion is None:
            return None
        found = (expansion.keys if expansion else None, self.steps(node, prefix))
        self._lookup[name, prefix] = found
        return found

    def _are_known(self, node: Node, path: KeyPath) -> bool:
        """True when every key of a path, or of its beginning, was sealed once."""
        expansions = [self.expansion_under(node, path[:depth]) for depth in range(len(path))]
        return all(
            expansion is not None and key in expansion.keys
            for key, expansion in zip(path, expansions, strict=True)
        )

    def steps(self, node: Node, prefix: KeyPath) -> Steps:
        """The columns of a node's steps below `prefix`, all its key path but the last key."""
        below = self._steps.setdefault(node.name, {})
        columns = below.get(prefix)
        if columns is None:
            expansion = self.expansion_under(node, prefix) if node.scope else None
            columns = Steps(node, len(expansion.keys) if expansion else not node.scope)
            if expansion or not node.scope:  # without keys there is nothing to remember
                below[prefix] = columns
        return columns

    def tally(self, node: Node) -> tuple[int | None, int]:
        """(sealed, settled) steps of a node; sealed is None while no keys are known. Any thread may ask."""
        below = self._steps.get(node.name, {})
        settled = sum(columns.settled for columns in list(below.values()))
        if not node.scope:
            return 1, settled
        expansions = [self.expansion_under(node, prefix) for prefix in self.prefixes(node)]
        known = [len(expansion) for expansion in expansions if expansion is not None]
        return (sum(known) if known else None), settled

    def expansion(self, level: Level, producer_path: KeyPath = ()) -> Expansion | None:
        """The keys that a dynamic output was last sealed with; None until its producer has succeeded once."""
        return self._expansions.get((level.node, level.output, producer_path))

    def expansion_under(self, node: Node, prefix: KeyPath) -> Expansion | None:
        """The keys that a mapped node is cloned for below `prefix`, at the level after those of the prefix's keys."""
        depth = len(prefix)
        level, at = node.scope[depth], self.graph.makers[node.name][depth]
        path = prefix if len(at) == depth else tuple([prefix[place] for place in at])
        return self._expansions.get((level.node, level.output, path))

    def maker(self, node: Node, prefix: KeyPath) -> StepId:
        """The step whose keys a mapped node is cloned for below `prefix`."""
        at = self.graph.makers[node.name][len(prefix)]
        return StepId(node.scope[len(prefix)].node, tuple([prefix[place] for place in at]))

    def output_seq(self, step: StepId, output: str) -> int:
        """The seq of the event that stored this plain output; 0 where it does not (or does not yet) count."""
        place = self.find(step)
        if place is None or place[0].status[place[1]] != SUCCEEDED:
            return 0
        column = place[0].outputs.get(output)
        return column[place[1]] if column is not None else 0

    def kept_seq(self, step: StepId, output: str) -> int:
        """As `output_seq`, but also for a step that is to run again for other lost bytes (rule R6)."""
        place = self.find(step)
        if place is None or (step not in self.lost and place[0].status[place[1]] != SUCCEEDED):
            return 0
        column = place[0].outputs.get(output)
        return column[place[1]] if column is not None else 0

    def piece_seq(self, level: Level, producer_path: KeyPath, key: str) -> int:
        """The seq of the event that stored one piece of a dynamic output; 0 where it is not sealed."""
        expansion = self.expansion(level, producer_path)
        slot = expansion.keys.get(key) if expansion else None
        return 0 if expansion is None or slot is None else expansion.seqs[slot]

    def is_over(self) -> bool:
        """True when the run's last event says so; a run that is neither over nor claimed has crashed."""
        return self.ended is not None

    # What it takes in

    def apply(self, seq: int, event: AnyEvent) -> StepId | None:
        """Take in the next event; returns the step that it settled (succeeded or skipped), if it did.

        Raises LogDamaged if the event cannot follow what came before; this state is then of no further use.
        """
        if seq != self.seq + 1:
            raise self._damaged(seq, f"follows seq {self.seq}; rows are missing or out of order")
        kind = type(event)
        if kind is RunStarted or kind is RunResumed:
            self._check_epoch(seq, event, self.epoch + 1)
        elif event.epoch != self.epoch or self.ended is not None or not self.seq:
            self._check_epoch(seq, event, self.epoch)
            raise self._damaged(seq, f"{kind.__name__} stands after the end of the run")
        if event.time < self.time:
            raise self._damaged(seq, "is older than the row before it; rows were swapped or edited")
        try:
            settled: StepId | None = _APPLY[kind](self, seq, event)
        except InvalidKey as error:
            raise self._damaged(seq, str(error)) from None
        self.seq = seq
        self.time = event.time
        return settled

    def _check_epoch(self, seq: int, event: AnyEvent, epoch: int) -> None:
        if type(event) is RunStarted and seq != 1:
            raise self._damaged(seq, "is a second RunStarted")
        if seq == 1 and type(event) is not RunStarted:
            raise self._damaged(seq, f"is a {type(event).__name__}; a log begins with RunStarted")
        if event.epoch != epoch:
            raise self._damaged(seq, f"has epoch {event.epoch}, expected {epoch}")

    def _damaged(self, seq: int, fact: str) -> LogDamaged:
        return LogDamaged(
            f"run {self.run_id!r}, seq {seq}: {fact}; the log is damaged and nothing was written. "
            "Restore it from a copy"
        )

    def _run_started(self, seq: int, event: RunStarted) -> None:
        self.started = event
        self.epoch = event.epoch
        self.graph, self.job, self.config = event.graph, event.job, event.config
        self.bases, self.level = [event.base], event.level
        if event.parent is not None:
            self.bases, self.is_taking = [*event.parent.bases, event.base], True

    def _run_resumed(self, seq: int, event: RunResumed) -> None:
        self.epoch = event.epoch
        self.job = self.job if event.job is None else event.job
        self.config = self.config if event.config is None else event.config
        if event.base is not None:
            self.bases.append(event.base)
        if event.graph is not None:
            self._replace_graph(event.graph)
        if self.ended is None:
            self.deaths = {step: self.deaths.get(step, 0) + 1 for step in self.running}
        else:
            self.deaths = {}
        for step in self.running:
            self._set_pending(step, INTERRUPTED)
        for step in self.failures:
            self._set_pending(step, FAILED_BEFORE)
        self.running, self.failures, self._open, self._started_codes = {}, {}, {}, {}
        self.retries = {}
        self.ended = None

    def _replace_graph(self, graph: Graph) -> None:
        """Go on with another graph; what is known of a node that is gone or has another shape fits it no more."""
        same = {
            name
            for name, node in graph.by_name.items()
            if _shape(node) == _shape(self.graph.by_name.get(name))
        }
        self.graph = graph
        self._forget_places()
        for name in [name for name in self._steps if name not in same]:
            del self._steps[name]
        for known in (self.running, self.failures, self.waiting, self.lost):
            for step in [step for step in known if step.node not in same]:
                del known[step]

    def _reuse_sealed(self, seq: int, event: ReuseSealed) -> None:
        if not self.is_taking:
            raise self._damaged(seq, "ends what the run took from its parent, which is not open")
        self.is_taking = False

    def _step_started(self, seq: int, event: StepStarted | StepReused) -> None:
        step, columns, slot = self._move(seq, event, event.step)
        if event.attempt != columns.attempts[slot] + 1:
            raise self._damaged(
                seq, f"starts attempt {event.attempt} after attempt {columns.attempts[slot]}"
            )
        columns.attempts[slot] += 1
        self.running[step] = seq
        if self.waiting:
            self.waiting.pop(step, None)
        if step not in self.lost:
            columns.clear_outputs(slot)
        self._started_codes[step] = event.code
        dynamic = self.graph.dynamic_outputs[step.node]
        if dynamic:
            self._open[step] = {output: OpenExpansion() for output in dynamic}

    def _output_stored(self, seq: int, event: OutputStored) -> None:
        step, columns, slot = self._move(seq, event, event.step)
        self._check_attempt(seq, event.attempt, columns, slot)
        column = columns.outputs.get(event.output)
        if column is None:
            raise self._damaged(
                seq, f"stores output {event.output!r}, which {event.step!r} does not have"
            )
        if not self.lost or event.output in self.lost.get(step, (event.output,)):
            column[slot] = seq

    def _dynamic_output_stored(self, seq: int, event: DynamicOutputStored) -> None:
        step, columns, slot = self._move(seq, event, event.step)
        self._check_attempt(seq, event.attempt, columns, slot)
        piece = self._open[step].get(event.output) if step in self._open else None
        if piece is None or piece.sealed or event.mapping_key in piece.keys:
            raise self._damaged(
                seq,
                f"adds key {event.mapping_key!r} to output {event.output!r} of {event.step!r} wrongly",
            )
        piece.keys[event.mapping_key] = len(piece.seqs)
        piece.seqs.append(seq)

    def _expansion_sealed(self, seq: int, event: ExpansionSealed) -> None:
        step, columns, slot = self._move(seq, event, event.step)
        self._check_attempt(seq, event.attempt, columns, slot)
        piece = self._open[step].get(event.output) if step in self._open else None
        if piece is None or piece.sealed:
            raise self._damaged(
                seq, f"seals output {event.output!r} of {event.step!r}, which is not open"
            )
        if len(piece.keys) != event.count or keys_digest(piece.keys) != event.keys_digest:
            raise self._damaged(
                seq,
                f"seals {event.count} keys of {event.step!r}, the log holds {len(piece.keys)} others",
            )
        piece.sealed, piece.digest = True, event.keys_digest

    def _collect_resolved(self, seq: int, event: CollectResolved) -> None:
        if self.find(StepId(*parse_step_key(event.step))) is None:
            raise self._damaged(seq, f"names step {event.step!r}, which is not in the graph")

    def _step_succeeded(self, seq: int, event: StepSucceeded) -> StepId:
        step, columns, slot = self._move(seq, event, event.step)
        self._check_attempt(seq, event.attempt, columns, slot)
        columns.settled += 1
        lost = self.lost.pop(step, None) if self.lost else None
        if step in self._open:
            self._seal_all(seq, step, lost)
        del self.running[step]
        self.codes.setdefault(step.node, set()).add(self._started_codes.pop(step))
        if self.retries:
            self.retries.pop(step, None)
        if self.deaths:
            self.deaths.pop(step, None)
        return step

    def _seal_all(self, seq: int, step: StepId, lost: frozenset[str] | None) -> None:
        for output, piece in self._open.pop(step).items():
            if not piece.sealed:
                raise self._damaged(seq, f"ends '{step}' with unsealed output {output!r}")
            self._seal(step, output, piece, lost)

    def _seal(
        self, step: StepId, output: str, piece: OpenExpansion, lost: frozenset[str] | None
    ) -> None:
        place = (step.node, output, step.key_path)
        expansion, lost_keys = self._expansions.get(place), None
        if expansion is None:
            expansion = self._expansions[place] = Expansion()
        else:
            self._forget_places()
            lost_keys = None if lost is None else frozenset(lost_keys_of(lost, output))
        expansion.adopt(piece, lost_keys)
        self._has_orphans = self._has_orphans or len(expansion) < len(expansion.keys)
        level = Level(step.node, output)
        for node in self.graph.under.get(level, ()):
            if node.scope[-1] == level:
                self._make_room(node, step.key_path, expansion)

    def _make_room(self, node: Node, producer_path: KeyPath, expansion: Expansion) -> None:
        """Let the steps that are known below an expansion have its new keys."""
        below = self._steps.get(node.name)
        if not below:
            return
        nested = len(self.graph.makers[node.name][-1]) == len(node.scope) - 1
        for prefix in [producer_path] if nested else list(below):
            columns = below.get(prefix)
            if columns is not None and self.expansion_under(node, prefix) is expansion:
                columns.grow(len(expansion.keys))
                columns.recount(expansion.order)

    def _step_failed(self, seq: int, event: StepFailed) -> None:
        step, columns, slot = self._move(seq, event, event.step)
        self._check_attempt(seq, event.attempt, columns, slot)
        self.failures[step] = seq
        self.retries.pop(step, None)
        self._attempt_ended(step)

    def _step_retried(self, seq: int, event: StepRetried) -> None:
        step, columns, slot = self._move(seq, event, event.step)
        self._check_attempt(seq, event.attempt, columns, slot)
        self.waiting[step] = event.due
        self.retries[step] = self.retries.get(step, 0) + 1
        self._attempt_ended(step)

    def _attempt_ended(self, step: StepId) -> None:
        """An attempt has failed: what it stored counts for nothing (rule F4)."""
        del self.running[step]
        self._open.pop(step, None)
        self._started_codes.pop(step, None)
        self.deaths.pop(step, None)

    def _step_skipped(self, seq: int, event: StepSkipped) -> StepId:
        step, columns, _ = self._move(seq, event, event.step)
        if self.waiting:
            self.waiting.pop(step, None)
        columns.settled += 1
        return step

    def _step_invalidated(self, seq: int, event: StepInvalidated) -> None:
        node = self.graph.by_name.get(event.node)
        if node is None:
            raise self._damaged(seq, f"invalidates {event.node!r}, which is not in the graph")
        why = OUTPUT_LOST if event.reason == "output lost" else INVALIDATED
        why = INTERRUPTED if event.reason == "input lost" else why
        if event.steps is None:
            steps = list(self.steps_of(node))
            self.codes.pop(event.node, None)
        else:
            steps = [self._place(seq, text)[0] for text in event.steps]
        for step in steps:
            self._invalidate(step, why, event.lost)

    def _invalidate(self, step: StepId, why: int, lost: tuple[str, ...]) -> None:
        place = self.find(step)
        if place is None:
            return
        columns, slot = place
        if columns.status[slot] == PENDING and not columns.attempts[slot]:
            return
        if columns.status[slot] in (SUCCEEDED, SKIPPED) and self._is_counted(step):
            columns.settled -= 1
        columns.status[slot], columns.why[slot] = PENDING, why
        for known in (self.running, self.failures, self.waiting, self._open, self._started_codes):
            known.pop(step, None)
        if why != INTERRUPTED:
            self.retries.pop(step, None)
        if lost:
            self.lost[step] = self.lost.get(step, frozenset()).union(lost)
        elif why != INTERRUPTED:
            self.lost.pop(step, None)

    def _hooks_due(self, seq: int, event: HooksDue) -> None:
        step, columns, slot = self._place(seq, event.step)
        if (
            columns.status[slot] not in (SUCCEEDED, FAILED)
            or (step, event.attempt) in self.hooks_due
        ):
            raise self._damaged(seq, f"tells hooks of {event.step!r}, which has not just ended")
        self._check_attempt(seq, event.attempt, columns, slot)
        self.hooks_due[step, event.attempt] = event

    def _hook_ended(self, seq: int, event: HookSucceeded | HookFailed) -> None:
        step = self._place(seq, event.step)[0]
        due = self.hooks_due.pop((step, event.attempt), None)
        if due is None or event.hook not in due.hooks:
            raise self._damaged(
                seq, f"ends hook {event.hook!r} of {event.step!r}, which is not due"
            )
        if isinstance(event, HookFailed):
            count, first = self.hook_failures.get(event.hook, (0, seq))
            self.hook_failures[event.hook] = count + 1, first
        left = tuple(hook for hook in due.hooks if hook != event.hook)
        if left:
            self.hooks_due[step, event.attempt] = msgspec.structs.replace(due, hooks=left)

    def _run_ended(self, seq: int, event: RunEnded) -> None:
        self.ended = event
        for step in self.waiting:  # a run that is over waits for nothing
            self._set_pending(step, FAILED_BEFORE)
        self.waiting = {}

    # How it finds its way

    def _place(self, seq: int, text: str) -> tuple[StepId, Steps, int]:
        last, placed = self._placed
        if text == last and placed is not None:  # events come in runs of the same step
            return placed
        step = StepId(*parse_step_key(text))
        place = self.find(step)
        if place is None:
            raise self._damaged(
                seq, f"names step {text!r}, which is not in the graph or not sealed"
            )
        placed = (step, *place)
        self._placed = (text, placed)
        return placed

    def _forget_places(self) -> None:
        self._lookup.clear()
        self._placed = ("", None)

    def _move(self, seq: int, event: AnyEvent, text: str) -> tuple[StepId, Steps, int]:
        step, columns, slot = self._place(seq, text)
        status = STEP_TRANSITIONS[columns.status[slot]].get(type(event))
        if status is None:
            was = STATUS_NAMES[columns.status[slot]]
            raise self._damaged(seq, f"{type(event).__name__} of {text!r}, which is {was}")
        columns.status[slot] = status
        return step, columns, slot

    def _check_attempt(self, seq: int, attempt: int, columns: Steps, slot: int) -> None:
        if attempt != columns.attempts[slot]:
            raise self._damaged(
                seq, f"is of attempt {attempt}, running is attempt {columns.attempts[slot]}"
            )

    def _set_pending(self, step: StepId, why: int) -> None:
        place = self.find(step)
        if place is not None:
            place[0].status[place[1]] = PENDING
            place[0].why[place[1]] = why

    def _is_counted(self, step: StepId) -> bool:
        """True for a step whose last key is among the sealed ones of its expansion."""
        if not step.key_path:
            return True
        node = self.graph.by_name[step.node]
        expansion = self.expansion_under(node, step.key_path[:-1])
        return expansion is not None and expansion.position(expansion.keys[step.key_path[-1]]) >= 0

    def is_sealed(self, step: StepId) -> bool:
        """False for an orphan: a clone with a key that the last seal no longer holds (rule R5)."""
        node, path = self.graph.by_name[step.node], step.key_path
        for depth, key in enumerate(path):
            expansion = self.expansion_under(node, path[:depth])
            slot = None if expansion is None else expansion.keys.get(key)
            if expansion is None or slot is None or expansion.position(slot) < 0:
                return False
        return True

    def steps_of(self, node: Node) -> Iterator[StepId]:
        """Every known step of a node, orphans included, in the order of their slots."""
        for path in self._paths(node, len(node.scope), orphans=True):
            yield StepId(node.name, path)

    def sealed_steps(self, node: Node, keys: Mapping[int, str] | None = None) -> Iterator[StepId]:
        """Every step of a node that the last seals hold, in key order; with `keys` only those that have them there."""
        for path in self._paths(node, len(node.scope), keys=keys or _ANY):
            yield StepId(node.name, path)

    def prefixes(self, node: Node) -> Iterator[KeyPath]:
        """The sealed key paths, without the last key, below which a node may have steps."""
        return self._paths(node, max(len(node.scope) - 1, 0))

    def _paths(
        self, node: Node, depth: int, *, orphans: bool = False, keys: Mapping[int, str] = _ANY
    ) -> Iterator[KeyPath]:
        if not depth:
            yield ()
            return
        for prefix in self._paths(node, depth - 1, orphans=orphans, keys=keys):
            expansion = self.expansion_under(node, prefix)
            if expansion is None:
                continue
            wanted = keys.get(depth - 1)
            if wanted is not None:
                slot = expansion.keys.get(wanted)
                if slot is not None and (orphans or expansion.position(slot) >= 0):
                    yield (*prefix, wanted)
                continue
            for key in list(expansion.keys) if orphans else expansion.ordered_keys():
                yield (*prefix, key)

    def orphans(self, node: Node) -> list[StepId]:
        """The clones of a node whose keys the last seals no longer hold."""
        if not self._has_orphans:
            return []
        sealed = set(self.sealed_steps(node))
        return [step for step in self.steps_of(node) if step not in sealed]


def _shape(node: Node | None) -> object:
    """What the columns of a node's steps are made by."""
    return node and (node.scope, node.outputs)


def lost_keys_of(lost: frozenset[str] | tuple[str, ...], output: str) -> list[str]:
    """From labels such as `output[key]` the keys of one dynamic output."""
    parsed = [parse_step_key(label) for label in lost]
    return [path[0] for name, path in parsed if name == output and path]


_APPLY: Final[dict[type[Event], Any]] = {
    RunStarted: RunState._run_started,
    RunResumed: RunState._run_resumed,
    StepStarted: RunState._step_started,
    StepReused: RunState._step_started,
    ReuseSealed: RunState._reuse_sealed,
    OutputStored: RunState._output_stored,
    DynamicOutputStored: RunState._dynamic_output_stored,
    ExpansionSealed: RunState._expansion_sealed,
    CollectResolved: RunState._collect_resolved,
    StepSucceeded: RunState._step_succeeded,
    StepFailed: RunState._step_failed,
    StepRetried: RunState._step_retried,
    StepSkipped: RunState._step_skipped,
    StepInvalidated: RunState._step_invalidated,
    HooksDue: RunState._hooks_due,
    HookSucceeded: RunState._hook_ended,
    HookFailed: RunState._hook_ended,
    RunSucceeded: RunState._run_ended,
    RunFailed: RunState._run_ended,
    RunCancelled: RunState._run_ended,
}
