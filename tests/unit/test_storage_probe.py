"""`storage test`: what a place does and lacks is told, nothing stays behind; prune and move in a bucket."""

import json
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner

from execution import RunResult, execute
from execution.cli.main import cli
from runstore import RunStore
from runstore.errors import ConfigError, StorageFailed
from runstore.housekeeping import move, probe, prune
from runstore.housekeeping.probe import WRONG, Tried
from runstore.outputs import requests
from runstore.outputs.base import Found
from runstore.outputs.remote import RemoteBase
from runstore.outputs.s3 import S3Base
from tests.object_stores.moto import Moto
from tests.unit.jobs import chained


@pytest.fixture
def bucket(service: Moto) -> str:
    """A prefix of a new bucket."""
    return f"s3://{service.fresh_bucket()}/some/prefix"


def everything(url: str) -> list[Found]:
    """All that is in the bucket of a URL."""
    return list(S3Base(url.removesuffix("/some/prefix")).found())


def verdicts(tried: Iterator[Tried]) -> dict[str, str]:
    """Name -> verdict."""
    return {one.name: one.verdict for one in tried}


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    """All that runs need is there, and no folder stays that was not there before."""
    found = verdicts(probe(str(tmp_path / "not" / "yet")))
    assert set(found.values()) == {"ok"}
    assert {"disk", "write", "read", "range", "size", "missing", "list", "delete"} == set(found)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Where nothing can be written that is said, and no more is asked; the exit code is 1."""
    (tmp_path / "file").write_text("x")
    result = CliRunner().invoke(cli, ["storage", "test", str(tmp_path / "file" / "x")])
    assert result.exit_code == 1
    assert "failed   write" in result.stdout
    assert "read" not in result.stdout


def test_a_place_in_memory_creates_once() -> None:
    """What is there is not written over."""
    url = f"memory://{secrets.token_hex(8)}"
    assert verdicts(probe(url))["create once"] == "ok"
    assert not fsspec.filesystem("memory").find(url)


def test_what_a_place_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is merely useful the exit code is 0, and each says what it costs; without what is needed it is 1."""

    def overwrite(self: RemoteBase, path: str, data: bytes, sha256: str) -> None:
        self._filesystem.pipe_file(self._at(path), data)

    def nothing(self: RemoteBase) -> Iterator[Found]:
        yield from ()

    def forbidden(self: RemoteBase, paths: Sequence[str]) -> None:
        raise StorageFailed("not allowed")

    monkeypatch.setattr(RemoteBase, "_put", overwrite)
    monkeypatch.setattr(RemoteBase, "found", nothing)
    monkeypatch.setattr(RemoteBase, "delete", forbidden)
    call = ["storage", "test", f"memory://{secrets.token_hex(8)}", "--json"]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code == 0
    told = {one["name"]: one for one in json.loads(result.stdout)}
    lacking = {name for name, one in told.items() if one["verdict"] == "lacks"}
    assert lacking == {"create once", "list", "delete"}
    assert all(told[name]["remedy"] for name in lacking)

    def cut(self: RemoteBase, path: str, offset: int, size: int | None) -> bytes:
        return bytes(self._filesystem.cat_file(self._at(path)))

    monkeypatch.setattr(RemoteBase, "_get", cut)
    result = CliRunner().invoke(cli, call)
    assert result.exit_code == 1
    failed = [one["name"] for one in json.loads(result.stdout) if one["verdict"] == "failed"]
    assert failed == ["range"]


def test_a_url_that_is_none() -> None:
    """What can be no place is a usage error."""
    with pytest.raises(ConfigError):
        list(probe("s3://"))


def test_a_bucket_is_tried_whole(bucket: str, service: Moto) -> None:
    """Conditional create and parts work, the missing check of checksums is told, no object and no secret stays."""
    result = CliRunner().invoke(cli, ["storage", "test", bucket, "--json"])
    assert result.exit_code == 0, result.output
    told = {one["name"]: one for one in json.loads(result.stdout)}
    assert {name for name, one in told.items() if one["verdict"] != "ok"} <= {"checksum"}
    assert told["multipart"]["fact"] == "9,437,000 bytes in parts"
    assert service.secret not in result.output
    assert not everything(bucket)
    assert "multipart" not in verdicts(probe(bucket, quick=True))


def test_a_transfer_that_fails_is_no_answer(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the service cannot be reached when checksums are tried, that is said on one line, with the address."""
    exceptions = pytest.importorskip("botocore.exceptions")
    send = S3Base._send

    def broken(self: S3Base, path: str, data: bytes, sha256: str, **condition: str) -> None:
        if path == WRONG:
            raise exceptions.EndpointConnectionError(endpoint_url="https://there")
        send(self, path, data, sha256, **condition)

    monkeypatch.setattr(S3Base, "_send", broken)
    monkeypatch.setattr(requests, "TRIES", 1)
    told = {one.name: one for one in probe(bucket, quick=True)}
    assert told["checksum"].verdict == "lacks"
    assert f"/{WRONG}: Could not connect to the endpoint URL" in told["checksum"].fact
    assert "after 1 tries; see to the service" in told["checksum"].fact
    assert told["list"].verdict == "ok"


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    """The first write says so."""
    (only,) = probe("s3://nobody/x")
    assert (only.name, only.verdict) == ("write", "failed")
    assert "nobody" in only.fact


def test_a_run_is_pruned_and_moved_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    """Unfinished uploads and objects without a name go, the run moves from disk to bucket to bucket to disk."""
    with RunStore.open(tmp_path / "store", level="fast") as store:
        job: Any = chained("abc")
        execute(job, store, run_id="r")
        assert move(store, "r", bucket, delete_old=True).copied.objects == 7
        base = S3Base(f"{bucket}/r")
        upload = base._ask("create_multipart_upload", Key=base._key("echo/result/late.json"))
        assert upload["UploadId"]
        base.write(
            "echo/result/late.json",
            b"1",
            "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
        )
        (told,) = prune(store, "r")
        assert (told.uploads, told.deleted.objects) == (1, 1)
        assert not base.unfinished()
        assert next(prune(store, "r")).epoch == 0
        assert move(store, "r", f"{bucket}/deeper", delete_old=True).copied.objects == 7
        assert not list(base.found())
        assert move(store, "r", str(tmp_path / "back"), delete_old=True).copied.objects == 7
        assert not everything(bucket)
        assert RunResult.load("r", store, job=job).output_for_node("total") == "ABC"
