"""Epochs of housekeeping in the log: where they may stand, and that they leave the run as it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.errors import LogDamaged
from runstore.log.events import (
    DELETED_TOGETHER,
    AnyEvent,
    BaseMoved,
    HousekeepingBegun,
    OutputDeleted,
    Parent,
    Purpose,
    RunCancelled,
    RunFailed,
    RunOutcome,
    RunSucceeded,
)
from runstore.log.expanded import StepId
from runstore.log.state import RunState
from tests.unit.logs import CHAIN, Fold, fail, fan_out, plain, retried, run_resumed, start

ENDS: dict[RunOutcome, list[AnyEvent]] = {
    "succeeded": [RunSucceeded({})],
    "failed": [RunFailed({})],
    "cancelled": [RunCancelled({}, "asked")],
    "unfinished": [],
}
every_end = pytest.mark.parametrize("status", ENDS)


def begun(purpose: Purpose = "prune", status: RunOutcome = "unfinished") -> HousekeepingBegun:
    """An epoch of housekeeping begins."""
    return HousekeepingBegun(
        host="h", pid=2, version="0", purpose=purpose, run_status=status, log_digest=""
    )


def deleted(*seqs: int, status: RunOutcome = "unfinished") -> OutputDeleted:
    """Some outputs are deleted."""
    return OutputDeleted(seqs=seqs, reason="orphan", run_status=status)


def moved(index: int = 0, base: str = "s3://b/r", status: RunOutcome = "unfinished") -> BaseMoved:
    """A base is somewhere else."""
    return BaseMoved(index=index, base=base, run_status=status)


@every_end
def test_housekeeping_may_follow_the_end_of_a_run(status: RunOutcome) -> None:
    """Whatever has become of a run, its storage can be seen to, as often as wanted, and its status stays."""
    fold = Fold()
    fold(fan_out("ab"), ENDS[status])
    ended = fold.state.ended
    for purpose, event in (
        ("prune", deleted(3, 4, status=status)),
        ("move", moved(status=status)),
    ):
        fold(begun(purpose, status), event)  # type: ignore[arg-type]
        assert fold.state.run_status == status
        assert fold.state.ended is ended
    assert fold.state.epoch == 3
    assert fold.state.bases == ["s3://b/r"]
    assert fold.state.piece_seq(CHAIN.nodes[1].scope[0], (), "a") == 3
    fold(run_resumed())
    assert (fold.state.purpose, fold.state.run_status) == (None, "unfinished")


def facts(state: RunState) -> Any:
    """What a run has become, but for how many events and epochs it took."""
    steps = [StepId("fan_out", ()), StepId("total", ())]
    steps += [StepId(node, (key,)) for node in ("echo", "shout") for key in "abc"]
    return (
        [
            (state.status(step), state.find(step) and state.find(step)[0].why[state.find(step)[1]])  # type: ignore[index]
            for step in steps
        ],
        state.deaths,
        set(state.failures),
        set(state.running),
        set(state.waiting),
        state.retries,
        state.run_status,
        state.purpose,
    )


@given(
    st.lists(
        st.sampled_from(["run", "start", "fail", "retry", "end", "cancel", "resume"]), max_size=8
    ),
    st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_a_resume_after_housekeeping_is_as_if_that_had_not_been(
    acts: list[str], tidied: list[bool]
) -> None:
    """Wherever a run stops, an epoch of housekeeping before its next resume changes no fact, deaths among them."""
    plainly, kept = Fold(), Fold()
    attempts = dict.fromkeys("abc", 0)
    for fold in (plainly, kept):
        fold(fan_out("abc"))
    for act, tidy in zip([*acts, "resume"], tidied, strict=False):
        events = _act(act, plainly, attempts)
        if act == "resume" and tidy:
            status = kept.state.run_status
            before = facts(kept.state)[:-1]
            kept(begun("prune", status), deleted(3, status=status))
            assert facts(kept.state)[:-1] == before
        plainly(events)
        kept(events)
        if kept.state.purpose is None:
            assert facts(plainly.state) == facts(kept.state)


def _act(act: str, fold: Fold, attempts: dict[str, int]) -> list[AnyEvent]:
    """Events that may come next, for the first clone that can have them."""
    if act == "resume":
        return [run_resumed()]
    if fold.state.ended is not None:
        return []
    if act == "end":
        return [RunFailed({})] if fold.state.failures else []
    if act == "cancel":
        return [RunCancelled({}, "asked")]
    for key in "abc":
        if fold.status("echo", key) in (0, 5):
            attempts[key] += 1
            step, attempt = f"echo[{key}]", attempts[key]
            ends = {"fail": [fail(step, attempt)], "retry": [retried(step, attempt)], "start": []}
            return plain(step, attempt) if act == "run" else [start(step, attempt), *ends[act]]
    return []


BAD: dict[str, tuple[list[AnyEvent], AnyEvent, str]] = {
    "a step in it": ([begun()], start("fan_out"), "in which no step runs"),
    "an end in it": ([begun()], RunFailed({}), "in which no step runs"),
    "a deletion outside": ([], deleted(3), "outside an epoch of prune"),
    "a deletion after the end": ([RunSucceeded({})], deleted(3), "after the end"),
    "a deletion in a move": ([begun("move")], deleted(3), "outside an epoch of prune"),
    "a move in a prune": ([begun()], moved(), "outside an epoch of move"),
    "a deletion of no output": ([begun()], deleted(2), "no event before it has stored"),
    "a deletion of what is to come": ([begun()], deleted(99), "no event before it has stored"),
    "a deletion of nothing": ([begun()], deleted(), "no event before it has stored"),
    "a deletion twice": ([begun()], deleted(3, 3), "no event before it has stored"),
    "a deletion out of order": ([begun()], deleted(4, 3), "no event before it has stored"),
    "a deletion of very many": (
        [begun()],
        deleted(*range(3, DELETED_TOGETHER + 4)),
        "no event before it has stored",
    ),
    "a move of a base that is not there": ([begun("move")], moved(1), "none of this run's own"),
    "a move of a base before the first": ([begun("move")], moved(-1), "none of this run's own"),
    "another status": ([RunFailed({})], begun("prune", "succeeded"), "calls the run succeeded"),
    "a status of a run without end": ([begun()], deleted(3, status="failed"), "calls the run"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_housekeeping_cannot_do_is_damage(case: str) -> None:
    """An event that housekeeping cannot have written is refused, naming run, seq and fact."""
    before, event, fact = BAD[case]
    fold = Fold()
    fold(fan_out("ab"), before)
    with pytest.raises(LogDamaged, match=rf"run 'r', seq {fold.state.seq + 1}: .*{fact}"):
        fold(event)


def test_the_bases_of_a_parent_do_not_move() -> None:
    """A rerun's log moves its own bases alone; what it took lies where the parent put it."""
    fold = Fold(parent=Parent(run="p", seq=9, bases=("outputs/p",)), base="outputs/r")
    fold(begun("move"), moved(1))
    assert fold.state.bases == ["outputs/p", "s3://b/r"]
    with pytest.raises(LogDamaged, match="moves base 0"):
        fold(moved(0))
