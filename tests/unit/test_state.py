"""RunState is the fold of events: what each may follow, what it changes, and what the fold costs."""

import datetime as dt
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from runstore.errors import LogDamaged
from runstore.log.codec import keys_digest
from runstore.log.events import (
    AnyEvent,
    CollectResolved,
    DynamicOutputStored,
    Event,
    ExpansionSealed,
    InvalidationReason,
    OutputStored,
    Parent,
    ReuseSealed,
    RunCancelled,
    RunFailed,
    RunSucceeded,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Graph, Node, Output
from runstore.log.state import RunState
from runstore.log.transitions import (
    FAILED,
    FAILED_BEFORE,
    INTERRUPTED,
    INVALIDATED,
    NEVER_STARTED,
    OUTPUT_LOST,
    PENDING,
    RUNNING,
    SKIPPED,
    STATUS_NAMES,
    STEP_TRANSITIONS,
    SUCCEEDED,
    WAITING,
)
from tests.unit.logs import (
    CHAIN,
    KEYS,
    T0,
    Fold,
    fail,
    fan_out,
    pieces,
    plain,
    reference,
    retried,
    run_resumed,
    run_started,
    start,
)

# What may happen to a step, written down a second time on purpose.
LEGAL: dict[int, dict[type[Event], int]] = {
    PENDING: {
        StepStarted: RUNNING,
        StepReused: RUNNING,
        StepSkipped: SKIPPED,
        StepInvalidated: PENDING,
    },
    RUNNING: {
        OutputStored: RUNNING,
        DynamicOutputStored: RUNNING,
        ExpansionSealed: RUNNING,
        StepSucceeded: SUCCEEDED,
        StepFailed: FAILED,
        StepRetried: WAITING,
        StepInvalidated: PENDING,
    },
    WAITING: {StepStarted: RUNNING, StepSkipped: SKIPPED, StepInvalidated: PENDING},
    SUCCEEDED: {StepInvalidated: PENDING},
    FAILED: {StepInvalidated: PENDING},
    SKIPPED: {StepInvalidated: PENDING},
}
BOTH = Graph("both", (Node("op", "op", (), (Output("result"), Output("parts", dynamic=True))),))
SEAL = ExpansionSealed("op", "parts", 0, keys_digest([]))
LEADS_TO: dict[int, list[AnyEvent]] = {
    PENDING: [],
    RUNNING: [start("op")],
    SUCCEEDED: [
        start("op"),
        OutputStored("op", "result", reference()),
        SEAL,
        StepSucceeded("op", 0.1),
    ],
    FAILED: [start("op"), fail("op")],
    SKIPPED: [StepSkipped("op", "because")],
    WAITING: [start("op"), retried("op")],
}
STEP_EVENTS: dict[type[Event], Callable[[int], AnyEvent]] = {
    StepStarted: lambda attempt: start("op", attempt + 1),
    StepReused: lambda attempt: StepReused("op", 9, "c", attempt + 1),
    OutputStored: lambda attempt: OutputStored("op", "result", reference(), attempt),
    DynamicOutputStored: lambda attempt: DynamicOutputStored(
        "op", "parts", "a", reference(), attempt
    ),
    ExpansionSealed: lambda attempt: msgspec.structs.replace(SEAL, attempt=attempt),
    StepSucceeded: lambda attempt: StepSucceeded("op", 0.1, attempt),
    StepFailed: lambda attempt: fail("op", attempt),
    StepRetried: lambda attempt: retried("op", attempt),
    StepSkipped: lambda attempt: StepSkipped("op", "because"),
    StepInvalidated: lambda attempt: StepInvalidated(node="op", reason="asked for"),
}


@pytest.mark.parametrize("kind", STEP_EVENTS)
@pytest.mark.parametrize("status", LEADS_TO, ids=STATUS_NAMES)
def test_each_transition_is_legal_or_damage(status: int, kind: type[Event]) -> None:
    """In each status each event leads where the table says, or means that the log is damaged."""
    fold = Fold(BOTH)
    fold(LEADS_TO[status])
    assert fold.status("op") == status
    if (status, kind) == (RUNNING, StepSucceeded):
        fold(SEAL)
    event = STEP_EVENTS[kind](1 if status in (RUNNING, SUCCEEDED, FAILED, WAITING) else 0)
    if kind in LEGAL[status]:
        fold(event)
        assert fold.status("op") == LEGAL[status][kind]
        return
    with pytest.raises(
        LogDamaged, match=rf"run 'r', seq {fold.state.seq + 1}: .*{STATUS_NAMES[status]}"
    ):
        fold(event)


def test_the_table_of_transitions_is_the_one_of_the_design() -> None:
    """The table in the code is the one above, so that nobody changes one of them alone."""
    assert STEP_TRANSITIONS == LEGAL


def test_clones_come_into_being_with_the_success_of_their_producer() -> None:
    """X2: a sealed key is no step before the same attempt has succeeded."""
    fold = Fold()
    fold(start("fan_out"), pieces("ab"))
    assert fold.state.expansion(KEYS) is None
    assert list(fold.state.sealed_steps(CHAIN.by_name["echo"])) == []
    fold(StepSucceeded("fan_out", 0.1))
    assert list(fold.state.sealed_steps(CHAIN.by_name["echo"])) == [
        StepId("echo", ("a",)),
        StepId("echo", ("b",)),
    ]
    fold(start("echo[a]"))


def test_a_clone_cannot_start_between_seal_and_success() -> None:
    """X2: an event of a clone whose keys do not count yet is damage."""
    fold = Fold()
    fold(start("fan_out"), pieces("ab"))
    with pytest.raises(LogDamaged, match=r"echo\[a\].*not sealed"):
        fold(start("echo[a]"))


def test_a_crash_between_seal_and_success_forgets_the_keys() -> None:
    """X2, F4: the keys of an attempt that was cut off after its seal count for nothing."""
    fold = Fold()
    fold(start("fan_out"), pieces("abc"), run_resumed())
    assert fold.state.expansion(KEYS) is None
    assert fold.status("fan_out") == PENDING
    fold(fan_out("xa", attempt=2))
    expansion = fold.state.expansion(KEYS)
    assert expansion is not None
    assert list(expansion.ordered_keys()) == ["x", "a"]
    assert fold.state.piece_seq(KEYS, (), "b") == 0
    assert fold.state.piece_seq(KEYS, (), "a") == fold.state.seq - 2


def test_only_the_successful_attempt_counts() -> None:
    """F4: what failed attempts stored, plain or dynamic, is not an output."""
    fold = Fold(BOTH)
    fold(
        start("op"),
        OutputStored("op", "result", reference()),
        DynamicOutputStored("op", "parts", "a", reference()),
    )
    assert fold.state.output_seq(StepId("op", ()), "result") == 0
    fold(
        fail("op"),
        RunFailed({}),
        run_resumed(),
        start("op", 2),
        SEAL_2 := msgspec.structs.replace(SEAL, attempt=2),
    )
    fold(StepSucceeded("op", 0.1, 2))
    assert SEAL_2.count == 0
    assert fold.status("op") == SUCCEEDED
    assert fold.state.output_seq(StepId("op", ()), "result") == 0


def test_what_a_resume_changes() -> None:
    """A new epoch makes what was running or had failed pending again, says why, and keeps what was done."""
    fold = Fold()
    fold(fan_out("abcd"), plain("echo[a]"), start("echo[b]"), fail("echo[b]"), start("echo[c]"))
    state = fold(run_resumed(config={"ops": {}}, base="s3://bucket/r", job="mod:job"))
    why = {
        step.key_path[0]: state.find(step)[0].why[state.find(step)[1]]
        for step in _clones(state, "echo")
    }  # type: ignore[index]
    assert [fold.status("echo", key) for key in "abcd"] == [SUCCEEDED, PENDING, PENDING, PENDING]
    assert why == {"a": NEVER_STARTED, "b": FAILED_BEFORE, "c": INTERRUPTED, "d": NEVER_STARTED}
    assert (state.epoch, state.running, state.failures, state.ended) == (2, {}, {}, None)
    assert (state.config, state.bases, state.job) == (
        {"ops": {}},
        ["outputs/r", "s3://bucket/r"],
        "mod:job",
    )
    state = fold(run_resumed())
    assert (state.config, state.bases, state.job) == (
        {"ops": {}},
        ["outputs/r", "s3://bucket/r"],
        "mod:job",
    )


def _clones(state: RunState, node: str) -> list[StepId]:
    return list(state.sealed_steps(state.graph.by_name[node]))


def test_attempts_count_over_epochs() -> None:
    """The attempts of a step go on counting when the run is resumed, and a wrong number is damage."""
    fold = Fold()
    fold(start("fan_out", 1), run_resumed(), start("fan_out", 2), run_resumed())
    with pytest.raises(LogDamaged, match="starts attempt 2 after attempt 2"):
        fold(start("fan_out", 2))


def test_deaths_in_a_row() -> None:
    """R2: how many epochs in a row died while a step ran; an epoch that ended, or a success, ends the row."""
    fold, step = Fold(), StepId("fan_out", ())
    fold(start("fan_out", 1), run_resumed(), start("fan_out", 2), run_resumed())
    assert fold.state.deaths == {step: 2}
    fold(start("fan_out", 3), RunCancelled({}, "asked"), run_resumed())
    assert fold.state.deaths == {}
    fold(start("fan_out", 4), run_resumed(), fan_out("a", 5))
    assert fold.state.deaths == {}
    fold(start("echo[a]"), run_resumed(), run_resumed())
    assert fold.state.deaths == {}


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("output lost", OUTPUT_LOST),
        ("code changed", INVALIDATED),
        ("graph changed", INVALIDATED),
        ("asked for", INVALIDATED),
        ("input lost", INTERRUPTED),
    ],
)
def test_invalidated_work_does_not_count(reason: InvalidationReason, why: int) -> None:
    """An invalidated step is pending with its reason, its outputs are gone, its neighbours are untouched."""
    fold = Fold()
    fold(fan_out("ab"), plain("echo[a]"), plain("echo[b]"))
    columns, slot = fold.state.find(StepId("echo", ("a",)))  # type: ignore[misc]
    assert columns.settled == 2
    state = fold(StepInvalidated(node="echo", steps=("echo[a]",), reason=reason))
    assert (columns.status[slot], columns.why[slot], columns.settled) == (PENDING, why, 1)
    assert state.output_seq(StepId("echo", ("a",)), "result") == 0
    assert state.output_seq(StepId("echo", ("b",)), "result") > 0
    fold(plain("echo[a]", attempt=2))
    assert columns.settled == 2
    assert state.output_seq(StepId("echo", ("a",)), "result") == state.seq - 1


