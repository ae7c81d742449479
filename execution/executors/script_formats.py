"""Formats that were registered in this process, on their way to a worker that has not run the script.

A worker loads the job, and with it what the job's modules register. What only the script has registered, it is given;
and takes up only what it does not know by then.
"""

import pickle
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from runstore.errors import ExtraMissing
from runstore.outputs.formats import registry
from runstore.outputs.formats.pickled import CloudPickle
from runstore.outputs.formats.protocol import Serializer


def packed_formats() -> dict[str, bytes]:
    """Name -> pickle; without those that cannot be pickled, which a worker may know all the same."""
    packed: dict[str, bytes] = {}
    for one in registry.registered():
        # What is defined in a module says where it is, and whatever else it holds may be of any kind.
        with suppress(ExtraMissing, pickle.PicklingError, TypeError, AttributeError, ValueError):
            packed[one.name] = (
                CloudPickle().encode(one, None)
                if _is_of_script(one)
                else pickle.dumps(one, protocol=5)
            )
    return packed


def _is_of_script(one: Serializer) -> bool:
    kind: type[Any] = type(one)
    return kind.__module__ == "__main__" or "<locals>" in kind.__qualname__


def take_up(packed: Mapping[str, bytes]) -> None:
    """Register what is not known here."""
    for name, data in packed.items():
        if registry.find(name) is None:
            registry.register_serializer(pickle.loads(data))  # of the process that started this one
