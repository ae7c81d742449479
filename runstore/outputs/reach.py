"""Do two processes reach the same outputs? Each leaves an object, and looks for that of the other.

A folder of the same name on two machines is two folders, and nothing but bytes of the other tells. The objects lie
beside the run's outputs; who left one takes it away, and `runstore prune` what a killed process has left.
"""

import hashlib
from contextlib import suppress

from runstore.errors import OutputLost, StorageFailed
from runstore.outputs.output_store import OutputStore


class NotReached(Exception):
    """The other's object is not there; the message says where it was looked for."""


def leave(outputs: OutputStore, name: str) -> None:
    """Leave an object under this name, where new outputs go, and where older ones lie if that can be written.

    Raises StorageFailed where new outputs cannot be written.
    """
    data = _content(name)
    *older, newest = outputs.bases
    for base in older:
        with suppress(StorageFailed):
            base.write(_path(name), data, hashlib.sha256(data).hexdigest())
    newest.write(_path(name), data, hashlib.sha256(data).hexdigest())


def left_in(outputs: OutputStore, name: str) -> list[int]:
    """The numbers of the bases in which the object of this name lies."""
    return [n for n, base in enumerate(outputs.bases) if base.size(_path(name)) is not None]


def look_for(outputs: OutputStore, name: str, bases: list[int] | None = None) -> None:
    """Read the object that the other has left in the bases of these numbers; default: where new outputs go.

    Raises NotReached, and StorageFailed where nothing can be read.
    """
    for number in (len(outputs.bases) - 1,) if bases is None else bases:
        base = outputs.bases[number]
        try:
            found = base.read(_path(name))
        except OutputLost:
            raise NotReached(f"nothing at {base.describe(_path(name))}") from None
        if found != _content(name):
            raise NotReached(f"other bytes at {base.describe(_path(name))}")


def take_away(outputs: OutputStore, name: str) -> None:
    """Delete the object of this name; where that is not allowed it stays."""
    for base in outputs.bases:
        with suppress(StorageFailed):
            base.delete([_path(name)])


def _path(name: str) -> str:
    return f"=probe.{name}"


def _content(name: str) -> bytes:
    return f"a probe of runstore: {name}\n".encode()
