"""What a collect gives, asked of the state: when it is settled, and that it never runs on less than was sealed."""

import pytest

from execution.errors import ExpansionIncomplete
from execution.planning.collects import OPEN, READY, SKIP, members, readiness
from runstore.log.events import StepSkipped
from tests.unit.logs import CHAIN, Fold, fail, fan_out, plain, start

(WIRE,) = CHAIN.wires["total"]


def test_it_is_open_until_every_sealed_key_is_settled() -> None:
    """R3: neither before the seal, nor while one key has not succeeded or been skipped, whatever the others are."""
    fold = Fold()
    assert readiness(fold.state, WIRE, ()) == OPEN
    fold(fan_out("ab"), plain("echo[a]"), plain("shout[a]"), plain("echo[b]"))
    assert readiness(fold.state, WIRE, ()) == OPEN
    fold(start("shout[b]"), fail("shout[b]"))
    assert readiness(fold.state, WIRE, ()) == OPEN


def test_members_are_the_sealed_keys_in_order() -> None:
    """D9: each key with the seq of its value, 0 where it was skipped."""
    fold = Fold()
    fold(fan_out("ba"), *(plain(f"echo[{key}]") for key in "ab"))
    fold(plain("shout[a]"), StepSkipped("shout[b]", "x"))
    assert readiness(fold.state, WIRE, ()) == READY
    found = members(fold.state, WIRE, ())
    assert found.keys == ["b", "a"]
    assert found.seqs[0] == 0
    assert found.seqs[1] > 0


def test_all_skipped_is_skipped_and_no_keys_are_an_empty_list() -> None:
    """F1, X3: nothing to give where there are keys; an empty list where there are none."""
    fold = Fold()
    fold(fan_out("a"), StepSkipped("echo[a]", "x"), StepSkipped("shout[a]", "x"))
    assert readiness(fold.state, WIRE, ()) == SKIP
    empty = Fold()
    empty(fan_out(""))
    assert readiness(empty.state, WIRE, ()) == READY
    assert members(empty.state, WIRE, ()).keys == []


def test_it_never_runs_on_less_than_was_sealed() -> None:
    """R3: asked for its members too early, it names the keys without a result instead of leaving them out."""
    fold = Fold()
    with pytest.raises(
        ExpansionIncomplete, match="needs the keys of 'fan_out', which are not sealed"
    ):
        members(fold.state, WIRE, ())
    fold(fan_out("abc"), plain("echo[a]"), plain("shout[a]"))
    with pytest.raises(ExpansionIncomplete) as caught:
        members(fold.state, WIRE, ())
    assert str(caught.value) == (
        "a collect over 3 keys of 'shout' lacks the results of 2 (shout[b], shout[c]); the run stops"
    )
