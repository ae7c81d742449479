"""Is every output there that counts, with its size and its bytes? Rules O1 to O3 of FORMAT.md.

Outputs are looked for many at a time, as their events are read. Which of them count is known at the end alone, and what
does not count, or was deleted on purpose, need not be there.
"""

from collections.abc import Iterator

from runstore.audit.finding import Finding
from runstore.audit.lookup import Lookup
from runstore.errors import FormatTooNew, LogDamaged, OutputCorrupted, OutputLost, StorageFailed
from runstore.log.events import DynamicOutputStored, OutputDeleted, OutputStored
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reference import OutputReference
from runstore.store import RunStore

_LOOKED_FOR_TOGETHER = 1_000
_REFUSED_IN_A_ROW = 3
"""Then the others of that thousand are not asked for: each may take a time-out."""
_Stored = tuple[int, str, OutputReference]
"""(seq, step key, reference)"""


class Presence:
    """The outputs of a run, looked for while its log is read."""

    def __init__(self, store: RunStore, run_id: str, *, deep: bool) -> None:
        self.counted = self.deleted = 0
        """Of the outputs that count, how many should be there, and how many more were deleted; known in the end."""
        self._deep = deep
        self._outputs, self._bases = _outputs_of(store, run_id)
        self._stored: list[_Stored] = []
        self._deleted: set[int] = set()
        """Outputs that were deleted on purpose."""
        self._suspects: dict[int, Finding] = {}
        """Outputs that are not there, or are other bytes; a finding if they count in the end."""

    def expect(self, seq: int, event: OutputStored | DynamicOutputStored) -> None:
        """An output that the log says was stored."""
        self._stored.append((seq, event.step, event.reference))
        if len(self._stored) == _LOOKED_FOR_TOGETHER:
            self._look_for()

    def deleted_by(self, event: OutputDeleted) -> None:
        """Outputs that the log says were deleted."""
        self._deleted.update(event.seqs)

    def close(self, counts: set[int] | None) -> Iterator[Finding]:
        """What is off; `counts`: the seqs of the outputs that count, None where that cannot be told."""
        self._look_for()
        self.counted = len(self._suspects) if counts is None else len(counts - self._deleted)
        self.deleted = len(self._deleted if counts is None else counts & self._deleted)
        for seq, suspect in self._suspects.items():
            if seq not in self._deleted and (counts is None or seq in counts):
                yield suspect

    def _look_for(self) -> None:
        """Are the outputs there that were stored since this was asked the last time?"""
        stored, self._stored = self._stored, []
        if self._outputs is None:
            return
        known = [one for one in stored if one[2].base < self._bases]
        for seq, step, reference in stored:
            if reference.base >= self._bases:
                fact = f"base {reference.base} is not declared"
                self._suspects[seq] = Finding("O1", seq, fact, step, reference.path)
        try:
            there = list(self._outputs.are_there((one[2] for one in known), deep=self._deep))
            for (seq, step, reference), is_there in zip(known, there, strict=True):
                if not is_there:
                    self._suspects[seq] = _lost(self._outputs, seq, step, reference)
        except StorageFailed:
            self._look_for_each(self._outputs, known)

    def _look_for_each(self, outputs: OutputStore, known: list[_Stored]) -> None:
        """One by one, where storage refused: each that nothing can be said of is a suspect of its own."""
        refusals: list[str] = []
        for seq, step, reference in known:
            if len(refusals) >= _REFUSED_IN_A_ROW:
                fact = f"was not looked for, since storage refused: {refusals[-1]}"
                self._suspects[seq] = Finding("O1", seq, fact, step)
                continue
            try:
                if not outputs.is_there(reference, deep=self._deep):
                    self._suspects[seq] = _lost(outputs, seq, step, reference)
                refusals.clear()
            except StorageFailed as error:
                refusals.append(str(error))
                self._suspects[seq] = Finding("O1", seq, f"cannot be looked at: {error}", step)


def _outputs_of(store: RunStore, run_id: str) -> tuple[OutputStore | None, int]:
    """The outputs, over all bases that the log declares, and how many these are; None where it cannot be read."""
    try:
        look = Lookup(store, run_id)
    except (FormatTooNew, LogDamaged):
        return None, 0
    return look.outputs, len(look.frame.bases)


def _lost(outputs: OutputStore, seq: int, step: str, reference: OutputReference) -> Finding:
    rule = "O3" if outputs.is_there(reference, deep=False) else "O2"
    try:
        outputs.get(reference)
    except OutputCorrupted as error:
        fact = str(error)
    except OutputLost as error:
        rule, fact = "O1", str(error)
    else:
        fact = "has another size"
    return Finding(rule, seq, fact, step, outputs.address(reference))
