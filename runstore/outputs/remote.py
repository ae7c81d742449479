"""Outputs on anything that fsspec reaches and that is not a disk of this machine.

One request writes an object whole, and an answer to it is the confirmation; nothing in the run or resume path lists.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from runstore import failpoints
from runstore.credentials import learn, learn_options, redacted
from runstore.errors import ConfigError, OutputConflict, OutputMissing
from runstore.outputs.base import Found
from runstore.outputs.requests import GIVE_UP_AFTER_S, Requests, code_of, refused
from runstore.outputs.urls import public_url, scheme_of, secrets_of

IN_FLIGHT = 16

T = TypeVar("T")


class RemoteBase:
    """A prefix of a filesystem of fsspec."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.root = public_url(url).rstrip("/")
        learn(*secrets_of(url))
        learn_options(options or {})
        given = dict(options or {})
        self._requests = Requests(_seconds(given.pop("give_up_after_s", GIVE_UP_AFTER_S)))
        self._filesystem, self._prefix = _open(url, self._options(given))
        # Filesystems that are not asynchronous have one connection, which is not to be shared between threads.
        self._in_flight = IN_FLIGHT if getattr(self._filesystem, "async_impl", False) else 1

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What the filesystem is opened with; what is not said comes from the ecosystem's usual places."""
        return {} if scheme_of(self.root) == "memory" else dict(options)

    @property
    def writes(self) -> int:
        """How many writes are worth having in flight."""
        return self._in_flight

    reads = window = writes

    def write(self, path: str, data: bytes, sha256: str) -> None:
        """Store `data` under `path` in one request; returns when the service has confirmed it.

        Raises OutputConflict where other bytes are there, as far as the service tells.
        """
        address = self.describe(path)
        failpoints.reached("output.before", address)
        try:
            self._requests.ask(address, lambda: self._put(path, data, sha256))
        except FileExistsError:
            self._compare(path, data)
        except FileNotFoundError as error:  # of the bucket or folder
            raise refused(address, error) from None
        failpoints.reached("output.after", address)

    def _compare(self, path: str, data: bytes) -> None:
        """A request that is repeated can meet its own success: it is a conflict only where other bytes lie there."""
        if self.read(path) != data:
            raise OutputConflict(
                f"{self.describe(path)} holds other bytes, although this run has never written there: another run of "
                "the same id has its outputs here. Nothing was overwritten; give one of them another --run-id, or "
                "another place with --outputs"
            )

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """The bytes under `path`, or a range of them; raises OutputMissing where there is no object."""
        return self._found(path, lambda: bytes(self._get(path, offset, size)))

    def size(self, path: str) -> int | None:
        """The size in bytes; None where nothing is stored."""
        try:
            return self._found(path, lambda: self._size_of(path))
        except OutputMissing:
            return None

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """As `size`, one after the other."""
        return [self.size(path) for path in paths]

    def _found(self, path: str, request: Callable[[], T]) -> T:
        try:
            return self._requests.ask(self.describe(path), request)
        except FileNotFoundError:
            raise self._gone(path) from None

    def _gone(self, path: str) -> Exception:
        return OutputMissing(f"no object at {self.describe(path)}")

    def found(self) -> Iterator[Found]:
        """Every object below this base."""
        find = partial(self._filesystem.find, self._prefix, detail=True)
        listed = self._requests.ask(self.root, find)
        for name, facts in listed.items():
            path = str(name).removeprefix(self._prefix).lstrip("/")
            yield Found(path, int(facts.get("size") or 0))

    def is_used(self) -> bool:
        """Never known beforehand: who writes where another run has written is told then."""
        return False

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects, one request each."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                remove = partial(self._filesystem.rm_file, self._at(path))
                self._requests.ask(self.describe(path), remove)

    def unfinished(self, path: str = "") -> list[tuple[str, str]]:
        """None: one request writes an object."""
        return []

    def abort(self, path: str, upload: str) -> None:
        """Nothing is sent in parts here."""

    def remove(self) -> None:
        """Delete everything below this base."""
        with contextlib.suppress(FileNotFoundError):
            remove = partial(self._filesystem.rm, self._prefix, recursive=True)
            self._requests.ask(self.root, remove)

    def close(self) -> None:
        """Let what waits for another try fail."""
        self._requests.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self.root} is open with credentials and is not pickled; open it anew in each process"
        )

    def describe(self, path: str) -> str:
        """The address as a person would type it."""
        return f"{self.root}/{path}"

    # The requests themselves

    def _at(self, path: str) -> str:
        return f"{self._prefix}/{path}"

    def _put(self, path: str, data: bytes, sha256: str) -> None:
        mode = {"mode": "create"} if scheme_of(self.root) == "memory" else {}
        self._filesystem.pipe_file(self._at(path), data, **mode)

    def _get(self, path: str, offset: int, size: int | None) -> bytes:
        if size is None:
            return self._filesystem.cat_file(self._at(path))  # type: ignore[no-any-return]
        if not size:
            return b""
        return self._filesystem.cat_file(self._at(path), start=offset, end=offset + size)  # type: ignore[no-any-return]

    def _size_of(self, path: str) -> int:
        return int(self._filesystem.info(self._at(path))["size"])


def _seconds(value: Any) -> float:
    """`give_up_after_s`, the one option that is not the filesystem's."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(
            f"give_up_after_s = {value!r} is no number of seconds; correct it in [tool.runstore.storage]"
        )
    return float(value)


def is_precondition(error: BaseException) -> bool:
    """True where a service says that there is an object already."""
    return code_of(error) in ("PreconditionFailed", "412")


def _open(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    # Imported late, at its one door: a run whose outputs are local has no use for it.
    import fsspec

    scheme = scheme_of(url)
    try:
        filesystem, prefix = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise ConfigError(
            f"outputs cannot go to {public_url(url)}: {_missing_package(scheme, error)}"
        ) from None
    except Exception as error:
        raise ConfigError(
            f"outputs cannot go to {public_url(url)}: {redacted(str(error))}; correct the URL, the settings in the "
            "environment or [tool.runstore.storage], or use a path, file://, memory:// or s3://"
        ) from None
    return filesystem, str(prefix).rstrip("/")


def _missing_package(scheme: str, error: ImportError) -> str:
    if scheme in ("s3", "s3a"):
        return "s3fs is not installed; `pip install 'runstore[s3]'`"
    return f"{redacted(str(error))} (the package that fsspec names for {scheme}://), then try again"