def test_all_steps_of_a_node_are_invalidated_at_once() -> None:
    """Without steps an invalidation means all of the node's, the skipped and failed too, but none never started."""
    fold = Fold()
    fold(
        fan_out("abcd"),
        plain("echo[a]"),
        StepSkipped("echo[b]", "x"),
        start("echo[c]"),
        fail("echo[c]"),
    )
    columns = fold.state.steps(CHAIN.by_name["echo"], ())
    fold(StepInvalidated(node="echo", reason="code changed"))
    assert columns.settled == 0
    assert list(columns.status) == [PENDING] * 4
    assert columns.why[0] == columns.why[2] == INVALIDATED
    assert columns.why[3] == NEVER_STARTED
    assert fold.state.failures == {}
    assert "echo" not in fold.state.codes


def test_only_lost_outputs_take_new_references() -> None:
    """R6: a step that runs again for lost bytes renews the lost pieces and keeps the seqs of the others."""
    fold = Fold()
    fold(fan_out("abc"))
    before = {key: fold.state.piece_seq(KEYS, (), key) for key in "abc"}
    fold(
        StepInvalidated(
            node="fan_out", steps=("fan_out",), reason="output lost", lost=("result[b]",)
        )
    )
    fold(fan_out("abc", attempt=2))
    after = {key: fold.state.piece_seq(KEYS, (), key) for key in "abc"}
    assert {key for key in "abc" if before[key] != after[key]} == {"b"}
    assert after["b"] > before["c"]
    assert fold.state.lost == {}


