"""Formats that were registered in this process, on their way to a worker that has not run the script.

A worker loads the job, and with it what the job's modules register. What the script defines it is given, in place of
what a worker that serves many runs has kept of an earlier one; what is defined in a module it takes up only where it
does not know it by then.
"""

import pickle
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from runstore.errors import ExtraMissing
from runstore.outputs.formats import registry
from runstore.outputs.formats.pickled import CloudPickle
from runstore.outputs.formats.protocol import Serializer


class PackedFormat(NamedTuple):
    """One, on its way."""

    pickled: bytes
    is_of_script: bool
    """Its code travels; else it says where that is."""


def packed_formats() -> dict[str, PackedFormat]:
    """By name; without those that cannot be pickled, which a worker may know all the same."""
    packed: dict[str, PackedFormat] = {}
    for one in registry.registered():
        with suppress(ExtraMissing, pickle.PicklingError, TypeError, AttributeError, ValueError):
            packed[one.name] = _packed(one)
    return packed


def _packed(one: Serializer) -> PackedFormat:
    kind: type[Any] = type(one)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        return PackedFormat(CloudPickle().encode(one, None), True)
    return PackedFormat(pickle.dumps(one, protocol=5), False)


def take_up(packed: Mapping[str, PackedFormat]) -> None:
    """Register what is not known here; what cannot be loaded is missed where something is to be stored in it."""
    for name, (pickled, is_of_script) in packed.items():
        if is_of_script or registry.find(name) is None:
            with suppress(ImportError, AttributeError):
                registry.register_serializer(pickle.loads(pickled))  # of the executor's process
