"""What the ops of a run have logged, in the order in which it was committed; lines may have been pruned.

Read in batches, none of which keeps the database's snapshot open.
"""

from collections.abc import Iterator

from runstore.log.messages import Message
from runstore.store import RunStore

_BATCH = 1_000


def messages(
    store: RunStore, run: str = "last", *, step: str | None = None, level: int = 0, after: int = 0
) -> Iterator[Message]:
    """The messages behind number `after`, of at least that level; `step`: a step key, or an op with all its clones."""
    run_id = store.resolve(run)
    while batch := list(store.messages(run_id, after, _BATCH)):
        for one in batch:
            if one.level >= level and (step is None or is_of(one, step)):
                yield one
        after = batch[-1].number


def is_of(message: Message, step: str) -> bool:
    """True for a message of that step, or of a clone of that op."""
    return message.step == step or message.step.startswith(f"{step}[")
