"""Reruns of nested jobs: key paths in selections, keys that are yielded anew below one outer key, products, graphs."""

from collections.abc import Iterator
from typing import Any

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    execute,
    graph,
    job,
    op,
    plan_rerun,
    rerun,
)
from execution.definition.job import JobDefinition
from execution.errors import SelectionIncomplete
from runstore import RunStore

PAGES = {"a": ["0", "1"], "b": ["0"]}


class Nested:
    """Pages, their rows, each in capitals, joined per page and in all; calls are noted."""

    def __init__(self, rows_of: dict[str, list[str]] | None = None, fails: str = "") -> None:
        self.calls: list[str] = []
        self.job = self._job(rows_of or PAGES, fails)

    def _job(self, rows_of: dict[str, list[str]], fails: str) -> JobDefinition:
        def note(context: OpContext) -> None:
            self.calls.append(context.step_key)
            if context.step_key == fails:
                raise ValueError("no")

        @op(out=DynamicOut(str), version="1")
        def pages(context: OpContext) -> Iterator[DynamicOutput[str]]:
            note(context)
            for page in PAGES:
                yield DynamicOutput(page, page)

        @op(out=DynamicOut(str), version="1")
        def rows(context: OpContext, page: str) -> Iterator[DynamicOutput[str]]:
            note(context)
            for row in rows_of[page]:
                yield DynamicOutput(page + row, row)

        @op(version="1")
        def shout(context: OpContext, row: str) -> str:
            note(context)
            return row.upper()

        @op(version="1")
        def join(context: OpContext, texts: list[str]) -> str:
            note(context)
            return "+".join(texts)

        @op(version="1")
        def total(context: OpContext, texts: list[str]) -> str:
            note(context)
            return " ".join(texts)

        @job
        def nested() -> None:
            total(pages().map(lambda page: join(rows(page).map(shout).collect())).collect())

        return nested


@pytest.fixture
def store() -> Iterator[RunStore]:
    """A store of its own."""
    with RunStore.in_memory() as opened:
        yield opened


@pytest.fixture
def nested(store: RunStore) -> Nested:
    """The job, run once as `first`."""
    made = Nested()
    assert execute(made.job, store, run_id="first").output_for_node("total") == "A0+A1 B0"
    made.calls.clear()
    return made


@pytest.mark.parametrize(
    ("select", "ran"),
    [
        ("shout[a]", "shout[a][0] shout[a][1]"),
        ("shout[*][0]", "shout[a][0] shout[b][0]"),
        ("shout[a][1*]", "shout[a][1]"),
        ("shout[b][0]*", "shout[b][0] join[b] total"),
        ("shout[b][0]+", "shout[b][0] join[b]"),
        ("+join[a]", "shout[a][0] shout[a][1] join[a]"),
        ("join[b]*", "join[b] total"),
        ("rows[b]*", "rows[b] shout[b][0] join[b] total"),
        ("rows*", "rows[a] shout[a][0] shout[a][1] join[a] rows[b] shout[b][0] join[b] total"),
    ],
)
def test_key_paths(nested: Nested, store: RunStore, select: str, ran: str) -> None:
    """A pattern that is shorter than the key path selects all below; a collect is per outer key, or of all."""
    plan = plan_rerun("first", store, select=select, job=nested.job)
    result = rerun("first", store, select=select, job=nested.job)
    assert result.success
    assert sorted(nested.calls) == sorted(ran.split())
    assert plan.unasked == ()
    if "total" in ran:
        assert result.output_for_node("total") == "A0+A1 B0"


def test_new_keys_below_one_outer_key(nested: Nested, store: RunStore) -> None:
    """What is cloned for them runs; the clones of other outer keys are reused, what collects both is left out."""
    other = Nested({"a": ["0"], "b": ["5", "6"]})
    plan = plan_rerun("first", store, select="rows[b]", job=other.job)
    assert plan.unasked == ("shout",)
    result = rerun("first", store, select="rows[b]", job=other.job, new_run_id="second")
    assert other.calls == ["rows[b]", "shout[b][5]", "shout[b][6]"]
    assert result.output_for_node("shout") == {
        ("a", "0"): "A0", ("a", "1"): "A1", ("b", "5"): "B5", ("b", "6"): "B6",
    }  # fmt: skip
    assert result.output_for_node("join") == {"a": "A0+A1"}
    done = rerun("second", store, select="join[b],total", job=other.job)
    assert done.output_for_node("total") == "A0+A1 B5+B6"


def test_one_outer_key_that_failed(store: RunStore) -> None:
    """What needs it cannot be selected alone; from the failure on everything runs, and just that."""
    bad, good = Nested(fails="rows[b]"), Nested()
    assert not execute(bad.job, store, run_id="first").success
    with pytest.raises(SelectionIncomplete, match=r"'total' needs 'join\[b\]'"):
        rerun("first", store, select="total", job=good.job)
    result = rerun("first", store, from_failure=True, job=good.job)
    assert result.output_for_node("total") == "A0+A1 B0"
    assert good.calls == ["rows[b]", "shout[b][0]", "join[b]", "total"]


def test_products(store: RunStore) -> None:
    """A clone of a product is named by both keys; one of a factor selects its row of the product."""
    calls: list[str] = []

    def letters(name: str, keys: str) -> Any:
        @op(name=name, out=DynamicOut(str), version="1")
        def f():
            for key in keys:
                yield DynamicOutput(key, key)

        return f

    @op(version="1")
    def loud(x):
        return x.upper()

    @op(version="1")
    def both(context, x, y):
        calls.append(context.step_key)
        return x + y

    @op(version="1")
    def end(xs):
        return xs

    @job
    def product():
        ys = letters("right", "pq")()
        xs = letters("left", "ab")().map(loud)
        end(xs.map(lambda x: ys.map(lambda y: both(x, y)).collect()).collect())

    first = execute(product, store, run_id="first")
    for select, ran in {
        "both[a]": ["both[a][p]", "both[a][q]"],
        "both[*][p]": ["both[a][p]", "both[b][p]"],
        "loud[b]*": ["both[b][p]", "both[b][q]"],
    }.items():
        calls.clear()
        result = rerun("first", store, select=select, job=product)
        assert calls == ran
        if select.endswith("*"):
            assert result.output_for_node("end") == first.output_for_node("end")


def test_a_graph_is_selected_by_its_name(store: RunStore) -> None:
    """`prepare` are all its ops, `prepare.clean` one of them, also of one clone of a mapped graph."""
    calls: list[str] = []

    @op(out=DynamicOut(str), version="1")
    def keys():
        yield DynamicOutput("a", "a")
        yield DynamicOutput("b", "b")

    @op(version="1")
    def load(context, x):
        calls.append(context.step_key)
        return x

    @op(version="1")
    def clean(context, x):
        calls.append(context.step_key)
        return x + "."

    @op(version="1")
    def end(context, xs):
        calls.append(context.step_key)
        return "".join(xs)

    @graph
    def prepare(x):
        return clean(load(x))

    @job
    def grouped():
        end(keys().map(prepare).collect())

    execute(grouped, store, run_id="first")
    for select, ran in {
        "prepare": ["prepare.load[a]", "prepare.clean[a]", "prepare.load[b]", "prepare.clean[b]"],
        "prepare[b]*": ["prepare.load[b]", "prepare.clean[b]", "end"],
        "prepare.clean[a]": ["prepare.clean[a]"],
        "+prepare.clean[a]": ["prepare.load[a]", "prepare.clean[a]"],
    }.items():
        calls.clear()
        assert rerun("first", store, select=select, job=grouped).success
        assert calls == ran
