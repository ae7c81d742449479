"""The vocabulary of the log: every kind round-trips, and anything that is not of it is refused."""

import functools
import inspect
import json
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.errors import FormatTooNew, LogDamaged, RunStoreError
from runstore.log.codec import decode, encode
from runstore.log.events import FORMAT_VERSION, KINDS, AnyEvent, Event, RunStarted
from tests.unit.logs import body, run_started
from tests.unit.strategies import fields

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


@functools.cache  # hypothesis validates each strategy once, and as often as it is built
def _of_kind(kind: type[Event]) -> st.SearchStrategy[Event]:
    return st.builds(kind, **{**fields(kind), **_fixed(kind)})


def _fixed(kind: type[Event]) -> dict[str, st.SearchStrategy[int]]:
    return {"format": st.just(FORMAT_VERSION)} if kind is RunStarted else {}


@every_kind
@given(data=st.data())
def test_every_kind_round_trips(kind: type[Event], data: st.DataObject) -> None:
    """Any value of any kind comes back from its row equal and of the same type, and gives the same row again."""
    event = data.draw(_of_kind(kind))
    row = encode(event)
    back = decode(row, "r", 1)
    assert type(back) is kind
    assert back == event
    assert encode(back) == row


@every_kind
@given(data=st.data())
def test_rows_have_full_names(kind: type[Event], data: st.DataObject) -> None:
    """A row is a JSON object that names its kind and each field in full."""
    row = json.loads(encode(data.draw(_of_kind(kind))))
    assert row.pop("kind") == kind.__name__
    assert set(row) <= set(kind.__struct_fields__)


def test_there_is_a_class_for_each_kind() -> None:
    """No kind is left out of the table by which rows are read."""
    assert set(KINDS.values()) == set(typing.get_args(AnyEvent))
    assert {kind.__name__ for kind in Event.__subclasses__()} == set(KINDS)


@every_kind
def test_events_are_frozen_and_documented(kind: type[Event]) -> None:
    """An event is a value: nobody changes one, and each says what it means."""
    assert kind.__struct_config__.frozen
    assert inspect.getdoc(kind)


@every_kind
@given(data=st.data())
def test_unknown_fields_are_refused(kind: type[Event], data: st.DataObject) -> None:
    """A field that this version does not know is never dropped in silence."""
    row = json.loads(encode(data.draw(_of_kind(kind))))
    with pytest.raises(LogDamaged, match=r"run 'r', seq 7: .*nothing was written"):
        decode(json.dumps({**row, "colour": 1}), "r", 7)


def test_unknown_kinds_and_newer_formats_ask_for_an_upgrade() -> None:
    """What a newer version wrote is refused as such, naming run, seq, and the format known here."""
    newer = json.loads(body(run_started())) | {"format": FORMAT_VERSION + 1}
    for row in ({"kind": "StepDreamt", "epoch": 1}, newer, newer | {"mood": "good"}):
        with pytest.raises(FormatTooNew, match=r"run 'r', seq 7: .*Upgrade runstore"):
            decode(json.dumps(row), "r", 7)


@pytest.mark.parametrize("number", [0, -1])
def test_impossible_formats_are_damage(number: int) -> None:
    """A first event without its format, or with one that never was, is refused."""
    row = json.loads(body(run_started())) | {"format": number}
    with pytest.raises(LogDamaged, match="seq 1"):
        decode(json.dumps(row), "r", 1)


@given(st.data())
def test_cut_and_altered_rows_are_refused(data: st.DataObject) -> None:
    """No cut of a row is read as an event, and no garbage as anything."""
    kind = data.draw(st.sampled_from(list(KINDS.values())))
    row = encode(data.draw(_of_kind(kind)))
    cut = row[: data.draw(st.integers(0, len(row) - 1))]
    garbage = data.draw(st.text() | st.just("[" * 5000) | st.just("\ud800"))
    for text in (cut, garbage, f"[{row}]", row.replace('"kind"', '"kinds"')):
        with pytest.raises(RunStoreError, match=r"seq 3: .*nothing was written"):
            decode(text, "r", 3)


def test_building_an_event_does_nothing() -> None:
    """An event without envelope is not stamped until the recorder stamps it."""
    assert run_started().epoch == 0
    assert msgspec.structs.replace(run_started(), epoch=3).epoch == 3
