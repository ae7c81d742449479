"""Take the outputs of a run to another place: copy, verify, say so in the log, and only then delete, if at all.

Killed at any point it can be run again: before `BaseMoved` the run is where it was, afterwards it is at the new place.
"""

from collections.abc import Iterator
from itertools import chain, islice

import msgspec

from runstore.errors import ConfigError, OutputLost
from runstore.housekeeping.copying import Listed, copy_all
from runstore.housekeeping.epoch import abort_uploads, delete, epoch
from runstore.housekeeping.inventory import needed
from runstore.housekeeping.surplus import Amount, Surplus, surplus
from runstore.housekeeping.survey import Place, Survey, refuse_disturbed
from runstore.log.events import BaseMoved
from runstore.log.recorder import Recorder
from runstore.outputs.urls import scheme_of
from runstore.store import RunStore

SHOWN = 5


class Moved(msgspec.Struct, frozen=True):
    """What became of the outputs of a run."""

    run_id: str
    place: str
    """Where they are now, as the log declares it."""
    left: tuple[str, ...]
    """Where they were."""
    copied: Amount
    there: Amount
    """What was there already, and right."""
    skipped: int
    """Outputs that do not count and whose bytes were missing or altered; they were left behind."""
    deleted: Amount
    """At the old places."""
    in_use: Amount
    """What other runs use at the old places; they go on to find it there."""
    users: tuple[str, ...]
    """These runs."""
    epoch: int


def move(store: RunStore, run: str, url: str, *, delete_old: bool = False) -> Moved:
    """Take all outputs of a run that its log names to `url`; `delete_old`: then delete them where they were.

    Every output is held against the log, and read back where it arrives. What reruns use is never deleted.

    Raises OutputLost where an output that counts is missing or altered (nothing has moved then), OutputConflict where
    other bytes are at the new place, ConfigError where the run is there already, RunNotFound, RunAlive.
    """
    run_id = store.resolve(run)
    refuse_disturbed(store, run_id)
    survey = Survey(store, run_id, to_write=True)
    target = _target(store, run_id, url, durable=survey.state.level == "durable")
    sources = [one for one in survey.places if one.indexes and one.address != target.address]
    former = [one for one in survey.places if not one.indexes and one.address != target.address]
    left_over = former if delete_old and any(_has_objects(one) for one in former) else []
    is_moved = not sources and not left_over
    _refuse_useless(run_id, target, [*sources, *former], is_moved=is_moved)
    moving = _Move(survey, target)
    with epoch(survey, "move") as recorder:
        for source in sources:
            moving.copy(source)
        moving.declare(recorder, sources)
        old = [_emptied(survey, recorder, one) for one in [*sources, *left_over] if delete_old]
        return moving.told([*sources, *left_over], old)


def _has_objects(place: Place) -> bool:
    return any(True for _ in islice(place.base.found(), 1))


def _target(store: RunStore, run_id: str, url: str, *, durable: bool) -> Place:
    if store.directory is None:
        raise ConfigError("outputs of a store in memory stay in memory; open a store on disk")
    there = store.with_outputs(url)
    address = there.base_for(run_id)
    return Place(there.place(address), there.base(address, durable=durable), ())


def _declared(store: RunStore, target: Place) -> str:
    """As the log says it: inside the store's directory by a relative path, so that it moves with the store."""
    inside = f"{store.directory}/"
    if scheme_of(target.address) == "file" and target.address.startswith(inside):
        return target.address.removeprefix(inside)
    return target.address


def _refuse_useless(run_id: str, target: Place, places: list[Place], *, is_moved: bool) -> None:
    if is_moved:
        raise ConfigError(
            f"the outputs of run {run_id!r} are at {target.address}; name another place"
        )
    for one in places:
        if target.address.startswith(f"{one.address}/"):
            raise ConfigError(
                f"{target.address} lies inside {one.address}, where outputs of run {run_id!r} are or were; name "
                "another place"
            )


class _Move:
    """What is copied, and what becomes of it."""

    def __init__(self, survey: Survey, target: Place) -> None:
        self._survey = survey
        self._target = target
        self._declared = _declared(survey.store, target)
        self._wanted = frozenset(needed(survey.state)) - survey.inventory.ever_deleted
        self._copied = self._there = Amount()
        self._skipped = 0
        self._lost: list[int] = []

    def copy(self, source: Place) -> None:
        """Copy what events name; raises OutputLost, when all is looked at, where an output that counts is no more."""
        recorder = self._survey.recorder
        copies = copy_all(self._listed(source), source.base, self._target.base, recorder.commit)
        for _, copied in copies:
            amount = Amount(1, copied.size_bytes)
            if copied.how == "there":
                self._there += amount
            elif copied.how == "copied":
                self._copied += amount
            bad = [seq for seq in copied.bad if seq not in self._survey.inventory.ever_deleted]
            self._lost += [seq for seq in bad if seq in self._wanted]
            self._skipped += sum(seq not in self._wanted for seq in bad)
        if self._lost:
            raise self._refusal(source)

    def _listed(self, source: Place) -> Iterator[Listed]:
        named = self._survey.named(source)
        references = self._survey.recorder.references(chain.from_iterable(named.values()))
        for path, seqs in named.items():
            yield Listed(path, seqs, tuple(islice(references, len(seqs))))

    def _refusal(self, source: Place) -> OutputLost:
        recorder = self._survey.recorder
        shown = [
            f"{getattr(recorder.event(seq), 'step', '')} (seq {seq}, "
            f"{source.base.describe(recorder.reference(seq).path)})"
            for seq in self._lost[:SHOWN]
        ]
        more = f" and {len(self._lost) - SHOWN:,} more" if len(self._lost) > SHOWN else ""
        run_id = self._survey.state.run_id
        return OutputLost(
            f"nothing was moved: {len(self._lost):,} outputs of run {run_id!r} that count are missing or altered: "
            f"{', '.join(shown)}{more}. Restore them from a copy, or `runstore rerun {run_id}` and move that; what was "
            f"copied to {self._target.address} is used when it is moved again"
        )

    def declare(self, recorder: Recorder, sources: list[Place]) -> None:
        """Say in the log where everything is, in one durable commit."""
        status = recorder.state.run_status
        for index in sorted(index for source in sources for index in source.indexes):
            recorder.append(BaseMoved(index=index, base=self._declared, run_status=status))
        recorder.commit(durable=True)

    def told(self, left: list[Place], old: list[Surplus]) -> Moved:
        """All of it."""
        amounts = chain.from_iterable(one.why.values() for one in old)
        return Moved(
            self._survey.state.run_id,
            self._declared,
            tuple(place.address for place in left),
            self._copied,
            self._there,
            self._skipped,
            sum(amounts, Amount()),
            sum((one.in_use for one in old), Amount()),
            tuple(sorted({user for place in left for user in self._survey.used(place).values()})),
            self._survey.state.epoch,
        )


def _emptied(survey: Survey, recorder: Recorder, place: Place) -> Surplus:
    """Delete at an old place all that no other run uses."""
    found = surplus(
        place.base.found(),
        named={},
        wanted=(),
        deleted=(),
        used=survey.used(place),
        is_former=True,
    )
    delete(recorder, place.base, found.paths)
    abort_uploads(place.base)
    if not found.in_use.objects:
        place.base.remove()
    return found
