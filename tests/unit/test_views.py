"""The views on logs that are written down: what random runs (`tests/property/test_views.py`) do not have."""

from pathlib import Path
from typing import Any

from execution import execute, job, op
from runstore.store import RunStore


@op
def given() -> int:
    """One."""
    return 1


@op
def read(my_input: int, größen: list[int]) -> int:
    """A name with an underscore, and one that is not of ASCII."""
    return my_input + sum(größen)


@job
def reads() -> None:
    """Reads one output three times."""
    one = given()
    read(one, [one, one])


def asked(store: RunStore, sql: str) -> list[Any]:
    """Rows of the log."""
    return store.query(sql).fetchall()


def test_lineage_names_inputs_as_the_op_does(tmp_path: Path) -> None:
    """Whatever letters a name has, and an element of a list by its place."""
    with RunStore.open(tmp_path, level="fast") as store:
        assert execute(reads, store).success
        inputs = asked(store, "SELECT input FROM lineage ORDER BY input")
    assert inputs == [("größen[0]",), ("größen[1]",), ("my_input",)]
