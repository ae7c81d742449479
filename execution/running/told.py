"""What goes to a worker and what comes back: tickets in, events out."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import msgspec

from execution.definition.op import OpDefinition
from execution.definition.retries import RetryPolicy
from execution.running.context import OpContext
from execution.running.inputs import Argument, InputLost
from runstore.log.events import AnyEvent
from runstore.log.messages import Message


class Ticket(msgspec.Struct, frozen=True):
    """All that a worker needs to run one attempt."""

    op: OpDefinition
    context: OpContext
    arguments: dict[str, Argument | list[Argument]]
    step_key: str
    checks: Mapping[str, Any] | None = None
    """Input -> type, where what arrives may be of another."""
    retry_policy: RetryPolicy | None = None
    losses: int = 0
    """How many workers were lost over this step since the run was last started or resumed."""


class Told(msgspec.Struct, frozen=True):
    """What a worker tells the engine: events in order, of which those of a generator come as they become true."""

    step_key: str
    events: Sequence[AnyEvent]
    is_last: bool = True
    lost: InputLost | None = None
    """Set, without events, where an input's bytes are gone."""
    exception: BaseException | None = None
    """What the op raised, where it can travel and the step has failed for good."""
    messages: Sequence[Message] = ()
    """What the op has logged since it last told something."""
    wait_s: float | None = None
    """Set where the last event is a `StepRetried`: how long from now until it is due."""


class Wait(NamedTuple):
    """Told in between: there is nothing to do for this attempt before these are done. A worker may wait, or go on
    with other attempts meanwhile; before it waits with nothing else to do it flushes the outputs.
    """

    futures: "Sequence[Future[Any]]"
    op_has_run: bool = False
    """The op has given all, and what it gave is on its way; else what it reads is."""
