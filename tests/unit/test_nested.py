"""Nested maps, products and graphs: levels, their order, and what a collect leaves of them (D6-D10).

What random jobs give is compared with plain Python in `property/test_runs.py`; here are the shapes that people write,
and what is refused.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    Out,
    RunResult,
    execute,
    graph,
    job,
    op,
    resume,
)
from execution.definition.job import JobDefinition
from execution.errors import DefinitionError
from runstore import RunStore
from runstore.log import recorder
from runstore.log.graph import FromCollect, Level


@op(out=DynamicOut(str))
def pages() -> Iterator[DynamicOutput[str]]:
    """Three pages, of which `b` has no rows."""
    for page in "abc":
        yield DynamicOutput(page, page)


@op(out=DynamicOut(str))
def rows(page: str) -> Iterator[DynamicOutput[str]]:
    """The rows of a page."""
    for row in range({"a": 2, "b": 0, "c": 1}.get(page, 1)):
        yield DynamicOutput(f"{page}{row}", row)


@op(out=DynamicOut(int))
def sizes() -> Iterator[DynamicOutput[int]]:
    """Two sizes."""
    for size in (1, 2):
        yield DynamicOutput(size, size)


@op
def shout(text: str) -> str:
    """In capitals."""
    return text.upper()


@op
def join(texts: list[str]) -> str:
    """With a plus between."""
    return "+".join(texts)


@op
def show(value: Any) -> str:
    """As Python would print it."""
    return repr(value)


@op
def both(first: Any, second: Any) -> str:
    """Two values as one text."""
    return f"{first}{second}"


def made(body: Callable[[], Any]) -> JobDefinition:
    """A job of this body, which may give something back."""

    def wired() -> None:
        body()

    return job(name="j")(wired)


def ran(body: Callable[[], Any]) -> RunResult:
    """The run of such a job."""
    return made(body).execute_in_process()


def scope(definition: JobDefinition, node: str) -> list[str]:
    """The levels of a node, outermost first."""
    return [level.node for level in definition.graph.by_name[node].scope]


# Scopes (D6, D7)


def test_a_nested_map_clones_per_key_of_each_path() -> None:
    """D7: a nested level offers the keys that its producer yielded at that path, and nothing where it yielded none."""
    result = ran(lambda: pages().map(lambda page: rows(page).map(shout)))
    assert result.output_for_node("rows") == {("a", "0"): "a0", ("a", "1"): "a1", ("c", "0"): "c0"}
    assert result.output_for_node("shout") == {("a", "0"): "A0", ("a", "1"): "A1", ("c", "0"): "C0"}


def test_independent_levels_are_a_product() -> None:
    """D7: an independent level offers all its keys, in the order of the maps around the node."""

    def body() -> None:
        found, wanted = pages(), sizes()
        found.map(lambda page: wanted.map(lambda size: both(page, size)))
        wanted.map(lambda size: found.map(lambda page: both.alias("turned")(page, size)))

    result = ran(body)
    assert list(result.output_for_node("both")) == [(p, s) for p in "abc" for s in "12"]
    assert list(result.output_for_node("turned")) == [(s, p) for s in "12" for p in "abc"]
    assert result.output_for_node("turned")["2", "b"] == "b2"


def test_siblings_under_one_outer_key_are_a_product_per_outer_key() -> None:
    """D7: two generators under the same outer key meet only there."""

    def body(page: Any) -> Any:
        other = rows.alias("more")(page)
        return rows(page).map(lambda one: other.map(lambda two: both(one, two)))

    result = ran(lambda: pages().map(body))
    assert list(result.output_for_node("both")) == [
        ("a", "0", "0"),
        ("a", "0", "1"),
        ("a", "1", "0"),
        ("a", "1", "1"),
        ("c", "0", "0"),
    ]


def test_one_output_is_one_level_also_inside_its_own_map() -> None:
    """D6: inputs under the same dynamic output meet at the same key."""

    def body() -> None:
        found = pages()
        found.map(lambda x: found.map(lambda y: both(x, y)))

    assert ran(body).output_for_node("both") == {"a": "aa", "b": "bb", "c": "cc"}


def test_a_level_that_is_not_open_stands_first() -> None:
    """D7: handles carried out of their map come before the maps that are open, by their first map."""
    kept: list[Any] = []

    def body() -> None:
        sizes.alias("late")()
        pages().map(kept.append)
        sizes().map(kept.append)
        rows(kept[1]).map(lambda row: both(row, kept[0]))

    definition = made(body)
    assert scope(definition, "both") == ["pages", "sizes", "rows"]


def test_a_node_depends_on_its_inputs_alone() -> None:
    """D6: a node without a mapped input is one step, wherever it is written."""
    definition = made(lambda: pages().map(lambda _: rows(show("x")).map(shout)))
    assert scope(definition, "show") == []
    assert scope(definition, "shout") == ["rows"]


# Collects (D8, D9)


def test_a_collect_inside_removes_the_last_level() -> None:
    """D8: inside the outer map the collect of the inner one is a plain handle, empty where there were no keys."""
    result = ran(lambda: pages().map(lambda page: join(rows(page).map(shout).collect())))
    assert result.output_for_node("join") == {"a": "A0+A1", "b": "", "c": "C0"}


def test_collected_twice_outside_is_a_list_of_lists() -> None:
    """D8, D9: outside, what is collected once is mapped still; collected again it is a list of lists, or dicts."""

    def body() -> None:
        found = pages().map(lambda page: rows(page).map(shout))
        show(found.collect().collect())
        show.alias("dicts")(found.collect(as_dict=True).collect(as_dict=True))
        found.collect().map(join)

    result = ran(body)
    assert result.output_for_node("show") == "[['A0', 'A1'], [], ['C0']]"
    assert (
        result.output_for_node("dicts")
        == "{'a': {'0': 'A0', '1': 'A1'}, 'b': {}, 'c': {'0': 'C0'}}"
    )
    assert result.output_for_node("join") == {"a": "A0+A1", "b": "", "c": "C0"}


def test_pieces_are_collected_like_values() -> None:
    """D8: the collect of an inner dynamic output itself."""
    result = ran(lambda: show(pages().map(rows).collect().collect()))
    assert result.output_for_node("show") == "[['a0', 'a1'], [], ['c0']]"


def test_a_mapped_op_may_take_a_collect_beside() -> None:
    """D8: of the same level or of another."""

    def body() -> None:
        found, wanted = pages(), sizes()
        found.map(lambda page: both(page, found.collect()))
        found.map(lambda page: both.alias("other")(page, wanted.map(show).collect()))

    result = ran(body)
    assert result.output_for_node("both")["b"] == "b['a', 'b', 'c']"
    assert result.output_for_node("other")["c"] == "c['1', '2']"


def test_a_fan_in_list_may_mix() -> None:
    """D8: plain, mapped under the same levels, and collected ones, which are one element each."""

    def body(page: Any) -> Any:
        return show([page, show.alias("plain")("x"), rows(page).map(shout).collect()])

    result = ran(lambda: pages().map(body))
    assert result.output_for_node("show")["a"] == repr(["a", "'x'", ["A0", "A1"]])


def test_a_generator_that_fails_for_one_key_stops_that_key_alone() -> None:
    """F2: the other outer keys go on; a collect over all of them is blocked."""

    @op(out=DynamicOut(str))
    def picky(page: str) -> Iterator[DynamicOutput[str]]:
        if page == "b":
            raise ValueError("no")
        yield DynamicOutput(page, "k")

    def body() -> None:
        found = pages().map(lambda page: picky(page).map(shout))
        found.collect().map(join)
        show(found.collect().collect())

    result = made(body).execute_in_process(raise_on_error=False)
    assert [failure.step_key for failure in result.failures] == ["picky[b]"]
    assert result.output_for_node("join") == {"a": "A", "c": "C"}
    assert not result.success
    counts = result._state.ended.counts  # type: ignore[union-attr]
    assert counts["show"] == {"blocked": 1}
    assert counts["join"] == {"succeeded": 2, "blocked": 1}


def test_an_inner_expansion_is_skipped_at_its_key_alone() -> None:
    """X3, F1: an optional generator without keys is skipped there; the outer collect leaves that key out."""

    @op(out=DynamicOut(str, is_required=False))
    def maybe(page: str) -> Iterator[DynamicOutput[str]]:
        if page != "b":
            yield DynamicOutput(page, "k")

    found = ran(lambda: show(pages().map(lambda page: maybe(page).map(shout)).collect().collect()))
    assert found.output_for_node("show") == "[['A'], ['C']]"


def test_steps_start_by_key_positions_along_the_path(tmp_path: Any) -> None:
    """X4: a path before its extensions, and at the same path the later in the graph first."""

    def body() -> None:
        pages().map(lambda page: join(rows(page).map(shout).collect()))

    with RunStore.open(tmp_path / "store", level="fast") as store:
        result = made(body).execute_in_process(store=store)
        started = [
            event.step
            for _, event in store.events(result.run_id)
            if type(event).__name__ == "StepStarted"
        ]
    assert " ".join(started) == (
        "pages rows[a] shout[a][0] shout[a][1] join[a] rows[b] join[b] rows[c] shout[c][0] join[c]"
    )


# Graphs (D10)


class Sheet(NamedTuple):
    """What a graph gives back."""

    whole: Any
    parts: Any


@graph
def sheet(page: Any) -> Sheet:
    """The rows of a page, one by one and together."""
    found = rows(page).map(shout)
    return Sheet(join(found.collect()), found)


def test_a_graph_is_mapped_and_gives_any_shape() -> None:
    """D10: nodes are `graph.op`, clones `graph.op[key]`; a returned collect and a returned map keep their scopes."""

    def body() -> None:
        whole, parts = pages().map(sheet)
        show(whole.collect())
        show.alias("nested")(parts.collect().collect())

    result = ran(body)
    assert result.output_for_node("show") == "['A0+A1', '', 'C0']"
    assert result.output_for_node("nested") == "[['A0', 'A1'], [], ['C0']]"
    assert list(result._state.graph.by_name) == [
        "pages", "sheet.rows", "sheet.shout", "sheet.join", "show", "nested",
    ]  # fmt: skip


def test_graphs_nest_and_are_named_like_ops() -> None:
    """D10, D3: a graph twice is `sheet_2`, with an alias that; a graph in a graph adds its name."""

    @graph
    def book() -> dict[str, Any]:
        return {"pages": pages().map(lambda page: sheet(page).whole), "title": show("t")}

    def body() -> None:
        show(book()["pages"].collect())
        join(book()["pages"].collect())
        book.alias("atlas")()

    names = list(made(body).graph.by_name)
    assert names[:6] == [
        "book.pages", "book.sheet.rows", "book.sheet.shout", "book.sheet.join", "book.show", "show",
    ]  # fmt: skip
    assert {"book_2.sheet.join", "atlas.pages"}.issubset(names)


def test_a_dynamic_output_leaves_a_graph() -> None:
    """D10: a graph may yield dynamic outputs; they are mapped where it is called."""

    @graph
    def source() -> Any:
        return pages()

    result = ran(lambda: source().map(shout))
    assert result.output_for_node("shout") == {"a": "A", "b": "B", "c": "C"}


def test_a_dynamic_op_behind_a_static_one_in_a_mapped_graph() -> None:
    """D10: nothing special here; its level stands under that of the map."""

    @graph
    def behind(page: Any) -> Any:
        return rows(shout(page)).map(shout.alias("again"))

    definition = made(lambda: pages().map(behind))
    assert scope(definition, "behind.again") == ["pages", "behind.rows"]


def test_a_graph_becomes_a_job() -> None:
    """D10: its nodes stand at the top; inputs are given as plain values."""
    definition = sheet.to_job("one_sheet", input_values={"page": "a"})
    result = definition.execute_in_process()
    assert (definition.name, result.output_for_node("join")) == ("one_sheet", "A0+A1")


BAD: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "D4 passed": (
        lambda: show(pages().map(lambda page: rows(page).map(shout)).collect()),
        ["op 'show', input 'value'", "output 'result' of 'shout' (mapped under pages.result)", "use map or collect"],
    ),
    "D4 nested dynamic": (
        lambda: pages().map(lambda page: show(rows(page))),
        ["op 'show'", "dynamic output 'result' of 'rows'", "use map or collect"],
    ),
    "D8 not inside": (
        lambda: pages().map(lambda page: rows(page).map(lambda _: shout(page)).collect()),
        ["'shout' cannot be collected over rows.result", "does not depend", "use it as it is"],
    ),
    "D8 twice": (
        lambda: show(pages().collect().collect()),
        ["'pages' cannot be collected", "collected already"],
    ),
    "D10 arguments": (lambda: sheet(), ["graph 'sheet'", "missing a required argument: 'page'", "inputs: page"]),
    "D10 returns": (
        lambda: graph(name="five")(lambda: 5)(),
        ["graph 'five' returned an object of type int", "return a handle"],
    ),
    "D10 wiring inside": (
        lambda: graph(name="g")(lambda: show(pages()))(),
        ["job 'j', op 'g.show', input 'value'", "of 'g.pages'"],
    ),
    "D10 same alias": (
        lambda: (sheet.alias("a")("x"), sheet.alias("a")("y")),
        ["two nodes named 'a'", "choose another alias"],
    ),
    "D10 alias": (lambda: sheet.alias("a b"), ["alias 'a b' of graph 'sheet'", "choose another"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_illegal_wiring_is_found_at_definition(case: str) -> None:
    """D4, D8, D10: the error names the places and the remedy."""
    body, texts = BAD[case]
    with pytest.raises(DefinitionError) as caught:
        made(body)
    for text in texts:
        assert text in str(caught.value)


def test_a_graph_outside_of_a_job_is_refused() -> None:
    """D10: it has no run to be part of."""
    with pytest.raises(DefinitionError, match=r"graph 'sheet' was called outside a job.*to_job"):
        sheet("a")


def test_collects_stand_in_the_graph_as_levels() -> None:
    """The graph data name every level that a collect goes over, outermost first."""
    definition = made(
        lambda: show(pages().map(lambda page: rows(page).map(shout)).collect().collect())
    )
    source = definition.graph.by_name["show"].inputs[0].source
    assert isinstance(source, FromCollect)
    assert [one.level for one in source.over] == [Level("pages", "result"), Level("rows", "result")]


def test_several_outputs_under_several_levels() -> None:
    """D5: a namedtuple of handles comes out of nested maps as one."""

    @op(out={"low": Out(str), "high": Out(str)})
    def split(text: str) -> tuple[str, str]:
        return text.lower(), text.upper()

    def body() -> None:
        found = pages().map(lambda page: rows(page).map(split))
        show(found.high.collect().collect())

    assert ran(body).output_for_node("show") == "[['A0', 'A1'], [], ['C0']]"


def test_a_collect_over_nothing_is_ready_when_its_own_level_is() -> None:
    """X3, D8: a product with an empty level has no clones to wait for; its collect gives an empty list at every key."""

    @op(out=DynamicOut(str))
    def nothing() -> Iterator[DynamicOutput[str]]:
        yield from ()

    def body() -> None:
        empty, found = nothing(), pages()
        product = found.map(lambda page: empty.map(lambda other: both(page, other)))
        product.collect().map(join)

    assert ran(body).output_for_node("join") == {"a": "", "b": "", "c": ""}


def test_keys_shows_a_path_as_a_person_reads_it(tmp_path: Any, capsys: Any) -> None:
    """Beside the step key, which can be pasted back, stand the keys of a nested clone."""
    from execution.cli.main import cli

    definition = made(lambda: pages().map(lambda page: rows(page).map(shout)))
    with RunStore.open(tmp_path / "store", level="fast") as store:
        definition.execute_in_process(store=store)
    with pytest.raises(SystemExit) as ended:
        cli(["keys", "last", "shout", "--store", str(tmp_path / "store")])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[0] == "succeeded    1 attempt  shout[a][0]  a / 0"


def test_references_are_found_also_where_they_are_not_yet_on_disk(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an inner generator has just stored is read before it is committed, however few references stay in memory."""
    monkeypatch.setattr(recorder, "NEAR", 2)
    monkeypatch.setattr(recorder, "GROUP_S", 1e9)

    def body() -> None:
        pages().map(lambda page: join(rows(page).map(shout).collect()))

    with RunStore.open(tmp_path / "store", level="fast") as store:
        result = made(body).execute_in_process(store=store)
    assert result.output_for_node("join") == {"a": "A0+A1", "b": "", "c": "C0"}


