"""Outputs that were opened before a fork: refused in the child, wherever they are, and left as they are by it."""

import gc
import hashlib
import multiprocessing
import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from execution import execute, job, op, resume
from runstore import RunStore
from runstore.errors import StorageFailed
from runstore.outputs.base import BASE_REQUESTS, Base
from runstore.outputs.output_store import REQUESTS, OutputStore, open_base
from runstore.outputs.serializers import serialize
from runstore.testing import Failpoint, armed, in_fork
from tests.object_stores.moto import Moto
from tests.unit.jobs import chained


@pytest.fixture(params=["local", "durable", "memory", "s3"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Base:
    """A place of each kind, in which something lies; its threads, if it has any, have begun."""
    if request.param in ("local", "durable"):
        found = open_base(str(tmp_path / "outputs"), durable=request.param == "durable")
    elif request.param == "memory":
        found = open_base(f"memory://{secrets.token_hex(8)}", durable=False)
    else:
        service: Moto = request.getfixturevalue("service")
        found = open_base(f"s3://{service.fresh_bucket()}/outputs", durable=False)
    found.write("there", b"1", hashlib.sha256(b"1").hexdigest())
    return found


def test_a_base_is_refused_in_a_fork(base: Base) -> None:
    """Each request names both processes and the address, and none waits; the parent goes on."""
    parent = os.getpid()
    pattern = (
        f"outputs at {base.describe('')[:-1]} belong to process {parent}.* in its fork [0-9]+; open"
    )

    def in_child() -> None:
        for name in BASE_REQUESTS:
            with pytest.raises(StorageFailed, match=pattern):
                getattr(base, name)("there")
        base.close()  # harmless there

    assert in_fork(in_child).code == 0
    assert base.read("there") == b"1"


@pytest.mark.parametrize("pack", [False, True])
def test_outputs_are_refused_in_a_fork(base: Base, pack: bool) -> None:
    """Also what would wait for threads that are not there, and what others have put together for them."""
    outputs = OutputStore([base], pack=pack)
    value = serialize([1])
    reference = outputs.put(value, "op", "result", (secrets.token_hex(4),), 1, 1)
    assert outputs.get_later(reference).result() == value.data  # threads have begun
    arguments: dict[str, tuple[Any, ...]] = {
        "put": (value, "op", "result", ("k",), 1, 1),
        "put_later": (value, "op", "result", ("k",), 1, 1),
        "get_each": ([reference],),
        "are_there": ([reference],),
        "remove_all": (),
    }

    def in_child() -> None:
        for name in REQUESTS:
            with pytest.raises(StorageFailed, match="cannot be used in its fork"):
                getattr(outputs, name)(*arguments.get(name, (reference,)))
        outputs.flush()
        outputs.close()

    assert in_fork(in_child).code == 0
    assert outputs.get(reference) == value.data
    outputs.close()


def test_every_request_is_guarded() -> None:
    """Nothing public of a base or of outputs reaches storage unguarded."""
    asked = _methods(Base) - {"describe", "close"}
    assert asked == set(BASE_REQUESTS)
    assert _methods(OutputStore) - {"loads_ahead", "address", "flush", "close"} == set(REQUESTS)


def _methods(kind: type) -> set[str]:
    return {name for name, one in vars(kind).items() if callable(one) and not name.startswith("_")}


def test_a_result_is_refused_in_a_fork(tmp_path: Path) -> None:
    """A child that asks for a value of the parent's run gets the error, not the value and no hang."""
    with RunStore.open(tmp_path, level="fast") as store:
        result = execute(chained("ab"), store)
        assert result.output_for_node("total") == "AB"

        def in_child() -> None:
            with pytest.raises(StorageFailed, match="cannot be used in its fork"):
                result.output_for_node("total")

        assert in_fork(in_child).code == 0


_context = multiprocessing.get_context("fork")


def _square(number: int) -> int:
    return number * number


@op
def squares() -> list[int]:
    """Computed by children of this process."""
    with _context.Pool(2) as pool:
        return pool.map(_square, range(5))


@op
def last_square(squares: list[int]) -> int:
    """Computed by a child that ends as a process ends that was not told otherwise."""
    child = os.fork()
    if not child:
        os._exit(squares[-1])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@job
def forking() -> None:
    """Ops that fork."""
    last_square(squares())


@pytest.mark.parametrize("place", ["local", "s3"])
def test_children_of_an_op_are_not_disturbed(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An op may fork and use what it was given, as long as the children leave the outputs alone."""
    outputs = None
    if place == "s3":
        outputs = f"s3://{request.getfixturevalue('service').fresh_bucket()}/forking"
    with RunStore.open(tmp_path, outputs=outputs) as store:
        result = execute(forking, store)
        assert result.output_for_node("squares") == [0, 1, 4, 9, 16]
        assert result.output_for_node("last_square") == 16


def test_calls_by_path_leave_nothing_open(tmp_path: Path) -> None:
    """Behind `execute` a fork may begin a run in the same store; what it has committed when it is killed stays."""
    store = tmp_path / "store"
    result = execute(chained(["a"]), store, run_id="first")
    assert result.success

    def begin() -> None:
        with armed(Failpoint(point="event.before", kind="RunSucceeded")):
            execute(chained(["a", "b"]), store, run_id="second")

    assert in_fork(begin).killed
    gc.collect()
    assert resume("second", store, job=chained(["a", "b"])).success
    with RunStore.open(store) as found:
        assert {run.run_id for run in found.runs()} == {"first", "second"}
