"""`Nothing`, inputs and outputs that carry order and no value; optional outputs beside them (issue point 3.3, F1)."""

from pathlib import Path
from typing import Any

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    In,
    Nothing,
    OpContext,
    Out,
    Output,
    execute,
    graph,
    job,
    op,
    plan_resume,
    resume,
)
from execution.definition.job import JobDefinition
from execution.errors import StepError, WrongType
from runstore import RunStore
from runstore.audit import explain
from runstore.log.events import OutputStored, StepStarted


@op(out=Out(Nothing))
def prepare() -> None:
    """An output without a value."""


@op
def annotated() -> Nothing:  # type: ignore[valid-type]
    """The same, said by the annotation."""


@op(ins={"start": In(Nothing)})
def work(x: int) -> int:
    return x + 1


@op(ins={"start": In(Nothing)})
def finish() -> str:
    return "done"


@op
def number() -> int:
    return 5


@op(out=DynamicOut(int))
def fan():
    for key in "abc":
        yield DynamicOutput(ord(key), key)


def inputs_of(store: RunStore, step: str) -> dict[str, Any]:
    """What the step's start names."""
    return next(
        event.inputs for _, event in store.step_events("r", step) if isinstance(event, StepStarted)
    )


def test_an_input_that_is_nothing_is_waited_for_and_not_passed(tmp_path: Path) -> None:
    """3.3: `start=handle`, or by place after the others; any output may be waited for; the log names it."""

    @job
    def j() -> None:
        finish(work(number(), start=prepare()))
        finish(annotated())
        work(1, number())

    result = execute(j, tmp_path, run_id="r")
    assert [result.output_for_node(name) for name in ("work", "finish", "finish_2", "work_2")] == [
        6,
        "done",
        "done",
        2,
    ]
    assert result.output_for_node("prepare") is None
    with RunStore.open(tmp_path) as store:
        stored = {
            event.step: seq for seq, event in store.events("r") if isinstance(event, OutputStored)
        }
        assert inputs_of(store, "work") == {"x": stored["number"], "start": stored["prepare"]}
        rows = store.state("r").graph.by_name["work"].inputs
        told = explain(store, "r", "work").facts[0].text
    assert [(one.name, one.order) for one in rows] == [("x", False), ("start", True)]
    x, start = stored["number"], stored["prepare"]
    assert (
        told == f"attempt 1 started; it reads x from seq {x}; it waited for start from seq {start}"
    )
    assert (tmp_path / "outputs/r/prepare/result.json").read_text() == "null"


def test_several_handles_to_one_input(tmp_path: Path) -> None:
    """3.3: a list waits for all of them, mapped and collected ones included."""
    order: list[str] = []

    @op
    def slow(x: int) -> int:
        order.append(f"slow {x}")
        return x

    @op(ins={"after": In(Nothing)})
    def last() -> None:
        order.append("last")

    @job
    def j() -> None:
        last(after=[prepare(), fan().map(slow).collect(), number()])
        last.alias("again")([number()])

    result = execute(j, tmp_path, run_id="r")
    assert result.success
    assert order.index("slow 99") < [at for at, name in enumerate(order) if name == "last"][-1]
    with RunStore.open(tmp_path) as store:
        assert len(inputs_of(store, "last")["after"]) == 3


def test_clones_wait_for_nothing_too(tmp_path: Path) -> None:
    """3.3: a mapped op may wait for a plain step, and for its own piece without reading it."""

    @op(ins={"piece": In(Nothing)}, out=Out(Nothing))
    def tick(context: OpContext) -> None:
        assert context.mapping_key in "abc"

    @op(ins={"ticks": In(Nothing)})
    def count() -> int:
        return 1

    @job
    def j() -> None:
        begun = prepare()
        pieces = fan()
        pieces.map(lambda piece: work(piece, start=begun))
        count(ticks=pieces.map(lambda piece: tick(piece=piece)).collect())

    result = execute(j, tmp_path, run_id="r")
    assert result.output_for_node("work") == {"a": 98, "b": 99, "c": 100}
    assert result.output_for_node("tick") == {"a": None, "b": None, "c": None}
    assert result.output_for_node("count") == 1