def test_lost_outputs_are_remembered_over_a_crash() -> None:
    """R6, R8: what was lost stays known until the step has succeeded, however often it is cut off."""
    fold = Fold()
    fold(fan_out("abc"))
    seq = fold.state.piece_seq(KEYS, (), "a")
    fold(
        StepInvalidated(
            node="fan_out", steps=("fan_out",), reason="output lost", lost=("result[b]",)
        )
    )
    fold(start("fan_out", 2), run_resumed(), fan_out("abc", 3))
    assert fold.state.piece_seq(KEYS, (), "a") == seq


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6), min_size=1, max_size=5)
)
def test_the_last_seal_holds(seals: list[list[str]]) -> None:
    """R5: a new seal's keys, in its order, are the steps; finished clones keep their results, others are orphans."""
    fold, done, known = Fold(), {}, []
    for attempt, keys in enumerate(seals, 1):
        if attempt > 1:
            fold(StepInvalidated(node="fan_out", reason="code changed"))
        fold(fan_out(keys, attempt))
        known += [key for key in keys if key not in known]
        expansion = fold.state.expansion(KEYS)
        assert expansion is not None
        assert list(expansion.ordered_keys()) == keys
        assert [expansion.key_at(place) for place in range(len(expansion))] == keys
        assert [expansion.position(expansion.keys[key]) for key in keys] == list(range(len(keys)))
        for key in keys:
            if key not in done:
                fold(plain(f"echo[{key}]"))
                done[key] = fold.state.seq - 1
                break
        echo = CHAIN.by_name["echo"]
        assert [step.key_path[0] for step in fold.state.sealed_steps(echo)] == keys
        assert {step.key_path[0] for step in fold.state.orphans(echo)} == set(known) - set(keys)
        assert fold.state.steps(echo, ()).settled == len(set(keys) & set(done))
        assert {
            key: fold.state.output_seq(StepId("echo", (key,)), "result") for key in done
        } == done


