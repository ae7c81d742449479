"""The life of a step as a table: in which state which event may find it, and what it is then.

Pure data. ARCHITECTURE.md draws it; RunState refuses every event that is not in it.
"""

from typing import Final

from runstore.log.events import (
    DynamicOutputStored,
    Event,
    ExpansionSealed,
    OutputStored,
    RunCancelled,
    RunFailed,
    RunResumed,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)

PENDING: Final = 0
RUNNING: Final = 1
SUCCEEDED: Final = 2
FAILED: Final = 3
SKIPPED: Final = 4
WAITING: Final = 5
STATUS_NAMES: Final = ("pending", "running", "succeeded", "failed", "skipped", "waiting")
TO_RUN: Final = (PENDING, WAITING)

STEP_TRANSITIONS: Final[dict[int, dict[type[Event], int]]] = {
    PENDING: {
        StepStarted: RUNNING,
        StepReused: RUNNING,
        StepSkipped: SKIPPED,
        StepInvalidated: PENDING,
    },
    RUNNING: {
        OutputStored: RUNNING,
        DynamicOutputStored: RUNNING,
        ExpansionSealed: RUNNING,
        StepSucceeded: SUCCEEDED,
        StepFailed: FAILED,
        StepRetried: WAITING,
        StepInvalidated: PENDING,
    },
    WAITING: {StepStarted: RUNNING, StepSkipped: SKIPPED, StepInvalidated: PENDING},
    SUCCEEDED: {StepInvalidated: PENDING},
    FAILED: {StepInvalidated: PENDING},
    SKIPPED: {StepInvalidated: PENDING},
}  # anything else means a damaged log

RUN_TRANSITIONS: Final[dict[int, dict[type[Event], int]]] = {
    RUNNING: {RunResumed: PENDING},
    FAILED: {RunResumed: PENDING},
    WAITING: {RunCancelled: PENDING, RunFailed: PENDING},
}  # what an event about the run does to its steps; after a crash a step that waits goes on waiting

# Why a step is pending.
NEVER_STARTED: Final = 0
INTERRUPTED: Final = 1
FAILED_BEFORE: Final = 2
OUTPUT_LOST: Final = 3
INVALIDATED: Final = 4
WHY_NAMES: Final = ("never started", "interrupted", "failed", "lost", "invalidated")
