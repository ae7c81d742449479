"""Outputs are written once, whole or not at all, and verified on every read, on disk and elsewhere."""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstore import failpoints
from runstore.errors import ConfigError, OutputCorrupted, OutputMissing, StorageFailed
from runstore.outputs import local, output_store
from runstore.outputs.base import Base
from runstore.outputs.local import LocalBase
from runstore.outputs.output_store import OutputStore, open_base
from runstore.outputs.remote import RemoteBase
from runstore.outputs.serializers import Serialized
from runstore.outputs.urls import check_url, public_url, scheme_of


@pytest.fixture(params=["durable", "fast", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, bool]:
    """A place for outputs, and whether it is durable."""
    if request.param == "memory":
        return f"memory://{secrets.token_hex(8)}", False
    return str(tmp_path / "outputs"), request.param == "durable"


@pytest.fixture
def outputs(url: tuple[str, bool]) -> OutputStore:
    """A store of outputs with one base."""
    return OutputStore([open_base(url[0], durable=url[1])])


def put(outputs: OutputStore, data: bytes, key: str = "a", attempt: int = 1) -> Any:
    """Store some bytes."""
    return outputs.put(Serialized(data, "raw", "bin"), "op", "result", [key], 1, attempt)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", *(bytes([size % 251]) * size for size in (8191, 8192, 8193, 100_000))],
    ids=len,
)
def test_bytes_come_back(outputs: OutputStore, data: bytes) -> None:
    """What was put is got, by a reference that names size, digest and format."""
    reference = put(outputs, data)
    assert (reference.size_bytes, reference.serializer, reference.base) == (len(data), "raw", 0)
    assert len(reference.sha256) == 64
    assert outputs.get(reference) == data
    assert outputs.is_there(reference, deep=True)
    assert outputs.address(reference).endswith("op/result/a.bin")


def overwrite(base: Base, path: str, data: bytes) -> None:
    """Put other bytes where some are."""
    base.delete([path])
    base.write(path, data, hashlib.sha256(data).hexdigest())


def test_another_process_finds_the_bytes(outputs: OutputStore, url: tuple[str, bool]) -> None:
    """A base opened anew at the same place reads what was written."""
    reference = put(outputs, b"abc")
    assert OutputStore([open_base(url[0], durable=url[1])]).get(reference) == b"abc"


def test_lost_bytes_are_noticed(outputs: OutputStore, url: tuple[str, bool]) -> None:
    """A missing object, a shorter one and one of the same size with other bytes are each told, naming the address."""
    reference = put(outputs, b"abcdef")
    base = open_base(url[0], durable=False)
    overwrite(base, reference.path, b"abc")
    with pytest.raises(OutputCorrupted, match="has 3 bytes that are not the 6 bytes"):
        outputs.get(reference)
    assert not outputs.is_there(reference, deep=False)
    overwrite(base, reference.path, b"abcdeF")
    with pytest.raises(OutputCorrupted, match=r"op/result/a.bin has 6 bytes"):
        outputs.get(reference)
    assert outputs.is_there(reference, deep=False)
    assert not outputs.is_there(reference, deep=True)
    base.remove()
    with pytest.raises(OutputMissing, match=r"no (file|object) at .*op/result/a.bin"):
        outputs.get(reference)
    assert not outputs.is_there(reference, deep=False)
    assert not outputs.is_there(reference, deep=True)


def test_new_outputs_go_to_the_newest_base(tmp_path: Path) -> None:
    """A reference says by number which base it is below, so that storage can move while old outputs stay."""
    bases = [LocalBase(str(tmp_path / name), durable=False) for name in ("old", "new")]
    first = put(OutputStore(bases[:1]), b"1")
    both = OutputStore(bases)
    second = put(both, b"2", "b")
    assert (first.base, second.base) == (0, 1)
    assert (both.get(first), both.get(second)) == (b"1", b"2")
    assert (tmp_path / "new/op/result/b.bin").read_bytes() == b"2"
    both.remove_all()
    assert not (tmp_path / "old").exists()
    assert not (tmp_path / "new").exists()


