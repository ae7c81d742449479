"""What an audit finds by the index is what the fold of the whole log holds, step by step, now and at earlier seqs."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.audit.lookup import Lookup
from runstore.audit.stored import Stored, counted
from runstore.log.events import STORES
from runstore.log.expanded import StepId
from runstore.log.graph import Level
from runstore.log.state import RunState
from runstore.store import RunStore
from tests.property.crashed import Crash, crashed_run, crashes, some_shapes
from tests.property.logs import RUN
from tests.property.test_runs import COMMON
from tests.shapes import KEYS, Shape

TRIED = settings(COMMON, max_examples=25)


def steps_of(state: RunState) -> list[StepId]:
    """Every step that a run knows."""
    return [step for node in state.graph.nodes for step in state.steps_of(node)]


def check_step(look: Lookup, state: RunState, step: StepId, upto: int | None) -> None:
    """One step, and what it stored."""
    history = look.history(step, upto)
    assert history.status == state.status(step)
    place = state.find(step)
    assert place is not None
    assert (
        len([one for one in history.attempts if not upto or one.seq <= upto])
        == place[0].attempts[place[1]]
    )
    assert history.due == state.waiting.get(step)
    for output in state.graph.by_name[step.node].outputs:
        if not output.dynamic:
            assert history.output_seq(output.name) == state.output_seq(step, output.name)
            continue
        level = Level(step.node, output.name)
        expansion = state.expansion(level, step.key_path)
        sealed = list(expansion.ordered_keys()) if expansion else []
        assert list(look.keys(level, step.key_path, upto)) == sealed
        for key in KEYS:
            seq, is_sealed = look.piece(level, step.key_path, key, upto)
            assert seq == state.piece_seq(level, step.key_path, key)
            assert is_sealed == (key in sealed)


@TRIED
@given(some_shapes, crashes, st.floats(0, 1))
def test_a_lookup_says_what_the_fold_says(shape: Shape, history: list[Crash], when: float) -> None:
    """Status, attempts, outputs, keys and their order, of every step, at the end of the log and somewhere in it."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        look, state = Lookup(store, RUN), store.state(RUN)
        for step in steps_of(state):
            check_step(look, state, step, None)
            assert look.is_known(step)
            assert look.is_sealed(step) == state.is_sealed(step)
        assert vars(look.frame)["bases"] == state.bases
        assert look.frame.epoch == state.epoch
        check_earlier(store, look, state, max(1, round(when * state.seq)))


def check_earlier(store: RunStore, look: Lookup, state: RunState, upto: int) -> None:
    """The same as of an earlier seq, for the steps that were known then."""
    earlier = store.state(RUN, upto=upto)
    if earlier.graph == state.graph:
        for step in steps_of(earlier):
            check_step(look, earlier, step, upto)


@TRIED
@given(some_shapes, crashes)
def test_a_lookup_knows_no_other_step(shape: Shape, history: list[Crash]) -> None:
    """A key that was never sealed there names no step."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        look, state = Lookup(store, RUN), store.state(RUN)
        for node in state.graph.nodes:
            for key in [*KEYS, "nobody"]:
                step = StepId(node.name, (key,) * len(node.scope))
                assert look.is_known(step) == (state.find(step) is not None)


@TRIED
@given(some_shapes, crashes)
def test_what_counts_in_one_reading(shape: Shape, history: list[Crash]) -> None:
    """The contents that two runs are compared by are those of the outputs that the fold says count."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        references = {
            seq: event.reference.sha256
            for seq, event in store.events(RUN)
            if isinstance(event, STORES)
        }
        expected = {
            (step, output, key): references[seq]
            for step, output, key, seq in counted(store.state(RUN))
        }
        assert Stored(store, RUN).contents == expected
