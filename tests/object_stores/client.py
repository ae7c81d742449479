"""Clients of an object store: led to it by the environment, or to look at it without runstore."""

import functools
import os
from typing import Any

import pytest

from tests.object_stores.server import ObjectStore


def lead_to(
    monkeypatch: pytest.MonkeyPatch, server: ObjectStore, endpoint: str | None = None
) -> None:
    """Let clients of this process find a server, and no other."""
    for name, value in server.environment(endpoint).items():
        monkeypatch.setenv(name, value)


def filesystem(store: ObjectStore, endpoint: str | None = None, **options: Any) -> Any:
    """An s3fs filesystem that caches nothing, and tries each request once unless `options` say otherwise."""
    keys = {"key": store.key, "secret": store.secret}
    return _filesystem(endpoint or store.endpoint, {**keys, **options})


def _filesystem(endpoint: str, options: dict[str, Any]) -> Any:
    import s3fs  # late: an optional extra

    settings: dict[str, Any] = {
        "client_kwargs": {"endpoint_url": endpoint},
        "config_kwargs": {
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connect_timeout": 5,
            "read_timeout": 5,
        },
        "use_listings_cache": False,
        "skip_instance_cache": True,
    }
    found = s3fs.S3FileSystem(**{**settings, **options})
    found.retries = 1  # s3fs tries again by itself, above botocore; there is no option for it
    return found


@functools.cache
def _reader(process: int, endpoint: str, key: str, secret: str) -> Any:
    """A filesystem to look with; to make one takes longer than the look."""
    return _filesystem(endpoint, {"key": key, "secret": secret})


def _looking(store: ObjectStore) -> Any:
    return _reader(os.getpid(), store.endpoint, store.key, store.secret)


def objects(store: ObjectStore, bucket: str) -> dict[str, bytes]:
    """What lies in a bucket, by key."""
    storage = _looking(store)
    return {
        name.removeprefix(f"{bucket}/"): storage.cat_file(name, max_concurrency=1)
        for name in storage.find(bucket)
        if not name.endswith("/.keep")
    }


def unfinished_uploads(store: ObjectStore, bucket: str) -> list[str]:
    """Keys of multipart uploads that were begun, and neither completed nor aborted; they cost money, unseen."""
    answer = _looking(store).call_s3("list_multipart_uploads", Bucket=bucket)
    return [upload["Key"] for upload in answer.get("Uploads", [])]