def in_the_other_order(least: int, *, failing: bool = False) -> JobDefinition:
    """A level whose producer has its keys in another order than its readers."""

    @op(out=DynamicOut(str), version=str(least))
    def pairs(page: str, size: int) -> Iterator[DynamicOutput[str]]:
        for number in range(least, least + size):
            yield DynamicOutput(f"{page}{size}{number}", number)

    @op
    def at_last(values: list[list[list[str]]]) -> int:
        if failing:
            raise ValueError
        return len(values)

    def body() -> None:
        found, of_size = pages(), sizes()
        pieces = found.map(lambda page: of_size.map(lambda size: pairs(page, size)))
        ends = of_size.map(lambda size: pieces.map(lambda piece: both(size, piece)))
        at_last(ends.collect().collect().collect())

    return made(body)


def test_a_level_may_stand_behind_its_producers_levels_in_another_order(tmp_path: Any) -> None:
    """D7: a clone's keys are found by their levels, not by where they stand, also when other keys are sealed anew."""
    first = in_the_other_order(0, failing=True)
    orders = [[level.node for level in node.scope] for node in first.graph.nodes[2:4]]
    assert orders == [["pages", "sizes"], ["sizes", "pages", "pairs"]]
    with RunStore.open(tmp_path / "store", level="fast") as store:
        for least, job in ((0, first), (1, in_the_other_order(1))):
            result = (
                execute(job, store, run_id="r")
                if job is first
                else resume("r", store, job=job, on_code_change="rerun")
            )
            assert list(result.output_for_node("both")) == [
                (str(size), page, str(number))
                for size in (1, 2)
                for page in "abc"
                for number in range(least, least + size)
            ]
        assert result.success, result.failures
        assert result.output_for_node("at_last") == 2
