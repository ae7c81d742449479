"""The vocabulary of the log: one frozen type per fact.

Events are values; building one does nothing. A worker builds them without envelope; `Recorder.append` stamps
epoch and time, and their seq is their place in the log. The step of an event is its step key (`echo[a]`), from
which node and key path follow. FORMAT.md shows each kind as it stands on disk.
"""

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec

from runstore.log.graph import Graph
from runstore.outputs.reference import OutputReference

FORMAT_VERSION = 1
DELETED_TOGETHER = 1_000
"""Outputs that one `OutputDeleted` names."""

UNSTAMPED = dt.datetime.min.replace(tzinfo=dt.UTC)

Durability = Literal["durable", "fast"]
SmallOutputs = Literal["file", "pack"]
InvalidationReason = Literal[
    "output lost", "input lost", "code changed", "graph changed", "asked for"
]
RunOutcome = Literal["succeeded", "failed", "cancelled", "unfinished"]
Purpose = Literal["prune", "move"]
DeletionReason = Literal["orphan", "old"]
Counts = dict[str, dict[str, int]]
"""Node -> state -> number of steps."""


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="kind",
):
    """What all events share, stamped by the recorder."""

    epoch: int = 0
    time: Annotated[dt.datetime, msgspec.Meta(tz=True)] = UNSTAMPED
    """UTC; never decreases within a run."""


class ErrorInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An exception as text (rule F5)."""

    type: str
    message: str
    traceback: str
    metadata: dict[str, Any] = {}
    """What the op said about it (`Failure(metadata=…)`); exact in JSON."""


class Parent(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The run that a run is a rerun of, and what of it is to run again; the rest is taken from there."""

    run: str
    seq: int
    """The last event of the parent that was looked at."""
    select: tuple[str, ...] = ()
    """Expressions that say which steps run again; none and not `from_failure`: all."""
    from_failure: bool = False
    """Select what had not finished, and what needs it."""
    bases: tuple[str, ...] = ()
    """The parent's, in their order; they come before the new run's own."""


class RunStarted(Event, frozen=True, kw_only=True, tag="RunStarted"):
    """The first event of every run."""

    format: int = 0
    job: str
    """`path/to/file.py:name` or `module:name`; empty where the job can only be passed in (a notebook)."""
    graph: Graph
    config: dict[str, Any]
    tags: dict[str, str]
    level: Durability
    base: str
    """Where outputs go: a URL without credentials, or a path relative to the store's directory."""
    small_outputs: SmallOutputs = "file"
    """"pack": small outputs of the same op share objects."""
    host: str
    pid: int
    version: str
    """Of runstore."""
    parent: Parent | None = None


class RunResumed(Event, frozen=True, kw_only=True, tag="RunResumed"):
    """A new epoch begins. Steps that were running or had failed are pending again; one that waits goes on waiting."""

    host: str
    pid: int
    version: str
    log_digest: str
    take_over: bool = False
    job: str | None = None
    graph: Graph | None = None
    config: dict[str, Any] | None = None
    base: str | None = None


class StepStarted(Event, frozen=True, tag="StepStarted"):
    """An attempt of a step begins; committed before the op's code runs."""

    step: str
    inputs: dict[str, int | list[int]]
    """Argument -> seq of the event that stored its value, or of the `CollectResolved`; lists for fan-in lists."""
    code: str
    """Digest of the op's source (rule R5)."""
    attempt: int = 1


class StepReused(Event, frozen=True, tag="StepReused"):
    """A step is taken from the parent: its outputs, by reference, and its success follow."""

    step: str
    parent_seq: int
    """Of the event of the parent that says that the step succeeded."""
    code: str
    """Digest of the source that made it (rule R5)."""
    attempt: int = 1


class ReuseSealed(Event, frozen=True, tag="ReuseSealed"):
    """All that the run takes from its parent is in its log; from here on the parent's log is not needed."""

    reused: int
    """Steps taken, those that were skipped in the parent among them."""
    left_out: int
    """Known steps that are no part of this run: not selected, and what they need runs again or is not there."""
    log_digest: str = ""


class OutputStored(Event, frozen=True, tag="OutputStored"):
    """A plain output is durable."""

    step: str
    output: str
    reference: OutputReference
    attempt: int = 1
    metadata: dict[str, Any] | None = None
    """What the op says about it; exact in JSON."""


class DynamicOutputStored(Event, frozen=True, tag="DynamicOutputStored"):
    """One piece of a dynamic output is durable."""

    step: str
    output: str
    mapping_key: str
    reference: OutputReference
    attempt: int = 1
    metadata: dict[str, Any] | None = None


class ExpansionSealed(Event, frozen=True, tag="ExpansionSealed"):
    """The key set of a dynamic output is final, once this attempt has succeeded (rule X2)."""

    step: str
    output: str
    count: int
    keys_digest: str
    log_digest: str = ""
    attempt: int = 1


class CollectResolved(Event, frozen=True, tag="CollectResolved"):
    """What a collect will read was checked against the sealed expansion (rule R3)."""

    step: str
    """The consumer."""
    input: str
    source: str
    """`node.output` whose values are collected."""
    levels: tuple[str, ...]
    """`node.output` of each expansion that is collected over, outermost first; several make a list of lists."""
    sealed: int
    succeeded: int
    skipped: int
    digest: str
    """Over the ordered keys and the sha256 of each value; FORMAT.md gives the bytes."""
    place: int = 0
    """In a fan-in list, the element."""
    log_digest: str = ""


