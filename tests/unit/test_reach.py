"""Whether two processes reach the same outputs."""

from pathlib import Path

import pytest

from execution import RunResult, execute
from runstore import RunStore
from runstore.housekeeping import prune
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reach import NotReached, leave, left_in, look_for, take_away
from runstore.store import reopen_outputs
from tests.unit.executor_contract import Bench
from tests.unit.jobs import chained


def outputs_of(folder: Path) -> OutputStore:
    """Those of a run of a store there."""
    store = RunStore.open(folder, level="fast")
    return store.outputs(Bench.state(store))


def test_who_shares_a_place_finds_what_the_other_has_left(tmp_path: Path) -> None:
    """Also in the places of older epochs, as far as something could be left there."""
    here = outputs_of(tmp_path / "s")
    assert here.whereabouts is not None
    there = reopen_outputs(here.whereabouts)
    leave(here, "mine")
    look_for(there, "mine", left_in(here, "mine"))
    leave(there, "theirs")
    look_for(here, "theirs")
    take_away(here, "mine")
    take_away(here, "theirs")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_who_does_not_share_it_says_what_is_not_there(tmp_path: Path) -> None:
    """A folder of the same name elsewhere is another folder; other bytes are not what was left."""
    here, there = outputs_of(tmp_path / "s"), outputs_of(tmp_path / "other")
    leave(here, "mine")
    with pytest.raises(NotReached, match=r"nothing at .*other/outputs/r/=probe\.mine"):
        look_for(there, "mine")
    (tmp_path / "s" / "outputs" / "r" / "=probe.mine").write_bytes(b"?")
    with pytest.raises(NotReached, match="other bytes at"):
        look_for(here, "mine")


def test_what_a_killed_process_has_left_is_pruned(tmp_path: Path) -> None:
    """No event names it."""
    with RunStore.open(tmp_path, level="fast") as store:
        execute(chained(["a"]), store, run_id="r")
        left = tmp_path / "outputs" / "r" / "=probe.left"
        left.write_bytes(b"?")
        list(prune(store, "r"))
        assert not left.exists()
        assert RunResult.load("r", store).output_for_node("total") == "A"
