"""Why a step ran, ran again, was reused, or will run: one sentence, and the events that it rests on."""

import datetime as dt
from collections.abc import Callable, Iterator
from functools import cache
from operator import itemgetter

import msgspec

from runstore.audit.census import Census
from runstore.audit.counted import Counted
from runstore.audit.history import History
from runstore.audit.lookup import Lookup, TooMany
from runstore.audit.sifted import Sifted
from runstore.audit.step_story import Fact, Story, shown_time
from runstore.audit.waiting_for import Folded, LookedUp, Run, culprit, waits_for
from runstore.log.codec import decode
from runstore.log.events import AnyEvent
from runstore.log.expanded import StepId
from runstore.log.transitions import PENDING, STATUS_NAMES
from runstore.store import RunStore

# The pieces of a step of which its op has said something.
_SAID = """
SELECT seq, body FROM events WHERE run = ? AND step = ? AND key IS NOT NULL AND body ->> '$.metadata' IS NOT NULL"""

_by_seq = itemgetter(0)
_ORPHAN = "its key was yielded once, but the last seal does not hold it: kept, never collected"


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

    All is looked up; what a step waits for is counted where that are many steps, or read from the whole log where it
    cannot be counted.
    """
    summary = store.run(run)
    look = Lookup(store, summary.run_id)
    known = look.find(step)
    story, history = Story(known), look.history(known)
    for seq, event in sorted([*look.story(known), *_said_of_pieces(look, known)], key=_by_seq):
        story.look(seq, event)
    alive = summary.status == "running"
    if not look.is_sealed(known):
        status, because = "orphan", _ORPHAN
    elif history.status == PENDING:
        upto = summary.events if alive else None
        status, because = _of_pending(look, known, story, upto, alive=alive)
    else:
        status = STATUS_NAMES[history.status]
        status = "interrupted" if status == "running" and not alive else status
        because = _because(status, story, history, alive=alive)
    return Explanation(
        run_id=summary.run_id,
        step=str(known),
        status=status,
        because=because,
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


def _of_pending(
    look: Lookup, step: StepId, story: Story, upto: int | None, *, alive: bool
) -> tuple[str, str]:
    """(status, because) of a step that is pending or blocked."""
    for run in _ways(look, step, upto):
        try:
            return _undone(run(), step, story, alive=alive)
        except TooMany:
            continue
    raise AssertionError("a fold is not refused")


def _ways(look: Lookup, step: StepId, upto: int | None) -> Iterator[Callable[[], Run]]:
    """How a run may be known, the shortest first."""
    census = cache(lambda: Census(look, upto))
    needed = look.graph.upstream(step.node)
    failing = [node for node in look.graph.nodes if node.name in needed]
    yield lambda: LookedUp(look, upto)
    yield lambda: Sifted(look, census())
    yield lambda: Counted(look, census(), failing)
    yield lambda: Folded(look.store.state(look.run_id))


def _undone(run: Run, step: StepId, story: Story, *, alive: bool) -> tuple[str, str]:
    if run.is_blocked(step):
        return "blocked", _why_blocked(run, step)
    return "pending", _why_pending(run, step, story, alive=alive)


def _because(status: str, story: Story, history: History, *, alive: bool) -> str:
    """Why a step is as it is that is neither an orphan nor pending or blocked."""
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
            due = shown_time(history.due)
            who = "it will be" if alive else "a resume will have it"
            return (
                f"attempt {story.attempt} failed (seq {story.retried}): {story.cause}; {who} tried again "
                f"from {due} on"
            )
    raise AssertionError(status)


def _why_succeeded(story: Story) -> str:
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


def _why_blocked(run: Run, step: StepId) -> str:
    failed_one = culprit(run, step)
    if failed_one is None:
        return "it waits for a step that failed"
    failed = f"'{failed_one}' failed (seq {run.failed_at(failed_one)})"
    return f"it cannot start: {failed}; a resume will run that again, and then this"


def _why_pending(run: Run, step: StepId, story: Story, *, alive: bool) -> str:
    when = "it will run" if alive else "a resume will run it"
    waiting = next(waits_for(run, step), None)
    after = f" after {waiting}" if waiting else ", and all that it reads is stored"
    return f"{when}{after}: {story.again or 'it has never started'}"
