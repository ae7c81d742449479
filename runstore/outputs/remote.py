"""Outputs on anything else that fsspec reaches: `memory://` today, object stores by their own packages.

One request writes an object whole; no listing in the run or resume path.
"""

import contextlib
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

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
    parts = _split(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check_url(url: str) -> str:
    """Return a URL of which it is clear what a credential is; raises ConfigError, which shows none of it."""
    if scheme_of(url) == "file":
        return url
    parts = _split(url)
    if "::" in url.partition("://")[0]:
        raise ConfigError("outputs cannot go to a chained URL ('::'); name the last storage alone")
    rest = url.replace(parts.netloc, "", 1)
    if "@" in rest and ("@" in parts.netloc or ":" in parts.netloc):
        raise ConfigError(
            f"outputs cannot go to this {scheme_of(url)}:// URL, which does not show where its credentials end; "
            "write '/', '?', '#' and '@' in them as %2F, %3F, %23 and %40, or leave them to the environment"
        )
    return url


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # its text may hold a credential
        raise ConfigError(
            f"outputs cannot go to this {scheme_of(url)}:// URL, which is not well-formed; correct it"
        ) from None


def without_credentials(text: str, url: str) -> str:
    """What a storage says about itself, without anything that may be a credential of its URL."""
    parts = urlsplit(url)
    secrets = {
        parts.netloc.rpartition("@")[0],
        parts.username,
        parts.password,
        parts.query,
        parts.fragment,
    }
    secrets.update(value for _, value in parse_qsl(parts.query))
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


class RemoteBase:
    """A prefix of a filesystem of fsspec."""

    parallel = 16

    def __init__(self, url: str) -> None:
        self.root = public_url(url)
        self._url = url
        try:
            self._fs, self._prefix = _open(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(
                f"outputs cannot go to {self.root}: {without_credentials(str(error), url)}; use a path, "
                "file:// or memory://, or install the package that fsspec names for this scheme"
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
            fact = without_credentials(error.strerror or type(error).__name__, self._url)
            raise StorageFailed(
                f"{self.describe(path)}: {fact}; mend the storage, then `runstore resume`"
            ) from None


def _open(url: str) -> tuple[Any, str]:
    # Imported late, at its one door: a run whose outputs are local has no use for it.
    import fsspec

    filesystem, prefix = fsspec.core.url_to_fs(url)
    return filesystem, str(prefix).rstrip("/")
