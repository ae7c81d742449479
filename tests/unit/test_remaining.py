"""What is done, failed, skipped, blocked and left of a run: derived from its state alone."""

import msgspec

from runstore.log.events import RunFailed, StepInvalidated, StepSkipped
from runstore.log.expanded import StepId
from runstore.log.graph import Graph
from runstore.log.remaining import NodeProgress, Remaining
from tests.unit.logs import CHAIN, Fold, fail, fan_out, plain, run_resumed, start


def progress(fold: Fold, graph: Graph = CHAIN) -> dict[str, NodeProgress]:
    """Progress by node."""
    return {one.node: one for one in Remaining(fold.state).nodes()}


def states(fold: Fold) -> dict[str, dict[str, int]]:
    """State -> number of steps, by node."""
    return {node: one.states for node, one in progress(fold).items()}


def test_a_run_that_has_just_begun() -> None:
    """Before the keys are sealed a mapped node has no number of steps; the others wait."""
    found = progress(Fold())
    assert found["fan_out"] == NodeProgress(
        "fan_out", False, 1, {"pending": 1}, {"never started": 1}
    )
    assert found["echo"] == NodeProgress("echo", True, None, {}, {}, unsealed=1)
    assert found["total"].states == {"pending": 1}


def test_steps_that_were_never_started_are_left() -> None:
    """R2: what is left is the sealed keys without those that succeeded, not what has events."""
    fold = Fold()
    fold(fan_out("abc"), plain("echo[a]"), start("echo[b]"), run_resumed())
    found = progress(fold)
    assert found["echo"] == NodeProgress(
        "echo", True, 3, {"succeeded": 1, "pending": 2}, {"interrupted": 1, "never started": 1}
    )
    assert found["echo"].done == 1
    assert found["shout"].states == {"pending": 3}


def test_no_keys_is_no_steps() -> None:
    """X3: a dynamic output that was sealed empty has no clones, and nothing is left of them."""
    fold = Fold()
    fold(fan_out(""))
    assert progress(fold)["echo"] == NodeProgress("echo", True, 0, {}, {})


def test_clones_of_what_was_skipped_do_not_exist() -> None:
    """X3: where the producer of the keys was skipped, there are no clones to wait for."""
    fold = Fold()
    fold(StepSkipped("fan_out", "because"))
    assert progress(fold)["echo"].sealed == 0


def test_blocked_is_derived() -> None:
    """F2: a failed clone blocks its own chain and every collect over it, and nothing else; no event says so."""
    fold = Fold()
    fold(fan_out("abc"), start("echo[b]"), fail("echo[b]"), plain("echo[a]"))
    assert states(fold) == {
        "fan_out": {"succeeded": 1},
        "echo": {"succeeded": 1, "failed": 1, "pending": 1},
        "shout": {"blocked": 1, "pending": 2},
        "total": {"blocked": 1},
    }
    remaining = Remaining(fold.state)
    assert remaining.state_of(StepId("shout", ("b",))) == "blocked"
    assert remaining.state_of(StepId("shout", ("a",))) == "pending"
    shout = CHAIN.by_name["shout"]
    assert [state for _, state in remaining.steps(shout)] == ["pending", "blocked", "pending"]


def test_a_failed_producer_blocks_all_downstream() -> None:
    """F2: without keys there are no clones to count, but what collects them is blocked."""
    fold = Fold()
    fold(start("fan_out"), fail("fan_out"))
    found = progress(fold)
    assert found["fan_out"].states == {"failed": 1}
    assert found["echo"].sealed is None
    assert found["total"].states == {"blocked": 1}


def test_a_resume_frees_what_was_blocked() -> None:
    """R2: in the new epoch failed steps and what waited for them are pending, with their reasons."""
    fold = Fold()
    fold(
        fan_out("ab"),
        start("echo[b]"),
        fail("echo[b]"),
        plain("echo[a]"),
        RunFailed({}),
        run_resumed(),
    )
    found = progress(fold)
    assert found["echo"].pending == {"failed": 1}
    assert found["shout"].pending == {"never started": 2}
    assert found["total"].states == {"pending": 1}


def test_skipped_steps_are_done() -> None:
    """F1: a skipped step is settled like one that succeeded."""
    fold = Fold()
    fold(fan_out("ab"), StepSkipped("echo[a]", "x"), plain("echo[b]"))
    assert progress(fold)["echo"].done == 2
    assert Remaining(fold.state).counts()["echo"] == {"skipped": 1, "succeeded": 1}


def test_lost_and_invalidated_steps_say_why() -> None:
    """R6: while a producer runs again for lost bytes its clones stay counted; other reasons reopen the keys."""
    fold = Fold()
    fold(fan_out("ab"), plain("echo[a]"))
    fold(
        StepInvalidated(
            node="fan_out", steps=("fan_out",), reason="output lost", lost=("result[b]",)
        )
    )
    found = progress(fold)
    assert found["fan_out"].pending == {"lost": 1}
    assert found["echo"].states == {"succeeded": 1, "pending": 1}
    fold(StepInvalidated(node="echo", steps=("echo[a]",), reason="asked for"))
    assert progress(fold)["echo"].pending == {"invalidated": 1, "never started": 1}
    fold(StepInvalidated(node="fan_out", reason="code changed"))
    assert progress(fold)["echo"].sealed is None


def test_clones_stay_counted_when_making_lost_bytes_again_is_cut_off() -> None:
    """R6, R8: a crash while a producer runs again for lost bytes does not make its finished clones disappear."""
    fold = Fold()
    fold(fan_out("ab"), plain("echo[a]"))
    fold(
        StepInvalidated(
            node="fan_out", steps=("fan_out",), reason="output lost", lost=("result[b]",)
        )
    )
    fold(start("fan_out", 2))
    assert progress(fold)["echo"].states == {"succeeded": 1, "pending": 1}
    fold(run_resumed())
    assert progress(fold)["echo"].states == {"succeeded": 1, "pending": 1}
    assert progress(fold)["fan_out"].pending == {"interrupted": 1}


def test_orphans_are_shown_and_not_counted() -> None:
    """R5: clones whose keys are no longer sealed are told apart."""
    fold = Fold()
    fold(
        fan_out("abc"),
        plain("echo[a]"),
        plain("echo[b]"),
        StepInvalidated(node="fan_out", reason="code changed"),
    )
    fold(fan_out("cb", 2))
    assert progress(fold)["echo"] == NodeProgress(
        "echo", True, 2, {"succeeded": 1, "pending": 1}, {"never started": 1}, orphans=1
    )


def test_a_finished_run_has_nothing_left() -> None:
    """Counts are what the last event of a run carries: no zeros, nothing pending."""
    fold = Fold()
    fold(
        fan_out("ab"),
        *(plain(f"{node}[{key}]") for key in "ab" for node in ("echo", "shout")),
        plain("total"),
    )
    counts = Remaining(fold.state).counts()
    assert counts == {
        "fan_out": {"succeeded": 1},
        "echo": {"succeeded": 2},
        "shout": {"succeeded": 2},
        "total": {"succeeded": 1},
    }
    assert msgspec.json.decode(msgspec.json.encode(counts)) == counts
