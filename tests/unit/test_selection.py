"""Which steps an expression selects: what can be written, what it means, and what is refused."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.errors import InvalidSelection
from execution.planning.selection import (
    ALL,
    Pattern,
    Selection,
    Selector,
    literal_key,
    parse_selection,
)
from runstore.keys import KeyPath, format_step_key
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, FromOutput, Graph, Input, Level, Node, Output, Over
from tests.unit.strategies import mapping_keys

# Reading


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("echo", Pattern("echo")),
        ("+echo", Pattern("echo", (), 1)),
        ("echo+", Pattern("echo", (), 0, 1)),
        ("++echo++", Pattern("echo", (), 2, 2)),
        ("*echo", Pattern("echo", (), ALL)),
        ("+echo*", Pattern("echo", (), 1, ALL)),
        ("prepare.load*", Pattern("prepare.load", (), 0, ALL)),
        ("echo[a]", Pattern("echo", ("a",))),
        ("echo[*]", Pattern("echo", ("*",))),
        ("echo[2024-*]*", Pattern("echo", ("2024-*",), 0, ALL)),
        ("*resize[cat.jpg][1*]+", Pattern("resize", ("cat.jpg", "1*"), ALL, 1)),
        ("echo[a, b+]", Pattern("echo", ("a, b+",))),
        ("echo[x%5B0%5D%25]", Pattern("echo", ("x%5B0%5D%25",))),
    ],
)
def test_what_can_be_written(text: str, pattern: Pattern) -> None:
    """An op, a clone or some of them, and how far to go from there; what is read is shown as it was written."""
    assert parse_selection(text) == (pattern,)
    assert str(pattern) == text


def test_several_patterns() -> None:
    """Expressions are repeated, or hold commas; a comma inside a key is part of it."""
    given = ["echo[a,b]* , total", "shout"]
    assert [str(one) for one in parse_selection(given)] == ["echo[a,b]*", "total", "shout"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "echo[",
        "echo]",
        "echo[]",
        "echo[a]b",
        "+*echo",
        "echo*+",
        "*",
        "echo,",
        "echo[%]",
        "echo[%ff]",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """The message quotes the pattern and says how one is written."""
    with pytest.raises(InvalidSelection, match=r"is not a pattern.*; write "):
        parse_selection(text)


names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}(\.[a-z_]{1,5})?", fullmatch=True)
hops = st.sampled_from([ALL, 0, 1, 2, 3])
key_patterns = st.lists(
    st.one_of(mapping_keys.map(literal_key), st.sampled_from(["*", "?", "2024-*"])), min_size=1
).map("".join)


@given(st.builds(Pattern, names, st.lists(key_patterns, max_size=3).map(tuple), hops, hops))
def test_a_pattern_is_read_back_as_it_is_shown(pattern: Pattern) -> None:
    """Whatever characters its keys hold."""
    assert parse_selection(str(pattern)) == (pattern,)


@given(mapping_keys, mapping_keys)
def test_a_printed_step_key_selects_that_step_alone(key: str, other: str) -> None:
    """A step key can be pasted (rule K2), also where its key holds what is a wildcard elsewhere."""
    selector = Selector(FLAT, lambda node: [(key,), (other,)] if node.scope else [()], "r")
    for text in (format_step_key("echo", (key,)), str(Pattern("echo", (literal_key(key),)))):
        assert selector.select(parse_selection(text)).paths("echo") == {(key,)}


# Meaning

KEYS = Level("fan_out", "result")
FLAT = Graph(
    "flat",
    (
        Node("fan_out", "fan_out", (), (Output("result", dynamic=True),)),
        Node("echo", "echo", (Input("x", FromOutput("fan_out", "result")),), (Output("result"),), (KEYS,)),
        Node("shout", "shout", (Input("x", FromOutput("echo", "result")),), (Output("result"),), (KEYS,)),
        Node("total", "total", (Input("xs", FromCollect("shout", "result", (Over(KEYS),))),), (Output("result"),)),
        Node("sub.after", "after", (Input("x", FromOutput("total", "result")),), (Output("result"),)),
    ),
)  # fmt: skip


def flat_paths(node: Node) -> list[KeyPath]:
    """Three clones of each mapped node."""
    return [("a1",), ("a2",), ("b",)] if node.scope else [()]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("echo", "echo[a1] echo[a2] echo[b]"),
        ("echo[*]", "echo[a1] echo[a2] echo[b]"),
        ("echo[a*]", "echo[a1] echo[a2]"),
        ("echo[?]", "echo[b]"),
        ("echo[b]*", "echo[b] shout[b] total sub.after"),
        ("echo[b]+", "echo[b] shout[b]"),
        ("echo[b]++", "echo[b] shout[b] total"),
        ("+shout[b]", "echo[b] shout[b]"),
        ("*shout[b]", "fan_out echo[b] shout[b]"),
        ("+total", "shout[a1] shout[a2] shout[b] total"),
        ("sub", "sub.after"),
        ("+sub+", "total sub.after"),
        ("echo[a1],sub.after", "echo[a1] sub.after"),
        ("fan_out+", "fan_out echo[a1] echo[a2] echo[b]"),
    ],
)
def test_what_it_means(text: str, steps: str) -> None:
    """Downstream of a clone come its chain, the collects and all after them; upstream its chain and what it shares."""
    selection = Selector(FLAT, flat_paths, "r").select(parse_selection(text))
    assert chosen(FLAT, flat_paths, selection) == set(steps.split())


@pytest.mark.parametrize("text", ["echo", "echo[*]", "fan_out*", "*total"])
def test_clones_that_are_not_known_yet(text: str) -> None:
    """A whole op is selected with the clones that are still to come."""
    selection = Selector(FLAT, lambda _: [()], "r").select(parse_selection(text))
    assert StepId("echo", ("new",)) in selection


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ecko", "job 'flat' has no op 'ecko'; did you mean 'echo'? it has fan_out"),
        ("total[a]", "'total' has 0 keys; write 'total'"),
        ("echo[a][b]", "'echo' has 1 keys; write 'echo[key]'"),
        ("echo[c1]", "did you mean 'echo[a1]'"),
        ("echo[c*]", "`runstore keys r echo` lists all"),
    ],
)
def test_what_selects_nothing_is_refused(text: str, said: str) -> None:
    """Also one of several patterns; the message names what is near."""
    with pytest.raises(InvalidSelection) as refusal:
        Selector(FLAT, flat_paths, "r").select(parse_selection(f"total,{text}"))
    assert str(refusal.value).startswith(f"{text!r} selects nothing of run 'r'")
    assert said in str(refusal.value)


def test_keys_that_are_not_known_cannot_be_named() -> None:
    """The op as a whole can."""
    with pytest.raises(InvalidSelection, match="keys of 'echo' are not known; write 'echo'"):
        Selector(FLAT, lambda node: [] if node.scope else [()], "r").select(
            parse_selection("echo[a]")
        )


def chosen(graph: Graph, known: Any, selection: Selection) -> set[str]:
    """The step keys of the known steps that are selected."""
    return {str(step) for step in all_steps(graph, known) if step in selection}


def all_steps(graph: Graph, known: Any) -> Iterator[StepId]:
    """Every known step."""
    for node in graph.nodes:
        for path in known(node):
            yield StepId(node.name, path)


# Against a plain model

OUTER, INNER, OTHER = Level("outer", "r"), Level("inner", "r"), Level("other", "r")
LEVEL_KEYS = {OUTER: ("a", "b"), INNER: ("a", "x"), OTHER: ("p", "q", "x1")}


def wide_paths(node: Node) -> list[KeyPath]:
    """Every combination of the keys of its levels, but no inner `x` below the outer `b`."""
    paths = product(*(LEVEL_KEYS[level] for level in node.scope))
    return [path for path in paths if not (INNER in node.scope and path[:2] == ("b", "x"))]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Three generators, one of them mapped, and ops that read, map, multiply and collect what stands before."""
    nodes = [
        Node("outer", "outer", (), (Output("r", dynamic=True),)),
        Node("inner", "inner", (Input("x", FromOutput("outer", "r")),), (Output("r", dynamic=True),), (OUTER,)),
        Node("other", "other", (), (Output("r", dynamic=True),)),
    ]  # fmt: skip
    for number in range(draw(st.integers(1, 7))):
        places = st.integers(0, len(nodes) - 1)
        read = draw(st.lists(places, min_size=1, max_size=3, unique=True))
        sources, levels = zip(*[draw(source_of(nodes[place])) for place in read], strict=True)
        scope = tuple(level for level in LEVEL_KEYS if any(level in one for one in levels))
        inputs = tuple(Input(f"x{place}", source) for place, source in enumerate(sources))
        nodes.append(Node(f"n{number}", "op", inputs, (Output("r"),), scope))
    return Graph("random", tuple(nodes))