def test_removing_what_is_not_there_is_no_error(outputs: OutputStore) -> None:
    """The outputs of a run that has none can be removed."""
    outputs.remove_all()


# On disk


@pytest.fixture(params=["durable", "fast", "fast, without unnamed files"])
def base(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LocalBase:
    """A folder of outputs."""
    if "without" in request.param:  # as on other systems than Linux
        monkeypatch.setattr(local, "_TMPFILE", 0)
    return LocalBase(str(tmp_path / "outputs"), durable=request.param == "durable")


def _files(base: LocalBase) -> dict[str, bytes]:
    root = Path(base.root)
    return {
        str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()
    }


def test_only_the_owner_may_read_outputs(base: LocalBase) -> None:
    """Folders are made 0700 and files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        base.write("a/b/c.bin", b"x")
    finally:
        os.umask(before)
    root = Path(base.root)
    for place, mode in (
        (root, 0o700),
        (root / "a", 0o700),
        (root / "a/b", 0o700),
        (root / "a/b/c.bin", 0o600),
    ):
        assert stat.S_IMODE(place.stat().st_mode) == mode, place


@pytest.mark.parametrize("calls", [["write"], ["rename", "link"], ["fsync"]])
def test_a_failed_write_leaves_nothing(
    base: LocalBase, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    """Where the disk refuses, no file appears, the temporary one is removed, and the message names file and remedy."""
    base.write("op/first.bin", b"1")
    if calls == ["fsync"] and not base._durable:
        pytest.skip("nothing is synced at level fast")

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        for call in calls:
            patch.setattr(os, call, full)
        with pytest.raises(
            StorageFailed, match=r"op/a.bin: No space left on device; .*`runstore resume`"
        ):
            base.write("op/a.bin", b"abcdef")
    assert _files(base) == {"op/first.bin": b"1"}
    base.write("op/a.bin", b"abcdef")
    assert base.read("op/a.bin") == b"abcdef"


def test_no_file_is_ever_torn(base: LocalBase) -> None:
    """At every point of a write the target is absent or whole, never partly there."""
    seen: list[tuple[str, bool]] = []
    target = Path(base.root, "op/a.bin")

    def look(point: str, subject: object) -> None:
        seen.append((point, target.exists()))

    failpoints.listen(look)
    try:
        base.write("op/a.bin", b"abcdef")
    finally:
        failpoints.listen(None)
    assert seen == [("output.before", False), ("output.partial", False), ("output.after", True)]
    assert target.read_bytes() == b"abcdef"


def test_short_writes_are_continued(base: LocalBase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes only some of the bytes at a time is asked again."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    base.write("a.bin", b"0123456789")
    monkeypatch.undo()
    assert base.read("a.bin") == b"0123456789"


def test_a_symlink_in_place_of_the_temporary_file_is_not_followed(
    base: LocalBase, tmp_path: Path
) -> None:
    """Nobody can make a write land elsewhere by putting a link where the temporary file goes."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    base.write("op/first.bin", b"1")
    Path(base.root, "op/.a.bin.tmp").symlink_to(victim)
    if base._may_be_unnamed:
        base.write("op/a.bin", b"evil")  # there is no temporary file
        assert not Path(base.root, "op/a.bin").is_symlink()
    else:
        with pytest.raises(StorageFailed, match=r"a\.bin"):
            base.write("op/a.bin", b"evil")
        assert not Path(base.root, "op/a.bin").exists()
    assert victim.read_bytes() == b"precious"


def test_a_name_that_is_taken_gets_the_new_file_whole(base: LocalBase, tmp_path: Path) -> None:
    """What stands under a name is replaced, not written into: a file, or a link to one elsewhere."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    base.write("op/a.bin", b"before")
    Path(base.root, "op/b.bin").symlink_to(victim)
    for name in ("op/a.bin", "op/b.bin"):
        base.write(name, b"after")
    assert _files(base) == {"op/a.bin": b"after", "op/b.bin": b"after"}
    assert victim.read_bytes() == b"precious"


@pytest.mark.skipif(not local._TMPFILE, reason="this system has no unnamed files")
def test_a_disk_without_unnamed_files_is_asked_for_one_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file cannot get its name later, it is written beside its target, and so are all after it."""
    asked: list[str] = []

    def refuse(_: str, target: str, **__: object) -> None:
        asked.append(target)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    base = LocalBase(str(tmp_path / "outputs"), durable=False)
    for name in ("op/a.bin", "op/b.bin"):
        base.write(name, b"x")
    assert asked == [f"{base.root}/op/a.bin"]
    assert _files(base) == {"op/a.bin": b"x", "op/b.bin": b"x"}


def test_what_durable_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durable: file synced before the rename, its folder after, new folders in their parents; fast: nothing."""
    done: list[str] = []
    names: dict[int, str] = {}
    open_, rename, sync = os.open, os.rename, local._sync

    def spy_open(path: Any, *rest: Any, **more: Any) -> int:
        fd = open_(path, *rest, **more)
        names[fd] = os.path.relpath(path, tmp_path)
        return fd

    def spy_sync(fd: int) -> None:
        done.append(f"sync {names[fd]}")
        sync(fd)

    def spy_rename(source: str, target: str) -> None:
        done.append(f"rename {os.path.relpath(target, tmp_path)}")
        rename(source, target)

    monkeypatch.setattr(os, "open", spy_open)
    monkeypatch.setattr(os, "rename", spy_rename)
    monkeypatch.setattr(local, "_sync", spy_sync)
    LocalBase(f"{tmp_path}/out", durable=True).write("op/a.bin", b"x")
    # Folders in any order; then the file, its name, and the folder that holds the name.
    assert {"sync .", "sync out"} <= set(done[:-3])
    assert done[-3:] == ["sync out/op/.a.bin.tmp", "rename out/op/a.bin", "sync out/op"]
    done.clear()
    LocalBase(f"{tmp_path}/fast", durable=False).write("op/a.bin", b"x")
    assert done == ([] if local._TMPFILE else ["rename fast/op/a.bin"])


def test_a_folder_that_is_a_file_is_one_clear_line(base: LocalBase) -> None:
    """A file where a folder should be is a failure of storage for writers and a missing output for readers."""
    base.write("op", b"in the way")
    with pytest.raises(StorageFailed, match=r"op/a.bin: "):
        base.write("op/a.bin", b"x")
    with pytest.raises(OutputMissing):
        base.read("op/a.bin")
    assert base.size("op/a.bin") is None


def test_many_sizes_at_once_are_those_of_each(base: LocalBase) -> None:
    """Also of what is missing, lies below a file, or belongs to a base that nothing was written to yet."""
    paths = ["op/a.bin", "op/b.bin", "op/c.bin", "op/a.bin/d.bin", "other/a.bin"]
    assert base.sizes(paths) == [base.size(path) for path in paths] == [None] * 5
    base.write("op/a.bin", b"xyz")
    base.write("op/b.bin", b"")
    assert base.sizes(paths) == [base.size(path) for path in paths] == [3, 0, None, None, None]


# Elsewhere


def test_a_remote_failure_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the storage raises becomes StorageFailed with the address, and without the credentials of the URL."""
    base = RemoteBase("memory://user:hunter2@bucket/run")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "key user:hunter2 is not allowed")

    monkeypatch.setattr(
        base,
        "_filesystem",
        type("Refusing", (), {"pipe_file": refuse, "cat_file": refuse, "info": refuse})(),
    )
    uses: list[Callable[[], object]] = [
        lambda: base.write("a", b"x", "00"),
        lambda: base.read("a"),
        lambda: base.size("a"),
    ]
    for use in uses:
        with pytest.raises(
            StorageFailed, match=r"memory://bucket/run/a: .*`runstore resume`"
        ) as caught:
            use()
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["nosuch://user:hunter2@bucket/x", "s3x://k:hunter2@b"])
def test_an_unknown_scheme_is_refused(url: str) -> None:
    """A URL that nothing here can reach is refused with the remedy, and without its credentials."""
    with pytest.raises(ConfigError, match="use a path, file://, memory:// or s3://") as caught:
        open_base(url, durable=False)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("s3://key:secret@bucket/runs", "s3://bucket/runs"),
        ("s3://bucket/runs?token=secret#frag", "s3://bucket/runs"),
        ("ftp://user@host:21/x", "ftp://host:21/x"),
        ("https://a:b@c@host/x", "https://host/x"),
        ("memory://x", "memory://x"),
        ("s3://bucket", "s3://bucket"),
        ("/home/me@work/run?x", "/home/me@work/run?x"),
        ("file:///home/me@work", "file:///home/me@work"),
    ],
)
def test_what_of_a_url_may_be_shown(url: str, public: str) -> None:
    """User, password, query and fragment are left out of what the log and messages show; a path is kept whole."""
    assert public_url(url) == public
    assert public_url(public) == public


