"""3.11: an op called outside every job is the function that it is, checked as in a run."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    Out,
    Output,
    build_op_context,
    job,
    op,
)
from execution.errors import DefinitionError, StepError


@op
def add(x: int, y: int = 10) -> int:
    return x + y


@op
def scaled(context: OpContext, x: int) -> int:
    return int(context.op_config["by"]) * x


class Config(msgspec.Struct):
    by: int


@op
def configured(config: Config, x: int) -> int:
    return config.by * x


@op(out={"a": Out(), "b": Out(is_required=False)})
def two() -> Iterator[Output[int]]:
    yield Output(1, "a")


@op(out=DynamicOut())
def letters(word: str) -> Iterator[DynamicOutput[str]]:
    for letter in word:
        yield DynamicOutput(letter, letter)


@op
async def later(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@op(out=DynamicOut())
async def later_letters(word: str) -> AsyncIterator[DynamicOutput[str]]:
    for letter in word:
        await asyncio.sleep(0)
        yield DynamicOutput(letter, letter)


def test_a_plain_op_gives_its_value() -> None:
    """Arguments by place, by name and by default, as in Python."""
    assert (add(1, 2), add(1), add(y=1, x=1)) == (3, 11, 2)


def test_an_op_with_a_context_takes_it_first() -> None:
    """By place or by name; None stands for an empty one; an op that wants none may be given one all the same."""
    context = build_op_context(config={"by": 3})
    assert scaled(context, 2) == scaled(context=context, x=2) == 6
    assert scaled(build_op_context(op_config={"by": 4}), x=1) == 4
    assert add(context, 1, 2) == 3
    with pytest.raises(KeyError):
        scaled(None, 1)


def test_a_config_is_given_by_name_or_with_the_context() -> None:
    """Positions are those of inputs, wherever the function has its config."""
    assert configured(3, config=Config(2)) == 6
    assert configured(build_op_context(config={"by": 2}), 3) == 6


def test_what_a_built_context_says() -> None:
    """Every field has its argument, and a default that is plainly no run's."""
    context = build_op_context(mapping_key="k", run_id="r", tags={"team": "a"}, attempt=2)
    assert (context.mapping_key, context.key_path) == ("k", ("k",))
    assert (context.run_id, context.tags, context.attempt) == ("r", {"team": "a"}, 2)
    assert build_op_context().run_id == "EPHEMERAL"
    assert build_op_context().op_config == {}


def test_outputs_come_as_they_are_given() -> None:
    """A generator gives its generator, of Output and DynamicOutput objects; what is returned is returned."""
    assert list(two()) == [Output(1, "a")]
    assert [one.mapping_key for one in letters("ab")] == ["a", "b"]

    @op(out=DynamicOut())
    def listed() -> list[DynamicOutput[int]]:
        return [DynamicOutput(1, "a")]

    assert listed() == [DynamicOutput(1, "a")]


def test_async_ops_give_their_coroutine_or_stream() -> None:
    """The caller awaits, in a loop of its own."""

    async def taken() -> list[str]:
        return [one.value async for one in later_letters("ab")]

    assert asyncio.run(later(1)) == 2
    assert asyncio.run(taken()) == ["a", "b"]


def _twice() -> Any:
    @op(out=DynamicOut())
    def same() -> Iterator[DynamicOutput[int]]:
        yield DynamicOutput(1, "a")
        yield DynamicOutput(2, "a")

    return list(same())


def _incomplete() -> Any:
    @op(out={"a": Out(), "b": Out()})
    def half() -> Iterator[Output[int]]:
        yield Output(1, "a")

    return list(half())


def _wrong_output() -> Any:
    @op
    def wrong() -> Output[int]:
        return Output(1, "other")

    return wrong()


def _wrong_async() -> Any:
    @op
    async def wrong_later() -> Output[int]:
        return Output(1, "other")

    return asyncio.run(wrong_later())


@pytest.mark.parametrize(
    ("call", "error", "parts"),
    [
        (_twice, StepError, ["'same'", "'a' twice"]),
        (_incomplete, StepError, ["'half' ended without output b"]),
        (_wrong_output, StepError, ["'wrong' gave output 'other'"]),
        (_wrong_async, StepError, ["'wrong_later' gave output 'other'"]),
        (lambda: add(), DefinitionError, ["op 'add', called outside a job", "input 'x'"]),
        (
            lambda: configured(Config(2), 1),
            DefinitionError,
            [
                "2 values were given for 1 inputs",
                "pass config by name",
                "build_op_context(config=…",
            ],
        ),
        (lambda: add(1, 2, 3), DefinitionError, ["takes 2 inputs, 3 were given"]),
        (lambda: add(1, z=3), DefinitionError, ["has no input 'z'; it has x, y"]),
        (lambda: add(1, x=3), DefinitionError, ["input 'x' was given twice"]),
        (lambda: scaled(1), DefinitionError, ["'scaled' takes a context", "build_op_context()"]),
    ],
)
def test_what_does_not_fit_is_said(
    call: Callable[[], Any], error: type[Exception], parts: list[str]
) -> None:
    """What is given in and what comes out is checked as in a run; the error names the op."""
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_an_alias_is_called_as_well() -> None:
    """`add.alias("plus")` outside a job is the same function."""
    assert add.alias("plus")(1, 2) == 3


def test_inside_a_job_a_call_is_a_node() -> None:
    """The body of a job still records; a call afterwards is a call."""

    @job
    def sums() -> None:
        add(add(1, 2), 3)

    assert [node.name for node in sums.graph.nodes] == ["add", "add_2"]
    assert add(1, 2) == 3