def test_a_step_that_waits_goes_on_waiting_after_a_crash() -> None:
    """F3: its due time holds over a crash, attempts go on counting, and the resume gives it its full budget again."""
    fold, echo = Fold(), StepId("echo", ("a",))
    fold(fan_out("ab"), start("echo[a]"), retried("echo[a]"))
    assert fold.state.waiting == {echo: T0}
    assert fold.state.retries == {echo: 1}
    fold(run_resumed())
    assert fold.status("echo", "a") == WAITING
    assert fold.state.waiting == {echo: T0}
    assert fold.state.retries == {}
    fold(start("echo[a]", 2), retried("echo[a]", 2))
    assert fold.state.retries == {echo: 1}
    fold(plain("echo[a]", 3))
    assert (fold.state.waiting, fold.state.retries) == ({}, {})


def test_lost_workers_use_up_no_retries() -> None:
    """An attempt whose worker was lost is counted for itself; an end of the step, or of the epoch, forgets it."""
    fold, echo = Fold(), StepId("echo", ("a",))
    lost = structs.replace(retried("echo[a]"), worker_lost=True)
    fold(fan_out("ab"), start("echo[a]"), lost)
    assert fold.state.waiting == {echo: T0}
    assert (fold.state.retries, fold.state.losses) == ({}, {echo: 1})
    fold(start("echo[a]", 2), structs.replace(lost, attempt=2))
    assert fold.state.losses == {echo: 2}
    fold(plain("echo[a]", 3), start("echo[b]"), structs.replace(lost, step="echo[b]"))
    assert fold.state.losses == {StepId("echo", ("b",)): 1}
    fold(run_resumed())
    assert fold.state.losses == {}


@pytest.mark.parametrize("ended", [RunCancelled({}, "enough"), RunFailed({})])
def test_a_run_that_is_over_waits_for_nothing(ended: AnyEvent) -> None:
    """F3: after a cancellation, or a failure with --fail-fast, a step that waited is pending, as one that failed."""
    fold = Fold()
    fold(fan_out("ab"), start("echo[a]"), retried("echo[a]"), ended)
    columns = fold.state.steps(CHAIN.by_name["echo"], ())
    assert (columns.status[0], columns.why[0]) == (PENDING, FAILED_BEFORE)
    assert fold.state.waiting == {}
    fold(run_resumed(), plain("echo[a]", 2))
    assert fold.status("echo", "a") == SUCCEEDED


def test_an_invalidated_step_waits_no_longer() -> None:
    """Changed code ends the wait and the budget; lost inputs of a running step leave it its used-up budget."""
    fold, echo = Fold(), StepId("echo", ("a",))
    fold(fan_out("ab"), start("echo[a]"), retried("echo[a]"))
    fold(StepInvalidated(node="echo", reason="code changed"))
    assert fold.status("echo", "a") == PENDING
    assert (fold.state.waiting, fold.state.retries) == ({}, {})
    fold(start("echo[a]", 2), retried("echo[a]", 2), start("echo[a]", 3))
    fold(StepInvalidated(node="echo", steps=("echo[a]",), reason="input lost"))
    assert fold.state.retries == {echo: 1}


