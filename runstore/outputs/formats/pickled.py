"""Pickles: only where they were asked for in words, and loaded only after their sha256 was that of the log.

A pickle runs what it names when it is loaded. Nothing that merely looks at outputs loads one.
"""

import io
import pickle
from functools import cache
from typing import Any

import msgspec

from runstore.errors import ExtraMissing

_NOTED = "__msgspec_cache__"
"""Where msgspec notes on a class how to decode into it."""


class Pickle:
    """pickle of the standard library, protocol 5."""

    name, extension = "pickle", "pickle"

    def encode(self, value: Any, declared: Any) -> bytes:
        """The pickle."""
        return pickle.dumps(value, protocol=5)

    def decode(self, data: bytes, declared: Any) -> Any:
        """What the pickle makes."""
        return pickle.loads(data)  # only ever bytes whose sha256 is that of the log


class CloudPickle:
    """cloudpickle: also classes and functions of `__main__`, of a notebook, and lambdas."""

    name, extension = "cloudpickle", "pickle"

    def encode(self, value: Any, declared: Any) -> bytes:
        """The pickle, of protocol 5."""
        written = io.BytesIO()
        _pickler()(written, protocol=5).dump(value)
        return written.getvalue()

    def decode(self, data: bytes, declared: Any) -> Any:
        """What the pickle makes."""
        return _cloudpickle().loads(data)


def _cloudpickle() -> Any:
    # Imported late, at its one door: an optional extra.
    try:
        import cloudpickle
    except ImportError:
        raise ExtraMissing.of("cloudpickle", "cloudpickle") from None
    return cloudpickle


@cache
def _pickler() -> Any:
    class Pickler(_cloudpickle().Pickler):  # type: ignore[misc]
        """A pickler to which classes are as they were defined, whatever msgspec has noted on them since."""

        def reducer_override(self, value: Any) -> Any:
            if not isinstance(value, type):
                return super().reducer_override(value)
            if _NOTED in vars(value):
                # The note cannot be pickled; where it is missing msgspec makes it anew.
                type.__delattr__(value, _NOTED)
            reduced = super().reducer_override(value)
            if reduced is not NotImplemented and _would_lose_fields(value):
                raise pickle.PicklingError(
                    f"the Struct {value.__qualname__!r} of {value.__module__} goes by its code, and would come back "
                    "without its fields; a dataclass would not"
                )
            return reduced

    return Pickler


def _would_lose_fields(kind: type[Any]) -> bool:
    """A Struct has the fields that its class is made with; cloudpickle makes the class first, and then fills it."""
    if not issubclass(kind, msgspec.Struct) or not _is_of_script(kind):
        return False
    return len(kind.__struct_fields__) > max(
        len(getattr(base, "__struct_fields__", ())) for base in kind.__bases__
    )


def _is_of_script(kind: type[Any]) -> bool:
    return kind.__module__ == "__main__" or "<locals>" in kind.__qualname__
