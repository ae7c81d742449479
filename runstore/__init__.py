"""Persistent storage and event log for runs that resume.

The log is the run: what has happened is an event in an append-only log, what a run has become is the fold of
its events, and an output is a write-once file that an event names by size and sha256.

A name is imported when it is first used, so that `runstore --help` opens no database.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runstore.errors import (
        ConfigError,
        ExtraMissing,
        FormatTooNew,
        InvalidKey,
        LogDamaged,
        NotReadable,
        NotStorable,
        OutputConflict,
        OutputCorrupted,
        OutputLost,
        OutputMissing,
        RunAlive,
        RunConflict,
        RunInUse,
        RunNotFound,
        RunStoreError,
        StepNotFound,
        StorageFailed,
        StoreBusy,
        StoreNotFound,
        TakenOver,
        TransferFailed,
    )
    from runstore.outputs.reference import OutputReference
    from runstore.outputs.serializers import Serializer, register_serializer, serializer
    from runstore.store import RunStore
    from runstore.stored_runs import RunSummary
    from runstore.version import __version__

_HOMES = {
    "OutputReference": "outputs.reference",
    "RunStore": "store",
    "RunSummary": "stored_runs",
    "Serializer": "outputs.serializers",
    "__version__": "version",
    "register_serializer": "outputs.serializers",
    "serializer": "outputs.serializers",
}  # any other public name is an error

if not TYPE_CHECKING:  # hidden from type checkers, which would believe any name

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"runstore.{_HOMES.get(name, 'errors')}")
        globals()[name] = value = getattr(home, name)
        return value


__all__ = [
    "ConfigError",
    "ExtraMissing",
    "FormatTooNew",
    "InvalidKey",
    "LogDamaged",
    "NotReadable",
    "NotStorable",
    "OutputConflict",
    "OutputCorrupted",
    "OutputLost",
    "OutputMissing",
    "OutputReference",
    "RunAlive",
    "RunConflict",
    "RunInUse",
    "RunNotFound",
    "RunStore",
    "RunStoreError",
    "RunSummary",
    "Serializer",
    "StepNotFound",
    "StorageFailed",
    "StoreBusy",
    "StoreNotFound",
    "TakenOver",
    "TransferFailed",
    "__version__",
    "register_serializer",
    "serializer",
]
