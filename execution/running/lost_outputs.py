"""Outputs whose bytes are gone while steps read them: who makes them again, and that it gives what was used (rule R6).

Before an epoch runs, all that will be read is looked for, and what is lost is said in the log. While it runs, a reader
finds that something is lost: asked of the state, as the engine has folded it so far, what is to become true is given
back as events.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import structs

from execution.errors import ExpansionChanged, OutputNotReproduced
from execution.planning.resume_plan import has_read, reads
from execution.running.inputs import InputLost
from runstore.keys import parse_step_key
from runstore.log.events import (
    STORES,
    AnyEvent,
    DynamicOutputStored,
    ExpansionSealed,
    OutputStored,
    StepInvalidated,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Level
from runstore.log.recorder import Recorder
from runstore.log.transitions import PENDING, RUNNING, SUCCEEDED, WAITING
from runstore.outputs.output_store import OutputStore
from runstore.store import RunStore

_Stores = OutputStored | DynamicOutputStored


class LostOutputs:
    """Those of one epoch."""

    def __init__(self, recorder: Recorder, outputs: OutputStore) -> None:
        self._recorder = recorder
        self._state = recorder.state
        self._outputs = outputs
        self._losses: Counter[tuple[str, str]] = Counter()
        self.put_off: list[tuple[str, InputLost]] = []
        """Readers whose inputs are lost, and are outputs of steps that run again already."""

    def invalidations(self, reader: str, loss: InputLost) -> Iterator[StepInvalidated]:
        """What makes lost inputs anew, and their reader wait for them; to be appended one by one, each before the next
        is asked for. Raises the loss where something is lost a second time.

        Several readers may find losses at a time: one that concerns a step which runs again already is looked at when
        that has ended, and nothing is given for it now.
        """
        stored = [(seq, self._stored(seq)) for seq in loss.seqs]
        if any(self._state.status(_step(event)) in (RUNNING, WAITING) for _, event in stored):
            self.put_off.append((reader, loss))
            return
        for seq, event in stored:
            if self._is_made_again(seq, event):
                continue
            lost = (event.step, _label(event))
            self._losses[lost] += 1
            if self._losses[lost] > 1:  # made again and lost again: no third time
                raise loss.error
            yield invalidation_of(event)
        node = parse_step_key(reader)[0]
        yield StepInvalidated(node=node, steps=(reader,), reason="input lost")

    def take_put_off(self) -> list[tuple[str, InputLost]]:
        """The readers that are to be looked at again now that an attempt has ended, and their losses."""
        put_off, self.put_off = self.put_off, []
        return put_off

    def _stored(self, seq: int) -> _Stores:
        event = self._recorder.event(seq)
        assert isinstance(event, STORES)
        return event

    def _is_made_again(self, seq: int, event: _Stores) -> bool:
        """True where another reader has said before that this output is lost."""
        step = _step(event)
        if self._state.status(step) not in (SUCCEEDED, PENDING):
            return True  # it has failed at making it
        if _label(event) in self._state.lost.get(step, ()):
            return True
        return self._kept_seq(step, event) != seq

    def _kept_seq(self, step: StepId, event: _Stores) -> int:
        """The seq under which an output of that name stands, 0 where there is none."""
        if isinstance(event, DynamicOutputStored):
            level = Level(step.node, event.output)
            return self._state.piece_seq(level, step.key_path, event.mapping_key)
        return self._state.kept_seq(step, event.output)

    def reproduced(self, event: AnyEvent) -> AnyEvent:
        """An event of a step that runs again for lost bytes, as it is to be appended.

        The step must give the same keys, else ExpansionChanged is raised, and where its outputs were used the same
        bytes, else OutputNotReproduced.
        """
        if not isinstance(event, OutputStored | DynamicOutputStored | ExpansionSealed):
            return event
        step = _step(event)
        lost = self._state.lost.get(step)
        if lost is None:
            return event
        if not isinstance(event, ExpansionSealed):
            return self._with_used_bytes(event, step) if _label(event) in lost else event
        expansion = self._state.expansion(Level(step.node, event.output), step.key_path)
        if expansion is not None and expansion.digest != event.keys_digest:
            raise ExpansionChanged(
                f"step {event.step!r} ran again for lost bytes and yielded {event.count:,} keys under "
                f"{event.output!r} that are not the {len(expansion):,} sealed ones in order; "
                "make it yield them again, restore the lost files, or start a new run"
            )
        return event

    def _with_used_bytes(self, event: _Stores, step: StepId) -> _Stores:
        key = event.mapping_key if isinstance(event, DynamicOutputStored) else None
        old = self._kept_seq(step, event)
        stored = self._stored(old) if old else event
        if stored.reference.sha256 == event.reference.sha256:
            return event
        reader = has_read(self._state, step, event.output, key)
        if reader is None:
            return event
        if self._outputs.is_there(stored.reference, deep=True):  # restored meanwhile from a copy
            return structs.replace(event, reference=stored.reference)
        raise OutputNotReproduced(
            f"step {event.step!r} ran again for the lost output {_label(event)!r} and gave other bytes, but "
            f"'{reader}' has succeeded with the lost ones; restore {self._outputs.address(stored.reference)} "
            "from a copy, or start a new run"
        )


def invalidate_lost(recorder: Recorder, store: RunStore) -> tuple[str, ...]:
    """Invalidate every step whose stored bytes the remaining steps will read and do not find (rule R6)."""
    with contextlib.closing(store.outputs(recorder.state)) as outputs:
        return _invalidate_lost(recorder, outputs)


def _invalidate_lost(recorder: Recorder, outputs: OutputStore) -> tuple[str, ...]:
    state = recorder.state
    deep = state.level == "fast"
    checked: set[int] = set()
    lost: list[str] = []
    while True:
        wanted = [seq for seq in reads(state) if seq not in checked]
        there = outputs.are_there(recorder.references(wanted), deep=deep)
        missing = [seq for seq, is_there in zip(wanted, there, strict=True) if not is_there]
        checked.update(wanted)
        if not missing:
            return tuple(dict.fromkeys(lost))
        lost += _invalidate(recorder, missing)


def _invalidate(recorder: Recorder, missing: Iterable[int]) -> list[str]:
    by_step: dict[str, list[_Stores]] = {}
    for seq in missing:
        event = recorder.event(seq)
        assert isinstance(event, STORES)
        by_step.setdefault(event.step, []).append(event)
    for events in by_step.values():
        recorder.append(invalidation_of(*events))
    return list(by_step)


def invalidation_of(*events: OutputStored | DynamicOutputStored) -> StepInvalidated:
    """What makes a step run again whose outputs were lost; `events`: those that stored them."""
    step = events[0].step
    lost = tuple(_label(event) for event in events)
    return StepInvalidated(
        node=parse_step_key(step)[0], steps=(step,), reason="output lost", lost=lost
    )


def _label(event: OutputStored | DynamicOutputStored) -> str:
    if isinstance(event, DynamicOutputStored):
        return str(StepId(event.output, (event.mapping_key,)))
    return event.output


def _step(event: OutputStored | DynamicOutputStored | ExpansionSealed) -> StepId:
    return StepId(*parse_step_key(event.step))