_secret = st.text(st.sampled_from("aZ09-._~!$&'()*+,;=:%@/?#[]\\ ℀"), max_size=8)


@settings(max_examples=200)
@given(st.sampled_from(["s3", "gs", "ftp", "simplecache::s3"]), _secret, _secret, _secret)
def test_no_credential_of_a_url_is_shown(scheme: str, one: str, two: str, three: str) -> None:
    """What stands between `key:` and `@` of a URL, well-formed or not, is shown nowhere: it is left out, or refused."""
    url = f"{scheme}://key:{one}HUNTER2{two}HUNTER2{three}@bucket/runs"
    try:
        shown = public_url(check_url(url))
    except ConfigError as error:
        shown = str(error)
    assert "HUNTER2" not in shown


def test_a_url_that_lacks_a_slash_is_no_path() -> None:
    """`s3:/bucket` would be a folder here, which nobody meant; what may be a credential in it is not shown."""
    for url in ("s3:/bucket/runs", "sftp:/key:HUNTER2@host/runs"):
        with pytest.raises(ConfigError, match=r"write \w+://…, or \./\w+:/… for") as caught:
            check_url(url)
        assert "HUNTER2" not in str(caught.value)


def test_a_wellformed_url_is_not_refused() -> None:
    """Credentials with their special characters encoded, none at all, and an `@` in a bucket's path are fine."""
    for url in (
        "sftp://key:a%2Fb@host/runs",
        "s3://bucket/me@work",
        "memory://x",
        "/home/me@work/a::b",
        "./s3:/b",
        "a:b/c",
        "ftp://h:21/x",
    ):
        assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "scheme"),
    [("/a/b", "file"), ("a:b", "file"), ("file:///a", "file"), ("s3://a", "s3"), ("", "file")],
)
def test_schemes(url: str, scheme: str) -> None:
    """A plain path is a file."""
    assert scheme_of(url) == scheme


def test_the_room_that_opens_a_base_knows_both(tmp_path: Path) -> None:
    """A path and a file URL are local, everything else goes through fsspec."""
    assert isinstance(open_base(str(tmp_path), durable=True), LocalBase)
    opened = open_base(f"file://{tmp_path}/", durable=True)
    assert isinstance(opened, LocalBase)
    assert opened.root == str(tmp_path)
    assert isinstance(open_base("memory://x/", durable=True), RemoteBase)
    assert output_store.open_base("memory://x/", durable=True).describe("a") == "memory://x/a"