@st.composite
def source_of(draw: st.DrawFn, node: Node) -> tuple[Any, tuple[Level, ...]]:
    """A way to read a node, and the levels that its reader is then mapped under."""
    piece = next((level for level in LEVEL_KEYS if level.node == node.name), None)
    scope = (*node.scope, piece) if piece else node.scope
    if scope and draw(st.booleans()):
        return FromCollect(node.name, "r", (Over(scope[-1]),)), scope[:-1]
    return FromOutput(node.name, "r"), scope


def reads(graph: Graph, known: Any) -> set[tuple[StepId, StepId]]:
    """(reader, read) of every pair of steps, from the words of rule D7 and D8 alone."""
    found = set()
    for reader in graph.nodes:
        for source in reader.sources():
            producer = graph.by_name[source.node]
            over = source.over if isinstance(source, FromCollect) else ()
            free = {one.level for one in over}
            for at, other in product(known(reader), known(producer)):
                mine = dict(zip(reader.scope, at, strict=True))
                theirs = dict(zip(producer.scope, other, strict=True))
                if all(level in free or mine[level] == key for level, key in theirs.items()):
                    found.add((StepId(reader.name, at), StepId(producer.name, other)))
    return found


def reached(steps: set[StepId], pairs: set[tuple[StepId, StepId]], levels: int) -> set[StepId]:
    """The steps, and those so many pairs away."""
    found, front = set(steps), set(steps)
    while front and levels != 0:
        levels -= 1
        front = {end for start, end in pairs if start in front} - found
        found |= front
    return found


@given(st.data(), graphs(), hops, hops)
def test_random_graphs(data: st.DataObject, graph: Graph, up: int, down: int) -> None:
    """What is selected is what can be reached from step to step, as a plain search finds it."""
    node = data.draw(st.sampled_from(graph.nodes))
    depth = data.draw(st.integers(0, len(node.scope)))
    keys = [data.draw(st.sampled_from([*LEVEL_KEYS[level], "*"])) for level in node.scope[:depth]]
    base = {
        StepId(node.name, path)
        for path in wide_paths(node)
        if all(key in ("*", own) for key, own in zip(keys, path, strict=False))
    }
    if not base:
        return
    pairs = reads(graph, wide_paths)
    expected = reached(base, pairs, up) | reached(base, {(b, a) for a, b in pairs}, down)
    pattern = Pattern(node.name, tuple(keys), up, down)
    selection = Selector(graph, wide_paths, "r").select([pattern])
    assert chosen(graph, wide_paths, selection) == set(map(str, expected))
