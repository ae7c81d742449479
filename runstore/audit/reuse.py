"""What a rerun says that it took, held against the log of its parent: rules A5 and A6 of FORMAT.md.

The parent's log is folded once, up to the seq that `RunStarted.parent` names, and of each output that it stored a
digest is kept, 40 bytes, so that nothing is read back. Where that log is gone or cannot be read there is no fault, but
something that is not proven. A parent that was itself a rerun is held against its own parent when it is verified.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from sys import intern

import msgspec

from runstore.audit.consistency import Fault
from runstore.errors import FormatTooNew, LogDamaged, RunNotFound
from runstore.keys import parse_step_key
from runstore.log.events import (
    STORES,
    AnyEvent,
    DynamicOutputStored,
    ExpansionSealed,
    OutputStored,
    Parent,
    ReuseSealed,
    RunResumed,
    RunStarted,
    StepReused,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Level
from runstore.log.transitions import SUCCEEDED
from runstore.store import RunStore

TAKEN_KINDS = frozenset(
    {
        RunStarted,
        RunResumed,
        StepReused,
        OutputStored,
        DynamicOutputStored,
        ExpansionSealed,
        StepSucceeded,
        ReuseSealed,
    }
)
"""The kinds of events that say what was taken."""


class Reuse:
    """Looks at each event of a run, after it was found that it may follow."""

    def __init__(self, store: RunStore) -> None:
        self.asked: Parent | None = None
        """The parent as the run names it."""
        self.steps = 0
        """How many reused steps were held against the parent's log."""
        self.unproven = ""
        """Why what was taken could not be held against it; empty where it could, or nothing was."""
        self.has_faults = False
        self._store = store
        self._parent: _ParentLog | None = None
        self._is_over = False
        self._taking: dict[str, set[str]] = {}
        """Step that is being taken -> its plain outputs that were stored so far."""

    def faults(self, event: AnyEvent) -> list[Fault]:
        """What is wrong with an event by which a step is taken."""
        found = list(self._faults(event))
        self.has_faults |= bool(found)
        return found

    def _faults(self, event: AnyEvent) -> Iterator[Fault]:
        match event:
            case RunStarted(parent=Parent() as asked) if asked.bases:
                self.asked = asked
                yield from self._open(asked)
            case RunResumed():
                self._taking.clear()
            case ReuseSealed():
                self._is_over = True
            case StepReused():
                yield from self._reused(event)
            case OutputStored() | DynamicOutputStored() | ExpansionSealed() | StepSucceeded():
                if event.step in self._taking and self._parent is not None:
                    yield from self._taken(self._parent, event)

    def _open(self, asked: Parent) -> Iterator[Fault]:
        try:
            self._parent = parent = _ParentLog(self._store, asked)
        except RunNotFound:
            self.unproven = f"the log of its parent, run {asked.run!r}, is not in the store"
            return
        except (LogDamaged, FormatTooNew) as error:
            self.unproven = f"the log of its parent cannot be read: {error}"
            return
        if parent.state.seq < asked.seq:
            yield (
                "A5",
                f"takes from run {asked.run!r} up to seq {asked.seq}; the log of that ends at seq {parent.state.seq}",
            )
        if tuple(parent.state.bases) != asked.bases:
            yield (
                "A6",
                f"calls {list(asked.bases)} the bases of run {asked.run!r}, whose log says {parent.state.bases}",
            )

    def _reused(self, event: StepReused) -> Iterator[Fault]:
        if self.asked is None or self._is_over:
            why = "after ReuseSealed" if self.asked else "in a run that has taken nothing"
            yield "A5", f"{event.step!r} is taken from a parent {why}"
        elif self._parent is not None:
            self._taking[event.step] = set()
            self.steps += 1
            yield from self._parent.faults(event)

    def _taken(
        self,
        parent: "_ParentLog",
        event: OutputStored | DynamicOutputStored | ExpansionSealed | StepSucceeded,
    ) -> Iterator[Fault]:
        match event:
            case ExpansionSealed():
                yield from parent.faults_of_seal(event)
            case StepSucceeded():
                there = self._taking.pop(event.step)
                for output, seq in parent.plain_outputs(event.step):
                    if output not in there:
                        yield (
                            "A6",
                            f"{event.step!r} is taken without {output!r}, which {parent.name} stored at seq {seq}",
                        )
            case _:
                if isinstance(event, OutputStored):
                    self._taking[event.step].add(event.output)
                yield from parent.faults_of_output(event)


