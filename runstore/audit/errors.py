"""What went wrong in a run: every error that an attempt or a hook has raised, by type and message.

One reading of the log; an error that was mended by a later attempt is counted too, and said to be.
"""

from collections.abc import Iterator

import msgspec

from runstore.log.events import AnyEvent, ErrorInfo, HookFailed, StepFailed, StepRetried
from runstore.store import RunStore

EXAMPLES = 5


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
    """How many of these steps are failed now, or wait to be tried again."""
    examples: tuple[str, ...]
    """The first of these steps."""
    first_seq: int
    last_seq: int
    traceback: str
    """Of the first."""


def errors(store: RunStore, run: str = "last") -> tuple[ErrorGroup, ...]:
    """The errors of a run, most frequent first. Raises RunNotFound."""
    raised: dict[tuple[str, str, str], list[tuple[int, str, ErrorInfo]]] = {}

    def look(seq: int, event: AnyEvent) -> None:
        if isinstance(event, StepFailed | StepRetried | HookFailed):
            hook = event.hook if isinstance(event, HookFailed) else ""
            op = f"hook {hook}" if hook else event.step.partition("[")[0]
            group = (op, event.error.type, event.error.message)
            raised.setdefault(group, []).append((seq, event.step, event.error))

    state = store.state(store.resolve(run), look)
    stand = {str(step) for step in (*state.failures, *state.waiting)}
    groups = [_group(*group, found, stand) for group, found in raised.items()]
    return tuple(sorted(groups, key=lambda one: (-one.count, one.first_seq)))


def _group(
    op: str, kind: str, message: str, found: list[tuple[int, str, ErrorInfo]], stand: set[str]
) -> ErrorGroup:
    steps = dict.fromkeys(step for _, step, _ in found)
    standing = 0 if op.startswith("hook ") else len(stand & set(steps))
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
