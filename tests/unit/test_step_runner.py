"""One attempt of one step: the forms of D2, keys, X1, and errors as text (F5)."""

import random
import re
import secrets
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution import DynamicOut, DynamicOutput, OpContext, Out, Output, op
from execution.definition.op import OpDefinition
from execution.running.failing import MAX_ERROR_TEXT, describe_error
from execution.running.inputs import Given
from execution.running.step_runner import run_step
from execution.running.told import Ticket, Told
from runstore.errors import StorageFailed, TransferFailed
from runstore.log.codec import decode, keys_digest
from runstore.log.events import (
    AnyEvent,
    DynamicOutputStored,
    ExpansionSealed,
    OutputStored,
    StepFailed,
    StepSucceeded,
)
from runstore.outputs.output_store import AHEAD, OutputStore, open_base
from runstore.outputs.remote import RemoteBase
from runstore.outputs.serializers import deserialize
from tests.unit.logs import body


def new_outputs() -> OutputStore:
    """A place for outputs in memory."""
    return OutputStore([open_base(f"memory://{secrets.token_hex(8)}", durable=False)])


class FarBase(RemoteBase):
    """Memory that is as worth waiting for as a service."""

    reads = writes = window = 16

    def __init__(self) -> None:
        super().__init__(f"memory://{secrets.token_hex(8)}")


def far_outputs() -> OutputStore:
    """A place for outputs where several are on their way at once."""
    return OutputStore([FarBase()])


def attempt(
    definition: OpDefinition,
    outputs: OutputStore | None = None,
    **arguments: Any,
) -> list[AnyEvent]:
    """The events of an attempt."""
    context = OpContext("r", "j", definition.name, (), 1, 1)
    given = {name: Given(value) for name, value in arguments.items()}
    ticket = Ticket(definition, context, given, definition.name)
    told = [one for one in run_step(ticket, outputs or new_outputs()) if isinstance(one, Told)]
    assert [one.is_last for one in told] == [False] * (len(told) - 1) + [True]
    return [event for one in told for event in one.events]


def values(definition: OpDefinition, **arguments: Any) -> dict[tuple[str, str | None], Any]:
    """(output, mapping key) -> value of an attempt that must succeed."""
    outputs = new_outputs()
    events = attempt(definition, outputs, **arguments)
    assert isinstance(events[-1], StepSucceeded), events[-1]
    return {
        (event.output, getattr(event, "mapping_key", None)): deserialize(
            outputs.get(event.reference),
            event.reference.serializer,
            definition.declared[event.output],
        )
        for event in events
        if isinstance(event, OutputStored | DynamicOutputStored)
    }


def error(definition: OpDefinition, **arguments: Any) -> str:
    """Type and message of an attempt that must fail."""
    last = attempt(definition, **arguments)[-1]
    assert isinstance(last, StepFailed), last
    return f"{last.error.type}: {last.error.message}"


TWO = {"a": Out(), "b": Out()}
MIXED = {"a": Out(), "d": DynamicOut()}
DYNAMICS = {"d": DynamicOut(), "e": DynamicOut()}
PIECES = [DynamicOutput(1, "x"), DynamicOutput(2, "y")]


def _of(*given: Any) -> Iterator[Any]:
    yield from given


