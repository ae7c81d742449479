"""Questions about whole runs: keys against ops, search, errors; answers known from outside the log."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import click.testing
import pytest

from execution.cli.main import cli
from runstore import RunStore
from runstore.audit import KeyGrid, errors, key_grid, keys, search
from runstore.errors import StepNotFound
from tests.acceptance.audited import FAILED, KILLED, MESSAGE, RUN, TREE, Audited


@pytest.fixture
def store(audited: Audited) -> Iterator[RunStore]:
    """Its store, to read."""
    with RunStore.open(audited.store, must_exist=True) as found:
        yield found


def ask(audited: Audited, *words: str, code: int = 0) -> str:
    """What the command prints."""
    ended = click.testing.CliRunner().invoke(cli, [*words, "--store", str(audited.store)])
    assert ended.exit_code == code, ended.output
    return ended.output


def steps_in(grid: KeyGrid) -> dict[str, tuple[str, int]]:
    """Step -> status and attempts."""
    from runstore.keys import format_step_key

    return {
        format_step_key(cell.op, row.key_path): (cell.status, cell.attempts)
        for row in grid.rows
        for cell in row.cells
    }


def test_the_grid_has_every_step(audited: Audited, store: RunStore) -> None:
    """Every step that an op has noted, succeeded, with as many attempts as there were calls."""
    calls = audited.attempts()
    grid = key_grid(store, RUN)
    assert steps_in(grid) == {step: ("succeeded", count) for step, count in calls.items()}
    assert grid.next is None
    assert grid.counts["length"] == {"succeeded": sum(map(len, TREE.values()))}


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize(
    "filters", [{}, {"retried": True}, {"like": "*"}, {"status": ["succeeded"]}]
)
def test_pages_make_up_the_grid(store: RunStore, limit: int, filters: dict[str, Any]) -> None:
    """Page after page, whatever the filter, gives the same rows as the whole in one."""
    whole = key_grid(store, RUN, limit=1_000, **filters).rows
    rows, after = [], None
    while True:
        page = key_grid(store, RUN, limit=limit, after=after, **filters)
        rows += page.rows
        after = page.next
        if after is None:
            break
    assert tuple(rows) == whole
    assert whole


def test_both_ways_give_the_same_grid(store: RunStore) -> None:
    """What is looked up is what is folded."""
    looked_up, folded = key_grid(store, RUN), key_grid(store, RUN, status=["succeeded"])
    assert looked_up == folded


def test_filters_of_the_grid(store: RunStore) -> None:
    """By attempts the two clones that ran twice, by glob the rows with such a key, by op its column."""
    retried = key_grid(store, RUN, ops=["length"], retried=True)
    assert [row.key_path for row in retried.rows] == [KILLED, FAILED]
    europe = key_grid(store, RUN, ops=["length"], like="Europe")
    assert [row.key_path for row in europe.rows] == [("Europe", city) for city in TREE["Europe"]]
    assert key_grid(store, RUN, status=["blocked"]).rows == ()
    with pytest.raises(StepNotFound, match="has no op 'lengths'"):
        key_grid(store, RUN, ops=["lengths"])


def test_search_over_runs(audited: Audited, store: RunStore) -> None:
    """Every clone that has the key, in every op, and none else."""
    found = {match.step: match.status for match in search(store, "Europe")}
    expected = {step for step in audited.attempts() if "[Europe]" in step}
    assert set(found) == expected
    (match,) = search(store, "Par*", op="length")
    assert (match.step, match.attempts) == (Audited.step("Europe", "Paris"), 1)
    assert match.started is not None
    later = match.started.replace(year=match.started.year + 1)
    assert list(search(store, "*", since=later)) == []


GLOBS = (
    "*",
    "?",
    "[!E]*",
    "[^E]*",
    "[E^]*",
    "E[a-u]*",
    "*[[]0]*",
    "*]*",
    "[]]",
    "[",
    "*[%]",
    "<[!/]*",
    "\x1b[[]*",
    "a/?*",
)


@pytest.mark.parametrize("glob", GLOBS)
def test_a_glob_means_the_same_everywhere(glob: str, store: RunStore) -> None:
    """What `search` finds in the run is what `keys` shows, with and without pages, also for classes of characters."""
    keys_of_run = {key for region, cities in TREE.items() for key in (region, *cities)}
    grid = steps_in(key_grid(store, RUN, like=glob, limit=1_000))
    assert {match.step for match in search(store, glob)} == set(grid)
    assert bool(grid) == any(fnmatchcase(key, glob) for key in keys_of_run)
    listed = [
        key for node in ("cities", "length", "add") for key in keys(store, RUN, node, like=glob)
    ]
    assert {key.step for key in listed} == set(grid)


def test_errors_are_grouped(audited: Audited, store: RunStore) -> None:
    """The one error that an op has raised, where it stood, and that a later attempt has mended it."""
    (group,) = errors(store, RUN)
    assert (group.op, group.type, group.message) == ("length", "ValueError", MESSAGE)
    assert (group.count, group.steps, group.standing) == (1, 1, 0)
    assert group.examples == (Audited.step(*FAILED),)
    assert "\x1b" not in ask(audited, "errors", RUN, "--traceback")


@pytest.mark.parametrize(
    "words", [("keys", RUN), ("keys", RUN, "length"), ("search", "*"), ("errors", RUN)]
)
def test_every_answer_as_text_and_as_json(audited: Audited, words: tuple[str, ...]) -> None:
    """A person gets lines without control characters, a program gets JSON."""
    shown = ask(audited, *words)
    assert shown.strip()
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert json.loads(ask(audited, *words, "--json"))
