"""An epoch of housekeeping: begun as the run's one writer, given back at the end; and objects deleted within it."""

import contextlib
from collections.abc import Iterator, Sequence

from runstore import failpoints
from runstore.housekeeping.survey import Survey
from runstore.log.events import AnyEvent, HousekeepingBegun, Purpose
from runstore.log.recorder import Recorder, this_host
from runstore.outputs.base import Base
from runstore.version import __version__

DELETED_AT_ONCE = 1_000
"""Objects between two signs of life."""


@contextlib.contextmanager
def epoch(survey: Survey, purpose: Purpose, *first: AnyEvent) -> Iterator[Recorder]:
    """Begin an epoch with events that follow from the survey, in one durable transaction.

    Raises RunAlive while another process has the run, TakenOver where it has changed since it was surveyed.
    """
    recorder = survey.recorder
    host, pid = this_host()
    recorder.append(
        HousekeepingBegun(
            host=host,
            pid=pid,
            version=__version__,
            purpose=purpose,
            run_status=recorder.state.run_status,
        )
    )
    for event in first:
        recorder.append(event)
    recorder.open_epoch()
    try:
        yield recorder
    finally:
        recorder.close()


def delete(recorder: Recorder, base: Base, paths: Sequence[str]) -> None:
    """Delete objects below a base, some at a time; what is not there any longer is no error."""
    for start in range(0, len(paths), DELETED_AT_ONCE):
        some = paths[start : start + DELETED_AT_ONCE]
        failpoints.reached("delete.before", base.describe(some[0]))
        base.delete(some)
        failpoints.reached("delete.after", base.describe(some[-1]))
        recorder.commit()  # a sign of life, where one is due


def abort_uploads(base: Base) -> int:
    """Throw away what a killed process has sent in parts and not completed; how many there were."""
    uploads = base.unfinished()
    for path, upload in uploads:
        base.abort(path, upload)
    return len(uploads)