FORMS: list[tuple[Any, Any, dict[tuple[str, str | None], Any]]] = [
    (None, lambda: 1, {("result", None): 1}),
    (None, lambda: None, {("result", None): None}),
    (None, lambda: [], {("result", None): []}),
    (None, lambda: Output(1), {("result", None): 1}),
    (None, lambda: _of(Output(1)), {("result", None): 1}),
    (Out(is_required=False), lambda: _of(), {}),
    (DynamicOut(), lambda: _of(*PIECES), {("result", "x"): 1, ("result", "y"): 2}),
    (DynamicOut(), lambda: list(PIECES), {("result", "x"): 1, ("result", "y"): 2}),
    (DynamicOut(), lambda: tuple(PIECES), {("result", "x"): 1, ("result", "y"): 2}),
    (DynamicOut(), lambda: PIECES[0], {("result", "x"): 1}),
    (DynamicOut(), lambda: _of(), {}),
    (DynamicOut(), lambda: [], {}),
    (DynamicOut(), lambda: None, {}),
    (DynamicOut(), lambda: _of(DynamicOutput(1, 7)), {("result", "7"): 1}),
    (TWO, lambda: (1, 2), {("a", None): 1, ("b", None): 2}),
    (TWO, lambda: (Output(1, "a"), Output(2, "b")), {("a", None): 1, ("b", None): 2}),
    (TWO, lambda: (Output(2, "b"), Output(1, "a")), {("b", None): 2, ("a", None): 1}),
    (TWO, lambda: (Output(1), Output(2)), {("a", None): 1, ("b", None): 2}),
    (TWO, lambda: (1, Output(2, "b")), {("a", None): 1, ("b", None): 2}),
    (TWO, lambda: (1, Output(2)), {("a", None): 1, ("b", None): 2}),
    (TWO, lambda: _of(Output(2, "b"), Output(1, "a")), {("b", None): 2, ("a", None): 1}),
    (MIXED, lambda: (5, [DynamicOutput(1, "x", "d")]), {("a", None): 5, ("d", "x"): 1}),
    (MIXED, lambda: (5, []), {("a", None): 5}),
    (
        MIXED,
        lambda: _of(DynamicOutput(1, "x", "d"), Output(5, "a")),
        {("d", "x"): 1, ("a", None): 5},
    ),
    (
        DYNAMICS,
        lambda: ([DynamicOutput(1, "x", "d")], [DynamicOutput(2, "x", "e")]),
        {("d", "x"): 1, ("e", "x"): 2},
    ),
    (DYNAMICS, lambda: ([DynamicOutput(1, "x", "d")], []), {("d", "x"): 1}),
    ({}, lambda: None, {}),
]


@pytest.mark.parametrize("form", FORMS)
def test_what_an_op_gives(form: Any) -> None:
    """D2: outputs may be yielded in any order, returned one by one, as a tuple by position or name, or as a list."""
    out, function, expected = form
    definition = op(name="f", out=out)(function)
    assert list(values(definition).items()) == list(expected.items())


