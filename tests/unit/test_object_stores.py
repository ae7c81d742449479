"""The servers that tests use are what the tests take them for, and none of them outlives its tests."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.object_stores.client import filesystem, objects, unfinished_uploads
from tests.object_stores.fixtures import STORES
from tests.object_stores.moto import Moto
from tests.object_stores.rclone import Rclone
from tests.object_stores.server import HOST, ObjectStore

ROOT = Path(__file__).parent.parent.parent
KEPT = {"moto": {}, "ministack": {"a": b"stored"}, "rclone": {"a": b"stored"}}


def is_refusing(port: int) -> bool:
    """True when nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def test_objects_go_in_and_come_out(any_store: ObjectStore) -> None:
    """What is stored in a bucket is all that lies in it."""
    bucket = any_store.fresh_bucket()
    storage = filesystem(any_store)
    storage.pipe_file(f"{bucket}/folder/a=b@c+d", b"bytes")
    storage.pipe_file(f"{bucket}/empty", b"")
    assert objects(any_store, bucket) == {"folder/a=b@c+d": b"bytes", "empty": b""}


def test_conditional_writes(any_store: ObjectStore) -> None:
    """A second write that must create is refused by moto and ministack; rclone lets it overwrite."""
    bucket = any_store.fresh_bucket()
    storage = filesystem(any_store)
    storage.pipe_file(f"{bucket}/a", b"first", mode="create")
    if isinstance(any_store, Rclone):
        storage.pipe_file(f"{bucket}/a", b"second", mode="create")
    else:
        with pytest.raises(OSError, match="pre-conditions"):
            storage.pipe_file(f"{bucket}/a", b"second", mode="create")
    last = b"second" if isinstance(any_store, Rclone) else b"first"
    assert objects(any_store, bucket) == {"a": last}


@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_rclone_asks_for_keys(wrong: str, rclone: Rclone) -> None:
    """A wrong key or secret is refused."""
    storage = filesystem(rclone, **{wrong: "wrong"})
    with pytest.raises(PermissionError):
        storage.pipe_file(f"{rclone.bucket}/a", b"bytes")


def test_uploads_that_nobody_finished(moto: Moto) -> None:
    """A multipart upload that was begun and left is found."""
    bucket = moto.fresh_bucket()
    filesystem(moto).call_s3("create_multipart_upload", Bucket=bucket, Key="large")
    assert unfinished_uploads(moto, bucket) == ["large"]


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("name", STORES)
def test_down_and_up_again(name: str, end: str, tmp_path: Path) -> None:
    """A server that was stopped or killed refuses, and comes back on the same port with what it keeps."""
    with STORES[name](tmp_path) as store:
        filesystem(store).pipe_file(f"{store.bucket}/a", b"stored")
        port = store.port
        getattr(store, end)()
        assert is_refusing(port)
        store.restart()
        assert store.port == port
        if name == "moto":
            store.make_bucket(store.bucket)
        assert objects(store, store.bucket) == KEPT[name]


_START_ALL = """
import sys, time
from pathlib import Path
from tests.object_stores.fixtures import STORES
stores = [STORES[name](Path(sys.argv[1]) / name).start() for name in STORES]
print(*(store.port for store in stores), flush=True)
time.sleep(600)
"""


def test_no_server_outlives_a_killed_test_process(tmp_path: Path) -> None:
    """SIGKILL of the process that has started servers ends them all."""
    command = [sys.executable, "-c", _START_ALL, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = [int(port) for port in process.stdout.readline().split()]
        assert len(ports) == len(STORES)
        assert not any(is_refusing(port) for port in ports)
        process.kill()
    deadline = time.monotonic() + 20
    while not all(is_refusing(port) for port in ports):
        assert time.monotonic() < deadline
        time.sleep(0.01)
