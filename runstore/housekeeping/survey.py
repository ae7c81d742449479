"""What there is of a run, in the log and in storage, and who else uses it. Reads, and writes nothing."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from runstore.errors import RunAlive
from runstore.housekeeping.inventory import Inventory, Seqs
from runstore.housekeeping.takers import Takers
from runstore.log.claims import boot_id
from runstore.log.events import STORES, ReuseSealed, RunStarted
from runstore.log.recorder import Recorder
from runstore.log.state import RunState
from runstore.outputs.base import Base
from runstore.store import RunStore

QUIET_S = 3_600.0
"""An executor elsewhere that was heard of within this time may be in a long step; housekeeping does not disturb it."""


class Place(NamedTuple):
    """A place that holds outputs of a run, or held them."""

    address: str
    """The same text for the same place, without credentials."""
    base: Base
    indexes: tuple[int, ...]
    """Of the run's bases that are here; none: the run was moved away from here."""


class Survey:
    """A run: its log, replayed, and the places of its own outputs."""

    def __init__(
        self, store: RunStore, run_id: str, *, to_write: bool, takers: Takers | None = None
    ) -> None:
        self.store = store
        self.inventory = Inventory()
        open_run = store.reopen if to_write else store.replayed
        self.recorder: Recorder = open_run(run_id, self.inventory.look)
        self.places = list(_places(store, self.state))
        users = (takers or Takers(store)).users_of(run_id)
        self._users = _Users(store, users, self.state, self.places)

    @property
    def state(self) -> RunState:
        """What the run has become."""
        return self.recorder.state

    def named(self, place: Place) -> Mapping[str, Seqs]:
        """Path -> seqs of the events by which the run finds an object at a place."""
        tables = [self.inventory.named.get(index, {}) for index in place.indexes]
        if len(tables) == 1:
            return tables[0]
        merged: dict[str, Seqs] = {}
        for path, seqs in chain.from_iterable(table.items() for table in tables):
            merged[path] = [*merged.get(path, ()), *seqs]
        return merged

    def used(self, place: Place) -> Mapping[str, str]:
        """Path -> another run that uses the object of a place."""
        used = dict(self._users.used[place.address])
        for user, (upto, addresses) in self._users.taking.items():
            for index, address in enumerate(addresses):
                if address == place.address:
                    named = self.inventory.named.get(index, {})
                    used.update((path, user) for path, seqs in named.items() if seqs[0] <= upto)
        return used


def refuse_disturbed(store: RunStore, run_id: str) -> None:
    """Raise RunAlive while somebody executes the run, or may do so on another machine or in another container."""
    claim = store.claim(run_id)
    if claim is None:
        return
    is_elsewhere = claim.boot != boot_id()
    if claim.is_alive() or (is_elsewhere and claim.age_s < QUIET_S):
        raise RunAlive(
            f"run {run_id!r} is being executed by {claim}; wait for it, or `runstore cancel {run_id}`, then try again",
            run_id,
        )


def _places(store: RunStore, state: RunState) -> Iterator[Place]:
    """The places of the run's own bases, where they are and where they were; never a parent's."""
    own = store.own_bases(state.run_id)
    indexes: dict[str, list[int]] = {store.place(base): [] for base in own}
    declared = {store.place(base): base for base in own}
    for index in state.own_bases:
        if state.bases[index] in own:
            indexes[store.place(state.bases[index])].append(index)
    for address, here in indexes.items():
        base = store.base(declared[address], durable=state.level == "durable")
        yield Place(address, base, tuple(here))


class _Users:
    """Other runs that took outputs of this one, or are about to: reruns of it, and theirs."""

    def __init__(
        self, store: RunStore, users: list[str], state: RunState, places: list[Place]
    ) -> None:
        self.used: dict[str, dict[str, str]] = {place.address: {} for place in places}
        """Address of a place -> path -> run."""
        self.taking: dict[str, tuple[int, list[str]]] = {}
        """Rerun of this run that was killed while it took -> up to which seq it will read this log, and where it will
        look for what stands there, by base.
        """
        for user in users:
            self._read(store, user, state.run_id)

    def _read(self, store: RunStore, user: str, run_id: str) -> None:
        at: dict[int, dict[str, str]] = {}
        for _, event in store.events(user):
            if isinstance(event, STORES) and event.reference.base in at:
                at[event.reference.base][event.reference.path] = user
            elif isinstance(event, ReuseSealed):
                self.taking.pop(user, None)
            elif isinstance(event, RunStarted) and event.parent is not None:
                addresses = [store.place(base) for base in event.parent.bases]
                at = {n: self.used[one] for n, one in enumerate(addresses) if one in self.used}
                if event.parent.run == run_id:
                    self.taking[user] = event.parent.seq, addresses
