"""The modules that lie beside a job's file, as far as this process has loaded them: have they changed since?

A module lies beside it where it was found by way of the file's folder, which loading puts on the path. What had been
loaded before the first job of the folder is the process's own, and so is the project itself, wherever it lies.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import NamedTuple

_OWN = frozenset(["execution", "runstore"])


class _Folder(NamedTuple):
    """What is known of a folder that has jobs."""

    others: frozenset[str]
    """Names of packages and modules that were there before."""
    since: float
    """When its first job was loaded."""
    digests: dict[str, str]
    """Module -> sha256 of its file, as it was loaded."""


_folders: dict[Path, _Folder] = {}


def before_loading(folder: Path) -> None:
    """To be called before a job of this folder is loaded."""
    if folder not in _folders:
        others = frozenset(name.partition(".")[0] for name in sys.modules) | _OWN
        _folders[folder] = _Folder(others, time(), {})


def after_loading(folder: Path) -> None:
    """To be called after it: what it has imported is as its file is now."""
    known = _folders[folder]
    for name, file in _modules(folder, known):
        if name not in known.digests:
            known.digests[name] = digest_of(file)


def drop_changed(folder: Path) -> bool:
    """Forget the modules beside the jobs of a folder, all of them, as they refer to each other, where the file of one
    has changed since it was loaded; true where that is so.
    """
    known = _folders.get(folder)
    if known is None:
        return False
    loaded = list(_modules(folder, known))
    if not any(_has_changed(name, file, known) for name, file in loaded):
        return False
    for name, _ in loaded:
        sys.modules.pop(name, None)
    known.digests.clear()
    return True


def _modules(folder: Path, known: _Folder) -> Iterator[tuple[str, Path]]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in known.others:
            continue
        path = folder.joinpath(*name.split("."))
        file = getattr(module, "__file__", None)
        if file in (f"{path}.py", str(path / "__init__.py")):
            yield name, Path(file)


def _has_changed(name: str, file: Path, known: _Folder) -> bool:
    try:
        if name in known.digests:
            return digest_of(file) != known.digests[name]
        return file.stat().st_mtime > known.since  # imported by an op, nobody knows when
    except OSError:
        return False


def digest_of(file: Path) -> str:
    """The sha256 of a file; empty where it is gone."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
