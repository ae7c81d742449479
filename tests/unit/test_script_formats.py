"""Formats on their way to a worker: which of them it takes up, and what it keeps."""

import pickle
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from execution.executors.script_formats import packed_formats, take_up
from runstore.outputs.formats import registry


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(registry.by_name)
    yield
    registry.by_name.clear()
    registry.by_name.update(before)


class Hexadecimal:
    """A format of a module."""

    name, extension = "hexadecimal", "txt"

    def encode(self, value: Any, declared: Any) -> bytes:
        """As text."""
        return b"%x" % value

    def decode(self, data: bytes, declared: Any) -> Any:
        """From text."""
        return int(data, 16)


def of_script(answer: bytes) -> None:
    """Register a format as a script does that is run."""

    class Scripted:
        name, extension = "scripted", "txt"

        def encode(self, value: Any, declared: Any) -> bytes:
            return answer

        def decode(self, data: bytes, declared: Any) -> Any:
            return data

    registry.register_serializer(Scripted())


def test_a_worker_knows_what_the_script_defines_now() -> None:
    """A worker that has served an earlier run of the script takes up the format as it is now."""
    pytest.importorskip("cloudpickle")
    of_script(b"new")
    packed = packed_formats()
    of_script(b"old")
    take_up(packed)
    found = registry.find("scripted")
    assert found is not None
    assert found.encode(1, None) == b"new"


def test_what_a_worker_knows_of_a_module_it_keeps() -> None:
    """A format of a module is taken up where it is not known, and else left as the module has registered it."""
    registry.register_serializer(Hexadecimal())
    packed = packed_formats()
    here = registry.find("hexadecimal")
    take_up(packed)
    assert registry.find("hexadecimal") is here
    del registry.by_name["hexadecimal"]
    take_up(packed)
    assert isinstance(registry.find("hexadecimal"), Hexadecimal)


def test_what_a_worker_cannot_load_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A format of a module that a worker does not have is simply not known there."""
    module = ModuleType("only_here")
    elsewhere = type("Elsewhere", (Hexadecimal,), {"name": "elsewhere", "__module__": "only_here"})
    vars(module)["Elsewhere"] = elsewhere
    monkeypatch.setitem(sys.modules, "only_here", module)
    registry.register_serializer(elsewhere())
    packed = packed_formats()
    monkeypatch.delitem(sys.modules, "only_here")
    del registry.by_name["elsewhere"]
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(packed["elsewhere"].pickled)
    take_up(packed)
    assert registry.find("elsewhere") is None


def test_what_cannot_be_pickled_is_left_behind() -> None:
    """It may be known to workers all the same, by the job's modules."""
    one = Hexadecimal()
    vars(one)["lock"] = sys._getframe()
    registry.register_serializer(one)
    assert "hexadecimal" not in packed_formats()