def test_a_retried_attempt_counts_for_nothing() -> None:
    """F4: keys and values of an attempt that was tried again are gone; those of the successful one alone are there."""
    fold = Fold()
    fold(start("fan_out"), pieces("abc"), retried("fan_out"))
    assert fold.state.expansion(KEYS) is None
    fold(fan_out("bd", 2))
    assert [step.key_path for step in fold.state.sealed_steps(CHAIN.by_name["echo"])] == [
        ("b",),
        ("d",),
    ]
    fold(start("echo[b]"), OutputStored("echo[b]", "result", reference()), retried("echo[b]"))
    assert fold.state.output_seq(StepId("echo", ("b",)), "result") == 0


def test_a_step_may_be_tried_very_often() -> None:
    """F3: an op that polls each second is at its attempt 65,536 before a day is over."""
    fold = Fold()
    fold.state.steps(CHAIN.by_name["fan_out"], ()).attempts[0] = 65_535
    fold(start("fan_out", 65_536), retried("fan_out", 65_536), fan_out("a", 65_537))
    assert fold.status("fan_out") == SUCCEEDED


def test_a_step_that_waits_and_is_no_longer_in_the_graph_is_forgotten() -> None:
    """A resume with another graph: what waited in a node that is gone waits no longer."""
    fold = Fold()
    fold(fan_out("ab"), start("echo[a]"), retried("echo[a]"))
    fold(run_resumed(graph=Graph("less", CHAIN.nodes[:1])))
    assert fold.state.waiting == {}


