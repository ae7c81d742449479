"""Which runs have taken outputs of which, for housekeeping that goes over many runs: one reading for all of them.

Asked run by run, each answer would read the first event of every run, so that the cost grew with the square of the
runs. The first event of a run never changes; what is read later is only the runs that began meanwhile.
"""

from runstore.store import RunStore

# What each run behind a number names as its parent's bases. CROSS JOIN: the first event of each run by its row_id.
_BASES = """
SELECT runs.id, base.value
FROM runs CROSS JOIN events ON events.row_id = (runs.run << 32) + 1
CROSS JOIN json_each(iif(json_valid(body), body, '{}'), '$.parent.bases') AS base
WHERE runs.run > ? AND runs.run <= ? ORDER BY runs.run"""
_LAST = "SELECT run, id FROM runs ORDER BY run DESC LIMIT 1"
_NAME = "SELECT id FROM runs WHERE run = ?"

_NONE = (0, "")


class Takers:
    """The users of every run of a store, as `RunStore.users_of` gives them for one."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._by_base: dict[str, dict[str, None]] = {}
        """Base -> the runs that name it as their parent's, in the order in which they began."""
        self._last: tuple[int, str] = _NONE
        """(number, id) of the last run that was read."""

    def users_of(self, run_id: str) -> list[str]:
        """The runs that have taken outputs of this one, directly or not, those that began a moment ago too."""
        self._read_on()
        found = {
            user: None
            for base in self._store.own_bases(run_id)
            for user in self._by_base.get(base, ())
        }
        return [user for user in found if user != run_id and self._store.has_run(user)]

    def _read_on(self) -> None:
        if self._last != _NONE and self._id_of(self._last[0]) != self._last[1]:
            self._by_base, self._last = {}, _NONE  # it was removed; its number may be another's
        number, run_id = next(self._store.query(_LAST), _NONE)
        for user, base in self._store.query(_BASES, (self._last[0], number)):
            self._by_base.setdefault(base, {})[user] = None
        self._last = int(number), str(run_id)

    def _id_of(self, number: int) -> str:
        return str(next(self._store.query(_NAME, (number,)), ("",))[0])
