"""Pickles: only where they were asked for in words, and loaded only after their sha256 was that of the log.

A pickle runs what it names when it is loaded. Nothing that merely looks at outputs loads one.
"""

import pickle
from typing import Any

from runstore.errors import ExtraMissing


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
        return bytes(_cloudpickle().dumps(value, protocol=5))

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
