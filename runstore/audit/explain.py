"""Why a step ran, ran again, was reused, or will run: one sentence, and the events that it rests on."""

import datetime as dt
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import msgspec

from runstore.audit.history import History
from runstore.audit.lookup import Lookup
from runstore.log.codec import decode
from runstore.log.events import (
    DELETION_REASONS,
    STORES,
    AnyEvent,
    CollectResolved,
    DynamicOutputStored,
    ExpansionSealed,
    HookFailed,
    HookSucceeded,
    OutputDeleted,
    OutputStored,
    RunEnded,
    RunResumed,
    RunStarted,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Wire
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.log.transitions import PENDING, SKIPPED, STATUS_NAMES, SUCCEEDED
from runstore.store import RunStore

# The pieces of a step of which its op has said something.
_SAID = """
SELECT seq, body FROM events WHERE run = ? AND step = ? AND key IS NOT NULL AND body ->> '$.metadata' IS NOT NULL"""

_by_seq = itemgetter(0)
_SHOWN_INPUTS = 8
_SHOWN_TEXT = 1_000


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that the log says about the step."""

    seq: int
    """Of the event that says so."""
    epoch: int
    time: dt.datetime
    text: str
    metadata: dict[str, Any] | None = None
    """Of an output: what the op said about it."""


class Explanation(msgspec.Struct, frozen=True):
    """Why a step is as it is."""

    run_id: str
    step: str
    status: str
    """One of KEY_STATES."""
    because: str
    """One sentence, naming the seqs of the events that decide."""
    facts: tuple[Fact, ...]
    """What happened to the step, in the order of the log."""
    traceback: str = ""
    """Of the error of a step that has failed, or waits to be tried again."""
    due: dt.datetime | None = None
    """When a step that waits is."""


def explain(store: RunStore, run: str, step: str) -> Explanation:
    """Why the step ran, was reused, or will run. Raises RunNotFound, StepNotFound.

    What has happened is looked up. What a pending step waits for is asked of the whole run.
    """
    summary = store.run(run)
    look = Lookup(store, summary.run_id)
    known = look.find(step)
    story, history = _Story(known), look.history(known)
    for seq, event in sorted([*look.story(known), *_said_of_pieces(look, known)], key=_by_seq):
        story.look(seq, event)
    alive = summary.status == "running"
    state, status = None, STATUS_NAMES[history.status]
    if not look.is_sealed(known):
        status = "orphan"
    elif history.status == PENDING:
        state = store.state(summary.run_id)
        status = Remaining(state).state_of(known)
    status = "interrupted" if status == "running" and not alive else status
    return Explanation(
        run_id=summary.run_id,
        step=str(known),
        status=status,
        because=_because(look.frame, state, known, status, story, history, alive=alive),
        facts=tuple(story.facts),
        traceback=story.traceback if status in ("failed", "waiting") else "",
        due=history.due,
    )


def _said_of_pieces(look: Lookup, step: StepId) -> list[tuple[int, AnyEvent]]:
    """The pieces of which the op has said something."""
    if not look.graph.dynamic_outputs[step.node]:
        return []
    rows = look.store.query(_SAID, (look.number, str(step)))
    return [(seq, decode(body, look.run_id, seq)) for seq, body in rows]


class _Story:
    """What one reading of the log tells about a step."""

    def __init__(self, step: StepId) -> None:
        self.facts: list[Fact] = []
        self.again = ""
        """Why the step's last start, or its next one, is not its first."""
        self.started = self.settled = self.resumed = self.retried = 0
        self.settled_epoch = self.epoch = self.attempt = 0
        self.cause = self.traceback = self.parent = self.taken = ""
        self._step, self._key = step, str(step)
        self._settings: dict[str, Any] = {}
        self._waited_for: set[str] = set()
        self._running = self._failed = self._waiting = False
        self._ended: RunEnded | None = None
        self._stored: dict[int, str] = {}
        """Seq -> the output, or piece of one, that it stored."""

    def look(self, seq: int, event: AnyEvent) -> None:
        """See one event of the run."""
        if isinstance(event, RunStarted | RunResumed):
            self._begin(seq, event)
        elif isinstance(event, RunEnded):
            self._ended, self._waiting = event, False
        elif isinstance(event, StepInvalidated):
            self._invalidated(seq, event)
        elif isinstance(event, OutputDeleted):
            self._deleted(seq, event)
        elif getattr(event, "step", None) == self._key:
            self._happened(seq, event)

    def _begin(self, seq: int, event: RunStarted | RunResumed) -> None:
        died = f"epoch {self.epoch} died" if self._ended is None else f"epoch {self.epoch} ended"
        self.epoch, self._ended = event.epoch, None
        if event.config is not None:
            self._settings = event.config.get("ops", {}).get(self._step.node, {})
        if event.graph is not None and self._step.node in event.graph.by_name:
            inputs = event.graph.by_name[self._step.node].inputs
            self._waited_for = {argument.name for argument in inputs if argument.order}
        if isinstance(event, RunStarted):
            self.parent = event.parent.run if event.parent else ""
            return
        self.resumed = seq
        if self._running:
            self.again = f"attempt {self.attempt} (seq {self.started}) was interrupted when {died}"
            self._fact(seq, event, f"run resumed; {self.again}")
        elif self._failed:
            self.again = f"attempt {self.attempt} had failed (seq {self.settled})"
            self._fact(seq, event, f"run resumed; {self.again}")
            self.settled = 0
        elif self._waiting:
            self._fact(
                seq, event, "run resumed; it goes on waiting, with its full budget of retries"
            )
        elif self.settled:
            self._fact(seq, event, f"run resumed; it had been settled at seq {self.settled}")
        self._running = self._failed = False

    def _invalidated(self, seq: int, event: StepInvalidated) -> None:
        named = event.steps is None and event.node == self._step.node
        if not named and self._key not in (event.steps or ()):
            return
        lost = f" ({', '.join(event.lost)})" if event.lost else ""
        if self.settled or self._running or self._failed or self._waiting:
            self.again = f"its work no longer counted: {event.reason}{lost} (seq {seq})"
            self._fact(seq, event, f"invalidated: {event.reason}{lost}")
        self.settled, self._running, self._failed, self._waiting = 0, False, False, False

    def _deleted(self, seq: int, event: OutputDeleted) -> None:
        if self._stored:
            gone = [self._stored[stored] for stored in event.seqs if stored in self._stored]
            more = f" and {len(gone) - _SHOWN_INPUTS:,} more" if len(gone) > _SHOWN_INPUTS else ""
            if gone:
                shown = ", ".join(gone[:_SHOWN_INPUTS]) + more
                why = DELETION_REASONS[event.reason]
                self._fact(seq, event, f"{shown} deleted by `runstore prune`, as {why}")

    def _happened(self, seq: int, event: AnyEvent) -> None:
        if isinstance(event, STORES):
            self._stored[seq] = _label(event)
        match event:
            case StepReused():
                self.started, self.attempt, self._running = seq, event.attempt, True
                self.taken = f"reused from run {self.parent}, seq {event.parent_seq}"
                self._fact(seq, event, f"{self.taken}; its outputs stay where that run stored them")
            case StepStarted():
                self.taken = ""
                self.started, self.attempt, self._running = seq, event.attempt, True
                self._waiting = False
                reading = _reading(event, self._settings, self._waited_for)
                self._fact(seq, event, f"attempt {event.attempt} started{reading}")
            case OutputStored():
                size = f"{event.reference.size_bytes:,} B"
                text = f"{event.output} stored, {size} at {event.reference.path}"
                self._fact(seq, event, text + _said(event.metadata), event.metadata)
            case DynamicOutputStored() if event.metadata:
                text = f"{_label(event)} stored{_said(event.metadata)}"
                self._fact(seq, event, text, event.metadata)
            case ExpansionSealed():
                self._fact(seq, event, f"{event.output} sealed with {event.count:,} keys")
            case CollectResolved():
                text = f"{event.succeeded:,} of {event.sealed:,} values of {event.source}"
                self._fact(seq, event, f"{event.input} collects {text}")
            case StepSucceeded():
                ran = f"attempt {event.attempt} succeeded in {event.duration_s:.3f} s"
                self._settle(seq, event, "it counts here from now on" if self.taken else ran)
            case StepFailed():
                self.cause = f"{event.error.type}: {event.error.message}"
                self.traceback = event.error.traceback
                self._settle(seq, event, f"attempt {event.attempt} failed: {self.cause}")
                self._failed = True
            case StepRetried():
                self._retried(seq, event)
            case HookSucceeded():
                self._fact(seq, event, f"hook {event.hook} was called")
            case HookFailed():
                error = f"{event.error.type}: {event.error.message}"
                self._fact(seq, event, f"hook {event.hook} failed: {error}")
            case StepSkipped():
                self.cause = event.cause
                self._settle(seq, event, f"skipped: {event.cause}")

    def _retried(self, seq: int, event: StepRetried) -> None:
        self.cause = f"{event.error.type}: {event.error.message}"
        self.traceback = event.error.traceback
        self.again = f"attempt {event.attempt} had failed (seq {seq})"
        self.retried, self._running, self._waiting = seq, False, True
        then = f"to be tried again from {_time(event.due)} on"
        self._fact(seq, event, f"attempt {event.attempt} failed, {then}: {self.cause}")

    def _settle(self, seq: int, event: AnyEvent, text: str) -> None:
        self.settled, self.settled_epoch, self._running = seq, event.epoch, False
        self._fact(seq, event, text)

    def _fact(
        self, seq: int, event: AnyEvent, text: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self.facts.append(Fact(seq, event.epoch, event.time, text, metadata))


def _label(event: OutputStored | DynamicOutputStored) -> str:
    if isinstance(event, OutputStored):
        return event.output
    return str(StepId(event.output, (event.mapping_key,)))


def _said(metadata: dict[str, Any] | None) -> str:
    text = msgspec.json.encode(metadata).decode() if metadata else ""
    return (
        f"; metadata {text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + '…'}"
        if text
        else ""
    )


def _reading(event: StepStarted, settings: dict[str, Any], waited_for: set[str]) -> str:
    named = {
        name: f"{name} from seq {', '.join(map(str, seqs[:_SHOWN_INPUTS]))}{' …' * (len(seqs) > _SHOWN_INPUTS)}"
        for name, seq in event.inputs.items()
        if (seqs := [one for one in (seq if isinstance(seq, list) else [seq]) if one])
    }
    waited = [named.pop(name) for name in list(named) if name in waited_for]
    read = [
        *named.values(),
        *(f"{name} from the run config" for name in settings.get("inputs", {})),
    ]
    reading = f"; it reads {', '.join(read)}" if read else ""
    return f"{reading}; it waited for {', '.join(waited)}" if waited else reading


def _time(time: dt.datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def _because(
    frame: RunState,
    state: RunState | None,
    step: StepId,
    status: str,
    story: _Story,
    history: History,
    *,
    alive: bool,
) -> str:
    """`frame`: the run without its steps; `state`: all of it, for a step that is pending or blocked."""
    match status:
        case "succeeded":
            return _why_succeeded(story)
        case "skipped":
            return f"it was skipped (seq {story.settled}): {story.cause}"
        case "failed":
            return (
                f"it failed in epoch {story.settled_epoch}, attempt {story.attempt} (seq {story.settled}): "
                f"{story.cause}; a resume will run it again"
            )
        case "running":
            again = f", again, since {story.again}" if story.again else ""
            return f"it is running{again}: attempt {story.attempt} started at seq {story.started}"
        case "interrupted":
            return (
                f"it was running (seq {story.started}) when epoch {story.epoch} died; "
                "a resume will run it again"
            )
        case "waiting":
            assert history.due is not None
            due = _time(history.due)
            who = "it will be" if alive else "a resume will have it"
            return (
                f"attempt {story.attempt} failed (seq {story.retried}): {story.cause}; {who} tried again "
                f"from {due} on"
            )
        case "blocked":
            assert state is not None
            return _why_blocked(state, step)
        case "orphan":
            return "its key was yielded once, but the last seal does not hold it: kept, never collected"
    assert state is not None
    return _why_pending(state, step, story, alive=alive)


def _why_succeeded(story: _Story) -> str:
    done = f"attempt {story.attempt} succeeded at seq {story.settled}"
    if story.taken:
        return f"it did not run here: {story.taken} (seq {story.started} to {story.settled})"
    if story.settled_epoch == story.epoch:
        again = (
            f"ran again in epoch {story.epoch}, since {story.again}" if story.again else "ran once"
        )
        return f"it {again}; {done}"
    return (
        f"it was reused by the resume of epoch {story.epoch} (seq {story.resumed}): {done}, "
        f"in epoch {story.settled_epoch}, and was not invalidated since"
    )


def _why_blocked(state: RunState, step: StepId) -> str:
    culprit = _culprit(state, step)
    if culprit is None:
        return "it waits for a step that failed"
    failed = f"'{culprit}' failed (seq {state.failures[culprit]})"
    return f"it cannot start: {failed}; a resume will run that again, and then this"


def _why_pending(state: RunState, step: StepId, story: _Story, *, alive: bool) -> str:
    when = "it will run" if alive else "a resume will run it"
    waiting = next(_waits_for(state, step), None)
    after = f" after {waiting}" if waiting else ", and all that it reads is stored"
    return f"{when}{after}: {story.again or 'it has never started'}"


def _waits_for(state: RunState, step: StepId) -> Iterator[str]:
    """What a pending step still needs."""
    for wire in state.graph.wires[step.node]:
        owners = list(_owners(state, step, wire))
        left = [one for one in owners if state.status(one) not in (SUCCEEDED, SKIPPED)]
        if len(left) == 1:
            yield f"'{left[0]}'"
        elif left:
            yield f"{len(left):,} of {len(owners):,} steps of {wire.source.node}"


def _owners(state: RunState, step: StepId, wire: Wire) -> Iterator[StepId]:
    """The steps whose outputs a step reads from one source; those that yield its keys where these are not sealed."""
    path = wire.path(step.key_path)
    if not isinstance(wire.source, FromCollect):
        yield StepId(wire.source.node, path[:-1] if wire.pieces else path)
        return
    paths = [path]
    for one, at in zip(wire.source.over, wire.makers, strict=True):
        makers = {
            path: StepId(one.level.node, tuple([path[place] for place in at])) for path in paths
        }
        unsealed = [maker for maker in makers.values() if state.status(maker) != SUCCEEDED]
        if unsealed:
            yield from dict.fromkeys(unsealed)
            return
        expansions = {
            path: state.expansion(one.level, maker.key_path) for path, maker in makers.items()
        }
        paths = [
            (*path, key)
            for path, expansion in expansions.items()
            if expansion is not None
            for key in expansion.ordered_keys()
        ]
    owners = (StepId(wire.source.node, path[:-1] if wire.pieces else path) for path in paths)
    yield from dict.fromkeys(owners)


def _culprit(state: RunState, step: StepId) -> StepId | None:
    """The first failed step that a blocked one waits for, directly or not."""
    if step in state.failures:
        return step
    if state.status(step) != PENDING:
        return None
    for wire in state.graph.wires[step.node]:
        for owner in _owners(state, step, wire):
            found = _culprit(state, owner)
            if found is not None:
                return found
    return None
