"""The clones of a node below a key path: a range of the index, of which statements are asked.

Their step keys begin with the same text, and so stand together in `ix_step`.
"""

from typing import Any

from runstore.audit.lookup import Lookup, Rows
from runstore.keys import KeyPath, format_step_key
from runstore.log.event_log import row_id
from runstore.log.events import RunEnded, RunResumed
from runstore.log.graph import Node

_BELOW = "FROM events WHERE run = :run AND step >= :first AND step < :behind {upto}"
_UPTO = "AND +row_id <= :upto"


class Clones:
    """Those of one run. `upto`: a seq, beyond which the log is not looked at; for a run that goes on meanwhile."""

    def __init__(self, look: Lookup, upto: int | None) -> None:
        self._store, self._number = look.store, look.number
        self._upto = upto
        self.wide = [(seq, event) for seq, event in look.wide if upto is None or seq <= upto]
        """What happened to the run as a whole."""
        self.resumed = _last(self.wide, RunResumed)
        """The seq of the last resume; 0 where there was none."""
        self.ended = _last(self.wide, RunEnded)
        """The seq of the last end of an epoch; 0 where there was none."""

    def row(self, sql: str, node: Node, below: KeyPath, **more: Any) -> tuple[Any, ...]:
        """The one row of a statement; as `rows`."""
        return self.rows(sql, node, below, **more)[0]

    def rows(self, sql: str, node: Node, below: KeyPath, **more: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement about the clones of a node below a key path, or about the step at it.

        `{below}` stands in it for the range, `{of_next}` and `{of_done}` for what keeps its other tables `next` and
        `done` to the same seq; it may ask for `:resumed` and `:ended`, as row_ids, and for what more is given.
        """
        first = format_step_key(node.name, below)
        is_step = len(below) == len(node.scope)
        marks = {
            "run": self._number,
            "first": first if is_step else f"{first}[",
            "behind": f"{first}\0" if is_step else f"{first}\\",
            "resumed": row_id(self._number, self.resumed),
            "ended": row_id(self._number, self.ended),
            "upto": row_id(self._number, self._upto or 0),
            **more,
        }
        until = _UPTO if self._upto else ""
        of_next, of_done = (until.replace("row_id", f"{one}.row_id") for one in ("next", "done"))
        asked = sql.format(below=_BELOW.format(upto=until), of_next=of_next, of_done=of_done)
        return self._store.query(asked, marks).fetchall()


def _last(rows: Rows, kinds: Any) -> int:
    return max((seq for seq, event in rows if isinstance(event, kinds)), default=0)
