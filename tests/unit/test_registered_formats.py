"""Formats of the user's own: by one decorator, or offered by an installed package; and pickles, by an explicit word."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runstore
from runstore.errors import ConfigError, NotReadable, NotStorable
from runstore.outputs.formats import registry
from runstore.outputs.serializers import deserialize, serialize


class Polygon:
    """Something that no format of ours knows."""

    def __init__(self, *corners: int) -> None:
        self.corners = corners


class Square(Polygon):
    """A subclass, which the serializer of its base would turn into the base."""


class Stranger:
    """Something that only an installed package knows."""


class Corners:
    """The corners of a polygon, as text."""

    def encode(self, value: Polygon, declared: Any) -> bytes:
        """As numbers between commas."""
        return ",".join(map(str, value.corners)).encode()

    def decode(self, data: bytes, declared: Any) -> Polygon:
        """From numbers between commas."""
        return Polygon(*map(int, data.split(b",")))


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is known to that test alone."""
    monkeypatch.setattr(registry, "by_name", dict(registry.by_name))
    monkeypatch.setattr(registry, "_by_type", dict(registry._by_type))
    monkeypatch.setattr("runstore.outputs.serializers.by_name", registry.by_name)
    caches = (registry.formats_for, registry._offers, registry._loaded)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def register(**options: Any) -> None:
    """Register the corners of polygons."""
    runstore.serializer("corners", extension="csv", **options)(Corners)


def test_a_decorated_class_is_a_format() -> None:
    """Its types pick it, declared, in a union or not at all; the log names it, and the name is enough to read it."""
    serialize(1)
    with pytest.raises(NotStorable):
        serialize(Polygon(1, 2))
    register(types=(Polygon,))
    for declared in (None, Polygon, Polygon | None, Any):
        stored = serialize(Polygon(1, 2), declared)
        assert stored == (b"1,2", "corners", "csv")
        assert deserialize(stored.data, stored.serializer, declared).corners == (1, 2)
    assert serialize(None, Polygon | None).serializer == "json"
    assert serialize(Polygon(1), compress="zstd").serializer == "corners+zstd"


def test_the_types_of_a_format_are_these_very_classes() -> None:
    """A subclass is another type, and so is what is declared as another one."""
    register(types=[Polygon])
    for value, declared in (
        (Square(1), None),
        (Square(1), Polygon),
        (Polygon(1), Square),
        (1, Polygon),
    ):
        with pytest.raises(NotStorable):
            serialize(value, declared)


def test_without_types_a_format_is_named() -> None:
    """Then only `Out(serializer=…)` picks it."""
    register()
    with pytest.raises(NotStorable):
        serialize(Polygon(1))
    assert serialize(Polygon(1), named="corners").data == b"1"
    with pytest.raises(NotStorable, match="cannot be written as corners: 'int' object has no"):
        serialize(1, named="corners")


def test_a_format_gives_bytes() -> None:
    """What it gives instead is refused when it is stored."""
    runstore.serializer("none", extension="x")(type("N", (Corners,), {"encode": lambda *_: "text"}))
    with pytest.raises(NotStorable, match="it gave str instead of bytes"):
        serialize(1, named="none")


@pytest.mark.parametrize("kind", [str, int, float, bool, bytes, list, dict, type(None), "int", 5])
def test_plain_types_cannot_be_taken(kind: Any) -> None:
    """What text, raw and JSON hold stays theirs."""
    with pytest.raises(ValueError, match="types are classes other than"):
        register(types=(kind,))


def test_a_format_that_is_not_registered_is_named() -> None:
    """A process without the job's code says which serializer is missing, and what to do."""
    for name in ("corners", "corners+zstd"):
        data = b"1" if name == "corners" else serialize(b"1", bytes, compress="zstd").data
        with pytest.raises(
            NotReadable, match="serializer 'corners', which this process does not know; import"
        ):
            deserialize(data, name)


def test_bytes_that_are_no_value_are_told_of() -> None:
    """What a format cannot decode, or not to the declared type of today's code, is one error of ours."""
    with pytest.raises(
        NotReadable, match=r"3 bytes of json are no int here: ValidationError.*code that stored"
    ):
        deserialize(b'"a"', "json", int)
    with pytest.raises(NotReadable, match="bytes of pickle are no value here: "):
        deserialize(b"garbage", "pickle")


# Formats of installed packages


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a distribution: a module `strange` and its entry points."""

    def install(module: str, points: str) -> None:
        (tmp_path / "strange.py").write_text(module)
        folder = tmp_path / "strange_formats-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: strange-formats\nVersion: 1.0\n"
        )
        (folder / "entry_points.txt").write_text(f"[runstore.serializers]\n{points}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "strange", raising=False)

    yield install
    sys.modules.pop("strange", None)


STRANGE = """
from tests.unit.test_registered_formats import Stranger

class Strange:
    name, extension, types = "strange", "str", (Stranger,)
    def encode(self, value, declared): return b"!"
    def decode(self, data, declared): return Stranger()
"""


@pytest.mark.parametrize("target", ["strange:Strange", "strange:made"])
def test_an_installed_package_offers_a_format(installed: Any, target: str) -> None:
    """By its name and by its types, as a class or an object; it is imported when nothing else is found."""
    installed(STRANGE + "\nmade = Strange()\n", f"strange = {target}")
    assert serialize([1, {"a": None}]).serializer == "json"
    assert "strange" not in sys.modules
    for declared in (None, Stranger, Stranger | None):
        assert serialize(Stranger(), declared) == (b"!", "strange", "str")
    assert "strange" in sys.modules
    assert serialize(Stranger(), named="strange").data == b"!"
    assert type(deserialize(b"!", "strange")) is Stranger
    with pytest.raises(NotStorable, match="is not exactly the declared type Polygon"):
        serialize(Stranger(), Polygon)


@pytest.mark.parametrize(
    ("module", "points", "told"),
    [
        (
            "import nowhere",
            "strange = strange:Strange",
            "ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("x = 1", "strange = strange:Strange", "AttributeError.*'Strange'"),
        (STRANGE, "other = strange:Strange", "ValueError: strange:Strange is named 'strange'"),
        ("class Strange: pass", "strange = strange:Strange", "AttributeError.*'name'"),
    ],
)
def test_a_broken_package_is_named(installed: Any, module: str, points: str, told: str) -> None:
    """A package whose format cannot be loaded is one error that names its distribution; nothing else is held up."""
    installed(module, points)
    assert serialize([1]).serializer == "json"
    name = points.partition(" ")[0]
    for use in (
        lambda: serialize(Stranger()),
        lambda: serialize(1, named=name),
        lambda: deserialize(b"", name),
    ):
        with pytest.raises(
            ConfigError,
            match=rf"serializer '{name}' of strange-formats cannot be loaded: {told}.*; mend or uninstall strange-f",
        ):
            use()


# Pickles


def test_pickles_need_their_word() -> None:
    """`pickle` and `cloudpickle` are never picked by a type, only named; cloudpickle takes what has no module."""
    local = type("Local", (), {})
    with pytest.raises(NotStorable, match="allow pickle with"):
        serialize(local())
    with pytest.raises(NotStorable, match="cannot be written as pickle"):
        serialize(local(), named="pickle")
    stored = serialize(local(), named="cloudpickle")
    assert (stored.serializer, stored.extension) == ("cloudpickle", "pickle")
    assert type(deserialize(stored.data, stored.serializer)).__name__ == "Local"
    assert deserialize(serialize(lambda: 7, named="cloudpickle").data, "cloudpickle")() == 7
