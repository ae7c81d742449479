"""The life of a step as a table: in which state which event may find it, and what it is then.

Pure data. ARCHITECTURE.md draws it; RunState refuses every event that is not in it.
"""

from typing import Final

from runstore.log.events import (
    DynamicOutputStored,
    Event,
    ExpansionSealed,
    OutputStored,
    StepFailed,
    StepInvalidated,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)

PENDING: Final = 0
RUNNING: Final = 1
SUCCEEDED: Final = 2
FAILED: Final = 3
SKIPPED: Final = 4
STATUS_NAMES: Final = ("pending", "running", "succeeded", "failed", "skipped")

STEP_TRANSITIONS: Final[dict[int, dict[type[Event], int]]] = {
    PENDING: {StepStarted: RUNNING, StepSkipped: SKIPPED, StepInvalidated: PENDING},
    RUNNING: {
        OutputStored: RUNNING,
        DynamicOutputStored: RUNNING,
        ExpansionSealed: RUNNING,
        StepSucceeded: SUCCEEDED,
        StepFailed: FAILED,
        StepInvalidated: PENDING,
    },
    SUCCEEDED: {StepInvalidated: PENDING},
    FAILED: {StepInvalidated: PENDING},
    SKIPPED: {StepInvalidated: PENDING},
}  # anything else means a damaged log; RunResumed turns RUNNING and FAILED into PENDING

# Why a step is pending.
NEVER_STARTED: Final = 0
INTERRUPTED: Final = 1
FAILED_BEFORE: Final = 2
OUTPUT_LOST: Final = 3
INVALIDATED: Final = 4
WHY_NAMES: Final = ("never started", "interrupted", "failed", "lost", "invalidated")
