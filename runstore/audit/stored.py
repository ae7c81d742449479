"""All that counts of a run, in one reading: the content of each output, the code and the time of each op.

Where nothing was ever invalidated, what a successful attempt has stored counts, and the rows are read without folding
them: a third of the work. Where something was, the fold says what counts.
"""

from typing import Any

import msgspec

from runstore.audit.lookup import Lookup
from runstore.audit.rows import raw_rows, taken_as_valid
from runstore.log.events import STORES, AnyEvent, RunResumed, StepInvalidated
from runstore.log.graph import Level
from runstore.log.state import RunState
from runstore.log.transitions import SUCCEEDED
from runstore.store import RunStore

Output = tuple[str, str, str | None]
"""(step key, output, mapping key of a piece)."""


class _Reference(msgspec.Struct, gc=False):
    sha256: str


class _Row(msgspec.Struct, gc=False):
    """What is asked of a row; other fields are passed over."""

    kind: str
    step: str = ""
    output: str = ""
    mapping_key: str | None = None
    reference: _Reference | None = None
    code: str = ""
    duration_s: float = 0.0
    cause: str = ""


_decoder = msgspec.json.Decoder(_Row)


class OpTotal(msgspec.Struct):
    """What the steps of one op have taken."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    """Of the successful attempts together."""
    codes: set[str] = set()


class Stored:
    """What counts of one run."""

    def __init__(self, store: RunStore, run_id: str) -> None:
        look = Lookup(store, run_id)
        self.frame = look.frame
        self.contents: dict[Output, str] = {}
        """Output -> sha256."""
        self.ops: dict[str, OpTotal] = {node.name: OpTotal() for node in self.frame.graph.nodes}
        self._attempts: dict[str, list[_Row]] = {}
        self._codes: dict[str, str] = {}
        if any(isinstance(event, StepInvalidated) or _regraphs(event) for _, event in look.wide):
            self._fold(store, run_id)
        else:
            with taken_as_valid(store, run_id):
                for _, body in raw_rows(store, run_id):
                    self._take(_decoder.decode(body))

    def _take(self, row: _Row) -> None:
        match row.kind:
            case "OutputStored" | "DynamicOutputStored":
                self._attempts[row.step].append(row)
            case "StepStarted" | "StepReused":
                self._attempts[row.step] = []
                self._codes[row.step] = row.code
            case "StepSucceeded":
                self._succeeded(row)
            case "StepFailed" | "StepRetried":
                self._attempts.pop(row.step, None)
            case "StepSkipped":
                self.ops[row.step.partition("[")[0]].skipped += 1

    def _succeeded(self, row: _Row) -> None:
        total = self.ops[row.step.partition("[")[0]]
        total.succeeded += 1
        total.seconds += row.duration_s
        total.codes.add(self._codes.pop(row.step))
        for stored in self._attempts.pop(row.step):
            output = (row.step, stored.output, stored.mapping_key)
            self.contents[output] = stored.reference.sha256  # type: ignore[union-attr]

    def _fold(self, store: RunStore, run_id: str) -> None:
        contents: dict[int, str] = {}
        seconds: dict[str, float] = {}

        def look(seq: int, event: AnyEvent) -> None:
            if isinstance(event, STORES):
                contents[seq] = event.reference.sha256
            duration: Any = getattr(event, "duration_s", None)
            if duration is not None:
                seconds[getattr(event, "step", "")] = duration

        state = store.state(run_id, look)
        for text, output, key, seq in counted(state):
            self.contents[text, output, key] = contents[seq]
        for node in state.graph.nodes:
            total = self.ops[node.name]
            total.codes = set(state.codes.get(node.name, ()))
            for step in state.sealed_steps(node):
                if state.status(step) == SUCCEEDED:
                    total.succeeded += 1
                    total.seconds += seconds.get(str(step), 0.0)


def _regraphs(event: AnyEvent) -> bool:
    return isinstance(event, RunResumed) and event.graph is not None


def counted(state: RunState) -> list[tuple[str, str, str | None, int]]:
    """(step key, output, mapping key, seq) of every output that counts, orphans left out."""
    found: list[tuple[str, str, str | None, int]] = []
    for node in state.graph.nodes:
        for step in state.sealed_steps(node):
            if state.status(step) != SUCCEEDED:
                continue
            text = str(step)
            for output in node.outputs:
                if not output.dynamic:
                    found.append((text, output.name, None, state.output_seq(step, output.name)))
                    continue
                expansion = state.expansion(Level(node.name, output.name), step.key_path)
                for key in expansion.ordered_keys() if expansion else ():
                    slot = expansion.keys[key] if expansion else 0
                    found.append((text, output.name, key, expansion.seqs[slot] if expansion else 0))
    return [one for one in found if one[3]]