def test_nothing_in_nested_maps_and_graphs(tmp_path: Path) -> None:
    """3.3, D7, D10: order is passed through graphs, and waited for at the keys of the waiting step."""
    order: list[str] = []

    @op(out=DynamicOut(int), ins={"start": In(Nothing)})
    def split(context: OpContext, x: int):
        for key in "lr":
            yield DynamicOutput(x, key)

    @op(out=Out(Nothing))
    def leaf(context: OpContext, x: int) -> None:
        order.append(context.step_key)

    @op(ins={"leaves": In(Nothing)})
    def close(context: OpContext, x: int) -> int:
        order.append(context.step_key)
        return x

    @graph
    def branch(x, start):
        leaves = split(x, start=start).map(leaf)
        return close(x, leaves=leaves.collect())

    @job
    def j() -> None:
        begun = prepare()
        fan().map(lambda x: branch(x, begun))

    result = execute(j, tmp_path, run_id="r")
    assert result.output_for_node("branch.close") == {"a": 97, "b": 98, "c": 99}
    for key in "abc":
        closed = order.index(f"branch.close[{key}]")
        assert all(order.index(f"branch.leaf[{key}][{side}]") < closed for side in "lr")


def test_lost_bytes_that_nobody_reads_are_not_made_again(tmp_path: Path) -> None:
    """R6: what is only waited for is neither loaded nor looked at."""
    fails = [True]

    @op(version="1", ins={"start": In(Nothing)})
    def late() -> int:
        if fails[0]:
            raise ValueError("not yet")
        return 1

    @job
    def j() -> None:
        late([number(), prepare()])

    execute(j, tmp_path, run_id="r")
    for file in (tmp_path / "outputs").rglob("*.json"):
        file.unlink()
    fails[0] = False
    assert plan_resume("r", tmp_path, job=j).lost == ()
    assert resume("r", tmp_path, job=j).success


def test_who_only_waited_has_not_read_what_was_lost(tmp_path: Path) -> None:
    """R6: a lost output may come back different where those that succeeded had only waited for it."""
    fails = [True]

    @op(version="1")
    def fickle(context: OpContext) -> int:
        return context.epoch

    @op(version="1")
    def reads(x: int) -> int:
        if fails[0]:
            raise ValueError("not yet")
        return x

    @job
    def j() -> None:
        made = fickle()
        finish(start=made)
        finish(start=[made, fan().map(work).collect()])
        reads(made)

    execute(j, tmp_path, run_id="r")
    (tmp_path / "outputs/r/fickle/result.json").unlink()
    fails[0] = False
    assert resume("r", tmp_path, job=j).output_for_node("reads") == 2


def test_what_is_skipped_or_fails_upstream_counts(tmp_path: Path) -> None:
    """F1: an optional output without a value that is not given skips who waits for it; a failure blocks."""

    @op(out={"yes": Out(Nothing), "no": Out(Nothing, is_required=False), "n": Out(int)})
    def branch():
        yield Output(None, "yes")
        yield Output(3, "n")

    @op(out=Out(Nothing))
    def fails() -> None:
        raise ValueError("no")

    @job
    def j() -> None:
        outs = branch()
        finish.alias("a")(outs.yes)
        finish.alias("b")(outs.no)
        finish.alias("c")(start=[outs.no, outs.n])
        finish.alias("d")(fails())

    result = execute(j, tmp_path, run_id="r")
    with RunStore.open(tmp_path) as store:
        ended = store.state("r").ended
    assert ended is not None
    states = {name: next(iter(counts)) for name, counts in ended.counts.items()}
    assert states == {
        "branch": "succeeded",
        "a": "succeeded",
        "b": "skipped",
        "c": "succeeded",
        "fails": "failed",
        "d": "blocked",
    }
    assert result.output_for_node("a") == "done"


def only(node: Any) -> JobDefinition:
    @job
    def j() -> None:
        node()

    return j