BAD: dict[str, tuple[list[AnyEvent], AnyEvent, str]] = {
    "a second RunStarted": ([], run_started(), "second RunStarted"),
    "after the end": ([RunSucceeded({})], start("fan_out"), "after the end"),
    "a second end": ([RunSucceeded({})], RunFailed({}), "after the end"),
    "an unknown node": ([], start("nobody"), "not in the graph"),
    "a key of a plain node": ([], start("total[a]"), "not in the graph"),
    "no key of a mapped node": (fan_out("a"), start("echo"), "not in the graph"),
    "an unknown key": (fan_out("a"), start("echo[b]"), "not in the graph or not sealed"),
    "two keys of one level": (fan_out("a"), start("echo[a][a]"), "not in the graph"),
    "a step key that is none": ([], start("echo[a"), "not in the graph|is not a step key"),
    "an empty step key": ([], StepSkipped("", "x"), "not in the graph|is not a step key"),
    "an unknown output": (
        [start("fan_out")],
        OutputStored("fan_out", "shape", reference()),
        "'shape'",
    ),
    "a plain value of a dynamic output": (
        [start("fan_out")],
        OutputStored("fan_out", "result", reference()),
        "'result'",
    ),
    "a key of a plain output": (
        [*fan_out("a"), start("echo[a]")],
        DynamicOutputStored("echo[a]", "result", "k", reference()),
        "'k'",
    ),
    "a key twice": (
        [start("fan_out"), *pieces("ab")[:2]],
        DynamicOutputStored("fan_out", "result", "a", reference()),
        "'a'",
    ),
    "a key after the seal": (
        [start("fan_out"), *pieces("a")],
        DynamicOutputStored("fan_out", "result", "b", reference()),
        "'b'",
    ),
    "a second seal": ([start("fan_out"), *pieces("")], pieces("")[0], "not open"),
    "a seal of other keys": (
        [start("fan_out"), *pieces("ab")[:2]],
        pieces("ac")[-1],
        "seals 2 keys",
    ),
    "a seal in another order": (
        [start("fan_out"), *pieces("ab")[:2]],
        pieces("ba")[-1],
        "seals 2 keys",
    ),
    "a seal of fewer keys": (
        [start("fan_out"), *pieces("ab")[:2]],
        pieces("a")[-1],
        "seals 1 keys",
    ),
    "success without seal": (
        [start("fan_out"), *pieces("ab")[:2]],
        StepSucceeded("fan_out", 0.1),
        "unsealed",
    ),
    "an output of another attempt": (
        [start("fan_out")],
        DynamicOutputStored("fan_out", "result", "a", reference(), 2),
        "attempt 2",
    ),
    "success of another attempt": (
        [start("fan_out"), *pieces("")],
        StepSucceeded("fan_out", 0.1, 2),
        "attempt 2",
    ),
    "failure of another attempt": ([start("fan_out")], fail("fan_out", 7), "attempt 7"),
    "a first attempt that is the second": ([], start("fan_out", 2), "attempt 2 after attempt 0"),
    "a collect of nobody": (
        [],
        CollectResolved("nobody", "xs", "a.b", "c.d", 0, 0, 0, "x"),
        "not in the graph",
    ),
    "a collect of no step key": (
        [],
        CollectResolved("a[", "xs", "a.b", "c.d", 0, 0, 0, "x"),
        "a\\[",
    ),
    "an invalidated node of another graph": (
        [],
        StepInvalidated(node="nobody", reason="asked for"),
        "not in the graph",
    ),
    "an invalidated step of another graph": (
        [],
        StepInvalidated(node="echo", steps=("echo[z]",), reason="asked for"),
        "not in the graph",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_follow_is_damage(case: str) -> None:
    """An event that cannot follow what came before is refused, naming run, seq and fact, and what to do."""
    before, event, fact = BAD[case]
    fold = Fold()
    fold(before)
    with pytest.raises(
        LogDamaged, match=rf"run 'r', seq {fold.state.seq + 1}: .*({fact}).*nothing was written"
    ):
        fold(event)


def test_the_envelope_is_checked() -> None:
    """A gap in seq, an epoch that is not the current one, or a time that goes back is damage."""
    for seq, changes in (
        (3, {}),
        (1, {}),
        (2, {"epoch": 2}),
        (2, {"epoch": 0}),
        (2, {"time": T0 - dt.timedelta(microseconds=1)}),
    ):
        fold = Fold()
        event = msgspec.structs.replace(fold.stamped(start("fan_out")), **changes)
        with pytest.raises(LogDamaged, match=rf"run 'r', seq {seq}: "):
            fold.state.apply(seq, event)
    with pytest.raises(LogDamaged, match="a log begins with RunStarted"):
        RunState("r").apply(1, msgspec.structs.replace(start("fan_out"), epoch=0, time=T0))
    fold = Fold()
    with pytest.raises(LogDamaged, match="has epoch 3, expected 2"):
        fold.state.apply(2, msgspec.structs.replace(run_resumed(), epoch=3, time=T0))


def test_settled_steps_are_told() -> None:
    """`apply` returns the step that an event settled, and nothing for any other event."""
    fold = Fold()
    told = [
        fold.state.apply(fold.state.seq + 1, fold.stamped(event))
        for event in [*fan_out("ab"), *plain("echo[a]")]
    ]
    assert [step for step in told if step is not None] == [
        StepId("fan_out", ()),
        StepId("echo", ("a",)),
    ]
    skipped = fold.stamped(StepSkipped("echo[b]", "x"))
    assert fold.state.apply(fold.state.seq + 1, skipped) == StepId("echo", ("b",))


def test_a_resume_may_bring_another_graph() -> None:
    """R5: with a new graph what has succeeded stays, what is gone is forgotten, what is new is pending."""
    fold = Fold()
    fold(fan_out("ab"), plain("echo[a]"), plain("shout[a]"), start("echo[b]"))
    new = Graph(
        "chain", (*CHAIN.nodes[:2], msgspec.structs.replace(CHAIN.nodes[2], name="whisper"))
    )
    fold(run_resumed(graph=new))
    assert [fold.status("echo", key) for key in "ab"] == [SUCCEEDED, PENDING]
    assert fold.status("whisper", "a") == PENDING
    assert fold.state.find(StepId("shout", ("a",))) is None
    fold(plain("whisper[a]"))
    assert fold.status("whisper", "a") == SUCCEEDED


def test_memory_per_clone() -> None:
    """The fold holds at most 400 bytes for a clone of two mapped ops and its key."""
    count = 20_000
    keys = [f"key-{number:05}" for number in range(count)]
    fold = Fold()
    tracemalloc.start()
    try:
        fold(start("fan_out"))
        for event in pieces(keys):
            fold(event)
        fold(StepSucceeded("fan_out", 0.1))
        for key in keys:
            fold(plain(f"echo[{key}]"), plain(f"shout[{key}]"))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert fold.state.steps(CHAIN.by_name["shout"], ()).settled == count
    assert held / count < 400


def test_the_same_events_give_the_same_state() -> None:
    """Nothing but the events decides: two folds of one log agree on every fact."""
    events: list[Any] = [
        fan_out("abc"),
        plain("echo[b]"),
        start("echo[a]"),
        run_resumed(),
        plain("echo[a]", 2),
    ]
    one, other = Fold(), Fold()
    one(*events)
    other(*events)
    for node in CHAIN.nodes:
        first, second = one.state.steps(node, ()), other.state.steps(node, ())
        for column in ("status", "why", "attempts", "outputs", "settled"):
            assert getattr(first, column) == getattr(second, column)


def test_the_bases_of_a_parent_come_first() -> None:
    """So that a reference means the same in a rerun; the run's own base is the newest until it is moved."""
    parent = Parent(run="p", seq=9, select=("echo",), bases=("outputs/a", "s3://b/p"))
    fold = Fold(parent=parent, base="outputs/r")
    assert fold.state.bases == ["outputs/a", "s3://b/p", "outputs/r"]
    fold(run_resumed(base="s3://c/r"))
    assert fold.state.bases == ["outputs/a", "s3://b/p", "outputs/r", "s3://c/r"]


def test_a_reused_step_counts_as_one_that_ran() -> None:
    """Its outputs, keys and code, by the events that follow; cut before its success it is pending."""
    fold = Fold(parent=Parent(run="p", seq=9, select=("echo",)))
    fold(StepReused("fan_out", 5, "old"), pieces("ab"))
    assert fold.status("fan_out") == RUNNING
    fold(StepSucceeded("fan_out", 0.0), StepReused("echo[a]", 8, "old"), run_resumed())
    assert [fold.status("echo", key) for key in "ab"] == [PENDING, PENDING]
    fold(StepReused("echo[a]", 8, "older", 2), OutputStored("echo[a]", "result", reference(), 2))
    state = fold(StepSucceeded("echo[a]", 0.0, 2))
    assert state.output_seq(StepId("echo", ("a",)), "result") == state.seq - 1
    assert state.codes == {"fan_out": {"old"}, "echo": {"older"}}


def test_what_a_run_takes_is_sealed_once() -> None:
    """Only a run with a parent takes, and once."""
    fold = Fold(parent=Parent(run="p", seq=9))
    assert fold.state.is_taking
    assert not fold(ReuseSealed(0, 0)).is_taking
    for other in (fold, Fold()):
        with pytest.raises(LogDamaged, match="ends what the run took from its parent"):
            other(ReuseSealed(0, 0))


_moves = st.lists(
    st.tuples(
        st.sampled_from(["start", "succeed", "fail", "invalidate", "invalidate all", "resume"]),
        st.sampled_from("ab"),
        st.sampled_from(["old", "new"]),
    ),
    max_size=20,
)


@given(_moves)
def test_the_codes_of_a_node_are_those_of_its_finished_attempts(
    moves: list[tuple[str, str, str]],
) -> None:
    """However attempts begin and end; an attempt without success adds none, and what is invalidated whole has none."""
    fold = Fold()
    fold(fan_out("ab"))
    running: dict[str, str] = {}
    finished: set[str] = set()
    for move, key, code in moves:
        step, status = f"echo[{key}]", fold.status("echo", key)
        attempt = fold.state.steps(CHAIN.by_name["echo"], ()).attempts["ab".index(key)]
        if move == "start" and status == PENDING:
            fold(start(step, attempt + 1, code))
            running[key] = code
        elif move == "succeed" and status == RUNNING:
            fold(StepSucceeded(step, 0.1, attempt))
            finished.add(running.pop(key))
        elif move == "fail" and status == RUNNING:
            fold(fail(step, attempt))
            del running[key]
        elif move == "invalidate":
            fold(StepInvalidated(node="echo", steps=(step,), reason="asked for"))
            running.pop(key, None)
        elif move == "invalidate all":
            fold(StepInvalidated(node="echo", reason="code changed"))
            running.clear()
            finished.clear()
        elif move == "resume":
            fold(run_resumed())
            running.clear()
        assert fold.state.codes.get("echo", set()) == finished