class _ParentLog:
    """What the log of a parent holds, up to a seq."""

    def __init__(self, store: RunStore, asked: Parent) -> None:
        self.name = f"run {asked.run!r}"
        self._store, self._run_id = store, asked.run
        self._codes: dict[str, str] = {}
        self._finished: dict[str, tuple[int, str]] = {}
        """Step -> (seq of its last success, digest of the code that made it)."""
        self._seqs = array("q")
        self._digests = bytearray()
        if not store.has_run(asked.run):
            raise RunNotFound(f"no {self.name}")
        self.state = store.state(asked.run, self._look, upto=asked.seq)

    def _look(self, seq: int, event: AnyEvent) -> None:
        match event:
            case OutputStored() | DynamicOutputStored():
                self._seqs.append(seq)
                self._digests += _digest(event)
            case StepStarted() | StepReused():
                self._codes[event.step] = intern(event.code)
            case StepSucceeded():
                self._finished[event.step] = seq, self._codes.pop(event.step)

    def faults(self, event: StepReused) -> Iterator[Fault]:
        """Had the step succeeded there, where it says, by this code?"""
        if self.state.status(StepId(*parse_step_key(event.step))) != SUCCEEDED:
            yield (
                "A5",
                f"{event.step!r} is taken from {self.name}, where it had not succeeded by seq {self.state.seq}",
            )
            return
        seq, code = self._finished[event.step]
        if event.parent_seq != seq:
            yield (
                "A5",
                f"{event.step!r} is taken from seq {event.parent_seq} of {self.name}, where it succeeded at seq {seq}",
            )
        if event.code != code:
            yield (
                "A5",
                f"{event.step!r} was made by code {event.code}, {self.name} says by {code}",
            )

    def faults_of_output(self, event: OutputStored | DynamicOutputStored) -> Iterator[Fault]:
        """Is it what counted there, under the same name and with the same reference?"""
        seq = self._seq(event)
        if not seq:
            yield (
                "A6",
                f"{_label(event)} of {event.step!r} is none that counted in {self.name} at seq {self.state.seq}",
            )
        elif _digest(event) != self._digest_at(seq):
            yield "A6", f"{_label(event)} of {event.step!r} {self._difference(event, seq)}"

    def faults_of_seal(self, event: ExpansionSealed) -> Iterator[Fault]:
        """Are the keys those that were sealed there, in their order?"""
        node, path = parse_step_key(event.step)
        sealed = self.state.expansion(Level(node, event.output), path)
        digest = "" if sealed is None else sealed.digest
        if digest != event.keys_digest:
            count = 0 if sealed is None else len(sealed)
            yield (
                "A6",
                f"{event.step!r} seals {event.output!r} with {event.count:,} keys, which are not in this order the "
                f"{count:,} that {self.name} had sealed",
            )

    def plain_outputs(self, step: str) -> Iterator[tuple[str, int]]:
        """(output, seq) of what a step had stored and counted."""
        known = StepId(*parse_step_key(step))
        node = self.state.graph.by_name.get(known.node)
        for output in node.outputs if node else ():
            seq = 0 if output.dynamic else self.state.output_seq(known, output.name)
            if seq:
                yield output.name, seq

    def _seq(self, event: OutputStored | DynamicOutputStored) -> int:
        node, path = parse_step_key(event.step)
        if isinstance(event, OutputStored):
            return self.state.output_seq(StepId(node, path), event.output)
        return self.state.piece_seq(Level(node, event.output), path, event.mapping_key)

    def _digest_at(self, seq: int) -> bytes:
        place = bisect_left(self._seqs, seq)
        return bytes(self._digests[32 * place : 32 * place + 32])

    def _difference(self, event: OutputStored | DynamicOutputStored, seq: int) -> str:
        stored = self._store.event(self._run_id, seq)
        assert isinstance(stored, STORES)
        for field in stored.reference.__struct_fields__:
            here, there = getattr(event.reference, field), getattr(stored.reference, field)
            if here != there:
                return (
                    f"has the {field} {here!r}, {self.name} stored it at seq {seq} with {there!r}"
                )
        return f"has other metadata than {self.name} stored it with at seq {seq}"


def _digest(event: OutputStored | DynamicOutputStored) -> bytes:
    """Of what is said of an output wherever it is taken."""
    return hashlib.sha256(msgspec.json.encode((event.reference, event.metadata))).digest()


def _label(event: OutputStored | DynamicOutputStored) -> str:
    if isinstance(event, OutputStored):
        return repr(event.output)
    return f"'{StepId(event.output, (event.mapping_key,))}'"