def values(node: Any) -> dict[str, Any]:
    """Output -> value of an op that runs alone; without those that it left out."""
    result = only(node).execute_in_process()
    return {
        name: result.output_for_node(node.name, name)
        for name in node.outs
        if result._state.output_seq(next(iter(result._state.steps_of(_node(result)))), name)
    }


def _node(result: Any) -> Any:
    return result._state.graph.nodes[0]


MIXED = {"done": Out(Nothing), "n": Out(int), "maybe": Out(is_required=False)}


def test_outputs_without_a_value_are_given_by_ending() -> None:
    """3.3: a required one need not be named; a returned value is for those that carry one."""

    @op(out=MIXED)
    def yields():
        yield Output(1, "n")

    @op(out={"done": Out(Nothing), "n": Out(int)})
    def returns() -> Any:
        return 7

    @op(out=MIXED)
    def by_place() -> Any:
        return 8, "x"

    @op(out=MIXED)
    def all_places() -> Any:
        return None, 8, "x"

    assert values(yields) == {"done": None, "n": 1}
    assert values(returns) == {"done": None, "n": 7}
    assert values(by_place) == values(all_places) == {"done": None, "n": 8, "maybe": "x"}


OPTIONAL = {"a": Out(int), "b": Out(is_required=False)}


def test_what_is_none_and_what_is_not_given() -> None:
    """F1: only an output that is not yielded is left out; None, returned or yielded, is a value."""

    @op(out=OPTIONAL)
    def returned() -> Any:
        return 1, None

    @op(out=OPTIONAL)
    def yielded():
        yield Output(None, "b")
        yield Output(1, "a")

    @op(out=OPTIONAL)
    def left_out():
        yield Output(1, "a")

    @op(out=OPTIONAL)
    def returned_one() -> Any:
        return Output(1, "a")

    @op(out={"a": Out(is_required=False), "b": Out(is_required=False)})
    def none() -> None: ...

    @op(out=Out(is_required=False))
    def alone() -> None: ...

    assert values(returned) == values(yielded) == {"a": 1, "b": None}
    assert values(left_out) == values(returned_one) == {"a": 1}
    assert values(none) == {}
    assert values(alone) == {"result": None}


def test_optional_outputs_skip_key_by_key_down_the_chain(tmp_path: Path) -> None:
    """F1: a clone that leaves an output out skips its own chain; the collect gets the rest, with the keys."""

    @op(out={"small": Out(int, is_required=False), "big": Out(int, is_required=False)})
    def sort(x: int):
        yield Output(x, "small" if x < 98 else "big")

    @op
    def both(small: list[int], big: dict[str, int], none: list[int]) -> list[Any]:
        return [small, big, none]

    @op(out=OPTIONAL)
    def never(x: int):
        yield Output(x, "a")

    @job
    def j() -> None:
        pieces = fan()
        sorted_ = pieces.map(sort)
        small = sorted_.small.map(work)
        big = sorted_.big.map(work).map(work)
        both(small.collect(), big.collect(as_dict=True), [number()])
        finish(pieces.map(never).b.collect())

    result = execute(j, tmp_path, run_id="r")
    assert result.output_for_node("both") == [[98], {"b": 100, "c": 101}, [5]]
    assert result.output_for_node("work") == {"a": 98}
    with RunStore.open(tmp_path) as store:
        assert store.state("r").ended is not None
        assert store.state("r").ended.counts["finish"] == {"skipped": 1}  # type: ignore[union-attr]


def test_nothing_has_no_value() -> None:
    """3.3: a value for it fails the step; a direct call passes none."""

    @op(out=Out(Nothing))
    def gives() -> Any:
        return 5

    with pytest.raises(WrongType, match=r"output 'result': \$ is 5 of type int, where NoneType is"):
        only(gives).execute_in_process()
    assert work(1) == 2
    assert work(1, start=None) == 2
    assert prepare() is None

    @op(out=MIXED)
    def twice():
        yield Output(None, "done")
        yield Output(None, "done")

    with pytest.raises(StepError, match="output 'done' twice"):
        only(twice).execute_in_process()
