"""Delete what nobody needs: outputs of attempts that do not count, what killed processes left, and old runs' outputs.

First the events that name what goes, durably, then the bytes. Killed in between, the next prune deletes the rest; there
is never a hole of which the log says nothing.
"""

import datetime as dt
from collections.abc import Iterator

import msgspec

from runstore.errors import FormatTooNew, LogDamaged, RunAlive
from runstore.housekeeping.epoch import abort_uploads, delete, epoch
from runstore.housekeeping.inventory import needed
from runstore.housekeeping.surplus import Amount, Surplus, Why, surplus
from runstore.housekeeping.survey import Place, Survey, refuse_disturbed
from runstore.housekeeping.takers import Takers
from runstore.log.events import DELETED_TOGETHER, DeletionReason, OutputDeleted, RunOutcome
from runstore.store import RunStore


class Pruned(msgspec.Struct, frozen=True):
    """What was deleted of a run, or would be."""

    run_id: str
    deleted: Amount = Amount()
    why: dict[Why, Amount] = {}
    outputs: int = 0
    """Stored outputs among it, of which the log says from now on that they were deleted."""
    uploads: int = 0
    """Unfinished uploads that were aborted."""
    in_use: Amount = Amount()
    """What was kept since other runs use it."""
    users: tuple[str, ...] = ()
    """These runs."""
    epoch: int = 0
    """In which it was done; 0 where nothing was written."""
    left_alone: str = ""
    """Why nothing was looked at."""


def prune(
    store: RunStore,
    run: str | None = None,
    *,
    dry_run: bool = False,
    older_than: dt.timedelta | None = None,
    keep_failed: bool = False,
) -> Iterator[Pruned]:
    """Prune a run, or all, one after the other; `dry_run` writes nothing.

    `older_than`: also all outputs of runs that have ended, or were last written to, so long ago. `keep_failed`: not of
    runs that did not succeed. What other runs took by reference is kept. A run that is alive is left alone, and so is,
    where all are pruned, one whose log cannot be read.

    Raises RunNotFound, and for the run that was named RunAlive and what its log or storage raise.
    """
    if run is not None:
        yield _prune(store, store.resolve(run), dry_run, older_than, keep_failed, Takers(store))
        return
    takers = Takers(store)
    for run_id in [summary.run_id for summary in store.runs()]:
        try:
            yield _prune(store, run_id, dry_run, older_than, keep_failed, takers)
        except (RunAlive, FormatTooNew, LogDamaged) as error:
            yield Pruned(run_id, left_alone=str(error))


def _prune(
    store: RunStore,
    run_id: str,
    dry_run: bool,
    older_than: dt.timedelta | None,
    keep_failed: bool,
    takers: Takers,
) -> Pruned:
    refuse_disturbed(store, run_id)
    survey = Survey(store, run_id, to_write=not dry_run, takers=takers)
    status = survey.state.run_status
    if keep_failed and status != "succeeded":
        return Pruned(run_id, left_alone=f"it is {status}, and what did not succeed is kept")
    age = dt.datetime.now(dt.UTC) - survey.inventory.worked
    found = _surpluses(survey, is_old=older_than is not None and age >= older_than)
    uploads = sum(len(place.base.unfinished()) for place in survey.places)
    done_in = 0
    if not dry_run and (uploads or any(one.paths for _, one in found)):
        done_in = _carry_out(survey, found)
    return _told(run_id, [one for _, one in found], uploads, done_in)


def _surpluses(survey: Survey, *, is_old: bool) -> list[tuple[Place, Surplus]]:
    wanted = frozenset(needed(survey.state))
    return [
        (
            place,
            surplus(
                place.base.found(),
                named=survey.named(place),
                wanted=wanted,
                deleted=survey.inventory.deleted,
                used=survey.used(place),
                is_old=is_old,
                is_former=not place.indexes,
            ),
        )
        for place in survey.places
    ]


def _carry_out(survey: Survey, found: list[tuple[Place, Surplus]]) -> int:
    events = _deletions([one for _, one in found], survey.state.run_status)
    with epoch(survey, "prune", *events) as recorder:
        for place, one in found:
            delete(recorder, place.base, one.paths)
            abort_uploads(place.base)
        return recorder.state.epoch


def _deletions(found: list[Surplus], status: RunOutcome) -> Iterator[OutputDeleted]:
    reasons: tuple[DeletionReason, ...] = ("orphan", "old")
    for reason in reasons:
        seqs = sorted(seq for one in found for seq in one.seqs[reason])
        for start in range(0, len(seqs), DELETED_TOGETHER):
            some = tuple(seqs[start : start + DELETED_TOGETHER])
            yield OutputDeleted(seqs=some, reason=reason, run_status=status)


def _told(run_id: str, found: list[Surplus], uploads: int, done_in: int) -> Pruned:
    why: dict[Why, Amount] = {}
    for one in found:
        for reason, amount in one.why.items():
            why[reason] = why.get(reason, Amount()) + amount
    return Pruned(
        run_id,
        deleted=sum(why.values(), Amount()),
        why=why,
        outputs=sum(len(seqs) for one in found for seqs in one.seqs.values()),
        uploads=uploads,
        in_use=sum((one.in_use for one in found), Amount()),
        users=tuple(sorted({user for one in found for user in one.users})),
        epoch=done_in,
    )
