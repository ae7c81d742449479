"""What went wrong in a run: every error that an attempt or a hook has raised, by type and message.

Found in the index by the kinds of events; an error that was mended by a later attempt is counted too, and said to be.
"""

from collections.abc import Collection, Iterator

import msgspec

from runstore.audit.lookup import Lookup
from runstore.keys import parse_step_key
from runstore.log.events import ErrorInfo, HookFailed, RunSucceeded, StepFailed, StepRetried
from runstore.log.expanded import StepId
from runstore.log.transitions import SKIPPED, SUCCEEDED
from runstore.store import RunStore

EXAMPLES = 5
_HOOK = "hook "
_LOOKED_UP = 2_000
"""Of more steps, reading the whole log is the shorter way to how they stand."""

_RAISED = """
SELECT seq, body FROM events
WHERE run = ? AND step IS NOT NULL AND +kind IN ('StepFailed', 'StepRetried', 'HookFailed') ORDER BY row_id"""


class ErrorGroup(msgspec.Struct, frozen=True):
    """Errors of one type with one message, raised by one op or hook."""

    op: str
    """Of a hook, `hook NAME`."""
    type: str
    message: str
    count: int
    """How many attempts have raised it."""
    steps: int
    """Of how many steps."""
    standing: int
    """How many of these steps have neither succeeded nor been skipped since; of a hook's none."""
    examples: tuple[str, ...]
    """The first of these steps."""
    first_seq: int
    last_seq: int
    traceback: str
    """Of the first."""

    @property
    def is_of_hook(self) -> bool:
        """A hook has raised it, and no op."""
        return self.op.startswith(_HOOK)

    @property
    def stands(self) -> str:
        """What became of it, in words."""
        if self.is_of_hook:
            return "which changes no step"
        return f"{self.standing:,} of them not mended" if self.standing else "all mended since"


def errors(store: RunStore, run: str = "last") -> tuple[ErrorGroup, ...]:
    """The errors of a run, most frequent first. Raises RunNotFound."""
    look = Lookup(store, store.resolve(run))
    raised: dict[tuple[str, str, str], list[tuple[int, str, ErrorInfo]]] = {}
    steps: set[str] = set()
    for seq, event in look.rows(_RAISED, look.number):
        assert isinstance(event, StepFailed | StepRetried | HookFailed)
        if isinstance(event, HookFailed):
            op = f"{_HOOK}{event.hook}"
        else:
            op = event.step.partition("[")[0]
            steps.add(event.step)
        group = (op, event.error.type, event.error.message)
        raised.setdefault(group, []).append((seq, event.step, event.error))
    stand = _standing(look, steps)
    groups = [_group(*group, found, stand) for group, found in raised.items()]
    return tuple(sorted(groups, key=lambda one: (-one.count, one.first_seq)))


def _standing(look: Lookup, steps: Collection[str]) -> set[str]:
    """Those of the steps that are not done."""
    if isinstance(look.frame.ended, RunSucceeded):
        return set()
    many = len(steps) > _LOOKED_UP
    status = look.store.state(look.run_id).status if many else look.status
    return {
        step for step in steps if status(StepId(*parse_step_key(step))) not in (SUCCEEDED, SKIPPED)
    }


def _group(
    op: str, kind: str, message: str, found: list[tuple[int, str, ErrorInfo]], stand: set[str]
) -> ErrorGroup:
    steps = dict.fromkeys(step for _, step, _ in found)
    standing = 0 if op.startswith(_HOOK) else len(stand & set(steps))
    return ErrorGroup(
        op,
        kind,
        message,
        len(found),
        len(steps),
        standing,
        tuple(_first(steps)),
        found[0][0],
        found[-1][0],
        found[0][2].traceback,
    )


def _first(steps: dict[str, None]) -> Iterator[str]:
    for step, _ in zip(steps, range(EXAMPLES), strict=False):
        yield step
