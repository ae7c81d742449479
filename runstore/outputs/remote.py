"""Outputs on anything else that fsspec reaches: `memory://` today, object stores by their own packages.

One request writes an object whole; no listing in the run or resume path.
"""

import contextlib
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import fsspec

from runstore import failpoints
from runstore.errors import ConfigError, OutputMissing, StorageFailed


def scheme_of(url: str) -> str:
    """`file` for a plain path, else the part before `://`."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator else "file"


def public_url(url: str) -> str:
    """The URL without anything that may be a credential: user, password, query and fragment."""
    if scheme_of(url) == "file":
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class RemoteBase:
    """A prefix of a filesystem of fsspec."""

    parallel = 16

    def __init__(self, url: str) -> None:
        self.root = public_url(url)
        try:
            self._fs, self._prefix = _open(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(
                f"outputs cannot go to {self.root}: {str(error).replace(url, self.root)}; use a path, file:// or memory://, "
                "or install the package that fsspec names for this scheme"
            ) from None

    def write(self, path: str, data: bytes) -> None:
        """Store `data` under `path` in one request; raises StorageFailed naming the object."""
        failpoints.reached("output.before", self.describe(path))
        with self._translated(path):
            self._fs.pipe_file(f"{self._prefix}/{path}", data)
        failpoints.reached("output.after", self.describe(path))

    def read(self, path: str) -> bytes:
        """The bytes under `path`; raises OutputMissing where there are none."""
        with self._translated(path):
            return bytes(self._fs.cat_file(f"{self._prefix}/{path}"))

    def size(self, path: str) -> int | None:
        """The size in bytes; None where nothing is stored."""
        try:
            with self._translated(path):
                return int(self._fs.info(f"{self._prefix}/{path}")["size"])
        except OutputMissing:
            return None

    def remove(self) -> None:
        """Delete everything below this base."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._prefix, recursive=True)

    def describe(self, path: str) -> str:
        """The address as a person would type it."""
        return f"{self.root}/{path}"

    @contextlib.contextmanager
    def _translated(self, path: str) -> Any:
        try:
            yield
        except FileNotFoundError:
            raise OutputMissing(f"no object at {self.describe(path)}") from None
        except OSError as error:
            fact = error.strerror or type(error).__name__
            raise StorageFailed(
                f"{self.describe(path)}: {fact}; mend the storage, then `runstore resume`"
            ) from None


def _open(url: str) -> tuple[Any, str]:
    filesystem, prefix = fsspec.core.url_to_fs(url)
    return filesystem, str(prefix).rstrip("/")
