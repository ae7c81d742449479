"""Facts about many steps, in columns.

A key has a place ("slot") from the first time that it is sealed; a fact about it stands at that place of an array. Of a
stored output only the seq of its event is kept. Some 200 bytes per clone, so that a million is a size to plan for.
"""

from array import array
from collections.abc import Iterator

from runstore.log.graph import Node
from runstore.log.transitions import SKIPPED, SUCCEEDED


class Expansion:
    """The sealed keys of one dynamic output at one key path of its producer.

    Invariant: `order` lists the slots of the sealed keys; `keys` and `seqs` also hold keys of earlier seals (orphans).
    """

    __slots__ = ("_names", "_positions", "digest", "keys", "order", "seqs")

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self._names: list[str] = []
        self.seqs = array("q")
        self.order: range | array[int] = range(0)
        self._positions = array("q")
        self.digest = ""

    def adopt(self, attempt: "OpenExpansion", lost: frozenset[str] | None) -> None:
        """Take over the keys of an attempt that has succeeded; where only some pieces were lost, only these."""
        if not self.keys:
            self.keys, self.seqs = attempt.keys, attempt.seqs
            self.order = range(len(self.keys))
        else:
            self._merge(attempt, lost)
        self._names = list(self.keys)
        self.digest = attempt.digest

    def _merge(self, attempt: "OpenExpansion", lost: frozenset[str] | None) -> None:
        order = array("q")
        for key, place in attempt.keys.items():
            slot = self.keys.setdefault(key, len(self.keys))
            order.append(slot)
            if slot == len(self.seqs):
                self.seqs.append(attempt.seqs[place])
            elif lost is None or key in lost:
                self.seqs[slot] = attempt.seqs[place]
        self._reorder(order)

    def _reorder(self, order: "array[int]") -> None:
        if all(map(int.__eq__, order, range(len(order)))):
            self.order = range(len(order))
            return
        self.order, self._positions = order, array("q", [-1]) * len(self.keys)
        for position, slot in enumerate(order):
            self._positions[slot] = position

    def __len__(self) -> int:
        return len(self.order)

    def __bool__(self) -> bool:
        return True  # an expansion without keys is one

    def position(self, slot: int) -> int:
        """Where the key of a slot stands among the sealed keys; -1 for an orphan."""
        if isinstance(self.order, range):
            return slot if slot < len(self.order) else -1
        return self._positions[slot]

    def ordered_keys(self) -> Iterator[str]:
        """The sealed keys in yield order."""
        return (self._names[slot] for slot in self.order)

    def key_at(self, position: int) -> str:
        """The sealed key at a position."""
        return self._names[self.order[position]]


class OpenExpansion:
    """What an attempt has yielded under one output so far; counts for nothing until it succeeds (rule F4)."""

    __slots__ = ("digest", "keys", "sealed", "seqs")

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.seqs = array("q")
        self.sealed = False
        self.digest = ""


class Steps:
    """The steps of one node below one key path, by slot; a node that is not mapped has one slot.

    Invariant: all columns have the same length, `settled` counts the succeeded and skipped among the sealed slots.
    """

    __slots__ = ("attempts", "outputs", "settled", "status", "why")

    def __init__(self, node: Node, size: int) -> None:
        self.status = bytearray(size)
        self.why = bytearray(size)
        self.attempts = array("I", bytes(4 * size))
        self.outputs = {
            output.name: array("q", bytes(8 * size))
            for output in node.outputs
            if not output.dynamic
        }
        self.settled = 0

    def grow(self, size: int) -> None:
        """Make room for slots up to `size`."""
        more = size - len(self.status)
        if more > 0:
            self.status.extend(bytes(more))
            self.why.extend(bytes(more))
            self.attempts.extend(array("I", bytes(4 * more)))
            for column in self.outputs.values():
                column.extend(array("q", bytes(8 * more)))

    def recount(self, order: "range | array[int]") -> None:
        """Derive `settled` anew for a new set of sealed slots."""
        self.settled = sum(1 for slot in order if self.status[slot] in (SUCCEEDED, SKIPPED))

    def clear_outputs(self, slot: int) -> None:
        """Forget what an earlier attempt stored."""
        for column in self.outputs.values():
            column[slot] = 0