class StepSucceeded(Event, frozen=True, tag="StepSucceeded"):
    """The attempt is done; its outputs count from here on (rule F4)."""

    step: str
    duration_s: float
    attempt: int = 1
    worker: str = ""
    """Who ran the attempt, where that was not the process which drives the run itself. It stands in the event that ends
    an attempt: who takes a ticket may not be known when the step starts.
    """


class StepFailed(Event, frozen=True, tag="StepFailed"):
    """The attempt raised, and there will be no other in this epoch."""

    step: str
    error: ErrorInfo
    duration_s: float
    attempt: int = 1
    worker: str = ""
    """As in `StepSucceeded`."""


class StepRetried(Event, frozen=True, tag="StepRetried"):
    """The attempt raised, or its worker was lost; there will be another, not before it is due (rule F3)."""

    step: str
    error: ErrorInfo
    duration_s: float
    due: Annotated[dt.datetime, msgspec.Meta(tz=True)]
    """UTC; a worker, whose clock may be another, leaves it `UNSTAMPED`."""
    attempt: int = 1
    worker_lost: bool = False
    """It did not raise: the process that ran it is gone. That uses nothing up of the budget of retries."""
    worker: str = ""
    """As in `StepSucceeded`."""


class StepSkipped(Event, frozen=True, tag="StepSkipped"):
    """The step will not run, since what it needs was skipped (rule F1)."""

    step: str
    cause: str


class StepInvalidated(Event, frozen=True, kw_only=True, tag="StepInvalidated"):
    """Finished work that no longer counts and will run again."""

    node: str
    steps: tuple[str, ...] | None = None
    """None: all of the node's."""
    reason: InvalidationReason
    lost: tuple[str, ...] = ()
    """Of the step's outputs the lost ones, `output` or `output[key]`; only these take new references (rule R6)."""


class HooksDue(Event, frozen=True, tag="HooksDue"):
    """The outcome of an attempt is to be told to these hooks; committed with it."""

    step: str
    hooks: tuple[str, ...]
    outcome: int
    """Seq of the `StepSucceeded` or `StepFailed`."""
    attempt: int = 1


class HookSucceeded(Event, frozen=True, tag="HookSucceeded"):
    """A hook was called and has returned; of the attempt that it was told of."""

    step: str
    hook: str
    attempt: int = 1


class HookFailed(Event, frozen=True, tag="HookFailed"):
    """A hook was called and has raised. It changes nothing else."""

    step: str
    hook: str
    error: ErrorInfo
    attempt: int = 1


class RunSucceeded(Event, frozen=True, tag="RunSucceeded"):
    """Every step succeeded or was skipped."""

    counts: Counts
    log_digest: str = ""


class RunFailed(Event, frozen=True, tag="RunFailed"):
    """Nothing is ready, running or waiting, and at least one step failed; or one had, and no other was to start."""

    counts: Counts
    log_digest: str = ""


class RunCancelled(Event, frozen=True, tag="RunCancelled"):
    """Stopped on request, resumable. Nothing waits for a retry any longer."""

    counts: Counts
    reason: str
    log_digest: str = ""


class HousekeepingBegun(Event, frozen=True, kw_only=True, tag="HousekeepingBegun"):
    """A new epoch begins in which no step runs; it may stand after the end of the run, and leaves the run as it is."""

    host: str
    pid: int
    version: str
    purpose: Purpose
    run_status: RunOutcome
    """What the run is by its last end, before and after: the last row of a run says how it stands."""
    log_digest: str = ""


class OutputDeleted(Event, frozen=True, kw_only=True, tag="OutputDeleted"):
    """The bytes of outputs are deleted on purpose, once this event is durable."""

    seqs: tuple[int, ...]
    """Of the events that stored them, growing; at most DELETED_TOGETHER."""
    reason: DeletionReason
    """"orphan": the run does not need it, or never did; "old": asked for, by the age of the run."""
    run_status: RunOutcome
    log_digest: str = ""


class BaseMoved(Event, frozen=True, kw_only=True, tag="BaseMoved"):
    """What lay below a base of the run is below another place, whole and verified; it is looked for there."""

    index: int
    """Of the base, as in `OutputReference.base`; one of the run's own."""
    base: str
    """The new place, as in `RunStarted.base`."""
    run_status: RunOutcome
    log_digest: str = ""


AnyEvent = (
    RunStarted
    | RunResumed
    | StepStarted
    | StepReused
    | ReuseSealed
    | OutputStored
    | DynamicOutputStored
    | ExpansionSealed
    | CollectResolved
    | StepSucceeded
    | StepFailed
    | StepRetried
    | StepSkipped
    | StepInvalidated
    | HooksDue
    | HookSucceeded
    | HookFailed
    | RunSucceeded
    | RunFailed
    | RunCancelled
    | HousekeepingBegun
    | OutputDeleted
    | BaseMoved
)
STORES = (OutputStored, DynamicOutputStored)
"""The events that hold a reference; a tuple, since a union would be built anew at every isinstance."""
RunEnded = RunSucceeded | RunFailed | RunCancelled
EPOCH_KINDS = frozenset({RunStarted, RunResumed, HousekeepingBegun})
"""Each begins an epoch."""
DELETION_REASONS: dict[DeletionReason, str] = {
    "orphan": "the run does not need it",
    "old": "the run is old",
}
"""In words."""
HOUSEKEEPING = (HousekeepingBegun, OutputDeleted, BaseMoved)
"""The events of an epoch of housekeeping, and no others."""
KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in AnyEvent.__args__}