WRONG: list[tuple[Any, Any, str]] = [
    (
        DynamicOut(),
        lambda: 5,
        "step 'f' returned a int; yield Output and DynamicOutput for its outputs result, or return a list",
    ),
    (DynamicOut(), lambda: [1], "step 'f' returned a list; yield"),
    (TWO, lambda: (1, 2, 3), "step 'f' returned a tuple; yield .* for its outputs a, b"),
    (
        TWO,
        lambda: _of(1),
        r"step 'f' yielded a int; yield Output\(value\) or DynamicOutput\(value, mapping_key\)",
    ),
    (
        TWO,
        lambda: _of(Output(1, "a")),
        "step 'f' ended without output b; yield it, or declare it is_required=False",
    ),
    (
        TWO,
        lambda: _of(Output(1, "a"), Output(1, "a")),
        "step 'f' gave output 'a' twice; give each output once",
    ),
    (TWO, lambda: _of(Output(1, "c")), "step 'f' gave output 'c'; op 'f' has a, b"),
    (TWO, lambda: None, "step 'f' ended without output a, b"),
    (
        MIXED,
        lambda: _of(Output(1, "d")),
        "gave an Output for 'd', which is a DynamicOut; yield DynamicOutput",
    ),
    (
        MIXED,
        lambda: _of(DynamicOutput(1, "k", "a")),
        "gave a DynamicOutput for 'a', which is not a DynamicOut; yield Output",
    ),
    (
        DynamicOut(),
        lambda: _of(DynamicOutput(1, "")),
        "InvalidKey: step 'f', output 'result': mapping key '' is empty; use",
    ),
    (
        DynamicOut(),
        lambda: _of(DynamicOutput(1, None)),
        "InvalidKey: step 'f', output 'result': mapping key None is a NoneType; use",
    ),
    (
        DynamicOut(int),
        lambda: _of(DynamicOutput("a", "k")),
        r"WrongType: step 'f', output 'result': \$ is 'a' of type str, where int is declared; return that type",
    ),
    (
        None,
        lambda: object(),
        "NotStorable: step 'f', output 'result': a value of type object, .* allow pickle",
    ),
    (
        Out(serializer="arrow"),
        lambda: 1,
        "NotStorable: step 'f', output 'result': no serializer is named 'arrow'",
    ),
    (None, lambda: 1 / 0, "^ZeroDivisionError: division by zero$"),
    (
        DynamicOut(),
        lambda: _of(PIECES[0], *(1 / 0 for _ in "a")),
        "^ZeroDivisionError: division by zero$",
    ),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_what_an_op_must_not_give(wrong: Any) -> None:
    """D2, K1: what was not declared fails the step, with the step, the fact and what to give instead."""
    out, function, text = wrong
    message = error(op(name="f", out=out)(function))
    assert re.search(text, message), message


@given(st.lists(st.sampled_from("abcdé"), max_size=8))
def test_a_key_twice_is_refused_with_both_positions(keys: list[str]) -> None:
    """K1: the same key twice in one output is an error that names the key and the positions of both yields."""
    definition = op(name="f", out=DynamicOut())(
        lambda: _of(*(DynamicOutput(0, key) for key in keys))
    )
    twice = next((place for place, key in enumerate(keys) if key in keys[:place]), None)
    events = attempt(definition)
    if twice is None:
        assert isinstance(events[-1], StepSucceeded)
        return
    assert isinstance(events[-1], StepFailed)
    assert len(events) == twice + 1
    first = keys.index(keys[twice])
    assert events[-1].error.message == (
        f"step 'f' yielded mapping key {keys[twice]!r} twice, as items {first + 1} and {twice + 1}; "
        "mapping keys must be unique within one output"
    )


def test_an_int_and_its_text_are_one_key() -> None:
    """K1: an int key is its decimal text, so 1 and "1" are the same key twice."""
    definition = op(name="f", out=DynamicOut())(
        lambda: _of(DynamicOutput(0, 1), DynamicOutput(0, "1"))
    )
    assert "mapping key '1' twice, as items 1 and 2" in error(definition)


def test_keys_that_look_alike_are_warned_of() -> None:
    """K1: the two Unicode forms of a key are two keys, with a warning that names both; other keys give none."""
    definition = op(name="f", out=DynamicOut())(
        lambda: _of(*(DynamicOutput(0, key) for key in ("e", "e\u0301", "è", "é")))
    )
    with pytest.warns(
        UserWarning, match="step 'f': mapping keys .* look alike but are different Unicode forms"
    ) as caught:
        events = attempt(definition)
    assert len(caught) == 1
    assert isinstance(events[-1], StepSucceeded)
    plain = op(name="f", out=DynamicOut())(
        lambda: _of(*(DynamicOutput(0, key) for key in ("e", "é", "E", "É")))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attempt(plain)


def test_each_dynamic_output_is_sealed() -> None:
    """X2: a success is told after a seal for each dynamic output, with count and digest of the keys in order."""
    definition = op(name="f", out=DYNAMICS)(
        lambda: _of(DynamicOutput(0, "b", "d"), DynamicOutput(0, "a", "d"))
    )
    *_, d, e, last = attempt(definition)
    assert (d, e) == (
        ExpansionSealed("f", "d", 2, keys_digest(["b", "a"])),
        ExpansionSealed("f", "e", 0, keys_digest([])),
    )
    assert isinstance(last, StepSucceeded)


# X1


class Big(msgspec.Struct, weakref=True):
    """A value that can be watched."""

    number: int


@pytest.mark.parametrize("far", [False, True])
def test_a_value_is_stored_and_forgotten_before_the_next(far: bool) -> None:
    """X1: when the generator is asked for the next value, the last was serialized and is no longer held by anybody."""
    seen: list[weakref.ref[Big]] = []
    alive: list[bool] = []

    def make(number: int) -> DynamicOutput[Big]:
        value = Big(number)
        seen.append(weakref.ref(value))
        return DynamicOutput(value, number)

    @op(out=DynamicOut(Big))
    def f():
        for number in range(5):
            yield make(number)
            alive.append(seen[-1]() is not None)

    events = attempt(f, far_outputs() if far else None)
    assert isinstance(events[-1], StepSucceeded)
    assert alive == [False] * 5


def test_a_value_that_is_changed_afterwards_was_stored_as_it_was() -> None:
    """X1: a generator may reuse its list: each piece is what it was when it was yielded."""

    @op(out=DynamicOut())
    def f():
        buffer: list[int] = []
        for number in range(30):
            buffer.append(number)
            yield DynamicOutput(buffer, number)
            buffer.append(-1)

    outputs = far_outputs()
    events = attempt(f, outputs)
    stored = [event for event in events if isinstance(event, DynamicOutputStored)]
    for number, event in enumerate(stored):
        found = deserialize(outputs.get(event.reference), "json")
        assert found[-1] == number
        assert len(found) == 2 * number + 1


def test_stores_overlap_in_a_bounded_window_and_are_told_in_order() -> None:
    """X1: at most 16 stores are in flight, the generator waits for room, and events come in the order of yields."""
    lock = threading.Lock()
    finished: list[str] = []
    yielded = most_ahead = 0

    class Slow(FarBase):
        """Each write takes a while, one longer than another."""

        def write(self, path: str, data: bytes, sha256: str) -> None:
            """Late."""
            time.sleep(random.random() * 0.004)
            super().write(path, data, sha256)
            with lock:
                finished.append(path.rpartition("/")[2].removesuffix(".json"))

    outputs = OutputStore([Slow()])

    @op(out=DynamicOut())
    def f():
        nonlocal yielded, most_ahead
        for number in range(100):
            with lock:
                most_ahead = max(most_ahead, yielded - len(finished))
            yielded += 1
            yield DynamicOutput(number, number)

    events = attempt(f, outputs)
    keys = [event.mapping_key for event in events if isinstance(event, DynamicOutputStored)]
    assert keys == [str(number) for number in range(100)]
    assert finished != keys, "stores did overlap"
    assert 1 < most_ahead <= AHEAD


def test_an_event_comes_after_its_bytes() -> None:
    """Bytes, then event: when a worker tells of an output, its bytes can be read."""
    outputs = far_outputs()
    definition = op(name="f", out=DynamicOut())(
        lambda: _of(*(DynamicOutput(n, n) for n in range(40)))
    )
    context = OpContext("r", "j", "f", (), 1, 1)
    for told in run_step(Ticket(definition, context, {}, "f"), outputs):
        for event in told.events if isinstance(told, Told) else ():
            if isinstance(event, DynamicOutputStored):
                assert outputs.is_there(event.reference, deep=True)


def test_a_generator_tells_as_it_goes() -> None:
    """X1: what a generator yields is told before it ends, so that a crash keeps what was done."""

    @op(out=DynamicOut())
    def f():
        yield DynamicOutput(1, "a")
        raise AssertionError("was asked for more before the first was told")

    context = OpContext("r", "j", "f", (), 1, 1)
    told = next(run_step(Ticket(f, context, {}, "f"), new_outputs()))
    assert isinstance(told.events[0], DynamicOutputStored)


class FullBase(FarBase):
    """Takes nothing."""

    error: type[StorageFailed] = StorageFailed

    def write(self, path: str, data: bytes, sha256: str) -> None:
        """Refuse."""
        raise self.error("No space left on device")


@pytest.mark.parametrize("in_flight", [1, 16])
def test_a_storage_that_refuses_stops_the_run_not_the_step(
    in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is nobody's fault: it is raised as it is, and no StepFailed blames the op."""
    monkeypatch.setattr(FullBase, "writes", in_flight)
    definition = op(name="f", out=DynamicOut())(lambda: _of(*PIECES))
    with pytest.raises(StorageFailed, match="No space left"):
        attempt(definition, OutputStore([FullBase()]))


@pytest.mark.parametrize("in_flight", [1, 16])
def test_a_transfer_that_failed_for_good_fails_the_attempt(
    in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be bad luck of one output is a failed attempt, which a policy or a resume tries again."""
    monkeypatch.setattr(FullBase, "writes", in_flight)
    monkeypatch.setattr(FullBase, "error", TransferFailed)
    definition = op(name="f", out=DynamicOut())(lambda: _of(*PIECES))
    (failed,) = attempt(definition, OutputStore([FullBase()]))
    assert isinstance(failed, StepFailed)
    assert failed.error.type == "runstore.errors.TransferFailed"


# F5


class ReprRaises(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class Weird(type):
    """A metaclass whose classes cannot be shown either."""

    def __repr__(cls) -> str:
        raise RuntimeError("no repr")


class WeirdError(Exception, metaclass=Weird):
    """Of a type that cannot be shown."""


def _chained() -> Exception:
    try:
        try:
            raise ReprRaises
        except ReprRaises as cause:
            raise ValueError("outer") from cause
    except ValueError as raised:
        return raised


ERRORS = [
    ReprRaises(),
    WeirdError("x"),
    ValueError("\ud800 lone"),
    ValueError("a\0b"),
    ValueError("x" * 1_000_000),
    ValueError(),
    KeyError("k"),
    ExceptionGroup("many", [ValueError("a"), ReprRaises()]),
    _chained(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    SystemExit(3),
    ValueError(ReprRaises()),
    OSError(28, "full"),
    RecursionError(),
    Exception(object()),
    StopIteration(5),
]


@pytest.mark.parametrize("raised", ERRORS, ids=range(len(ERRORS)))
def test_any_error_becomes_text(raised: BaseException) -> None:
    """F5: whatever an error does when it is shown, however long it is, it is stored as text that the log can hold."""

    def fail() -> None:
        raise raised

    last = attempt(op(name="f")(fail))[-1]
    assert isinstance(last, StepFailed)
    assert last.error.type.endswith(type(raised).__qualname__)
    assert "Traceback" in last.error.traceback or "File" in last.error.traceback
    for text in (last.error.type, last.error.message, last.error.traceback):
        assert len(text) <= MAX_ERROR_TEXT + 100
        assert "\0" not in text
        text.encode()
    assert decode(body(last), "r", 1).error == last.error  # type: ignore[union-attr]


def test_what_is_left_out_of_a_long_text_is_said() -> None:
    """F5: a long text keeps its beginning and its end, and says how much is missing."""
    message = describe_error(ValueError("BEGIN" + "x" * 1_000_000 + "END")).message
    assert message.startswith("BEGIN")
    assert message.endswith("END")
    assert "characters left out" in message


def test_types_of_errors_are_shown_with_their_module() -> None:
    """F5: a built-in error by its name, another with its module."""
    assert describe_error(ValueError("x")).type == "ValueError"
    assert describe_error(ReprRaises()).type == f"{__name__}.ReprRaises"


def test_an_interrupt_is_not_a_failure_of_the_step() -> None:
    """Ctrl-C belongs to the run, not to the op that happened to be running."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(op(name="f")(interrupted))
