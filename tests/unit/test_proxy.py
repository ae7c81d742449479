"""The proxy before an object store: it hides nothing, changes nothing, and each fault is what its name says."""

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.object_stores.client import filesystem, objects
from tests.object_stores.moto import Moto
from tests.object_stores.proxy import (
    BODY_CUT,
    FAULTS,
    REPLY_LOST,
    RESET,
    SILENCE,
    SLOW_DOWN,
    Fault,
    Proxy,
    Request,
)
from tests.object_stores.server import HOST

BODY = b"0123456789" * 20
_SIGNED = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host"
"""Enough of a signature for moto, which wants one where an object is read and checks none."""


@contextlib.contextmanager
def connected(proxy: Proxy, timeout: float = 10) -> Iterator[http.client.HTTPConnection]:
    """One connection that is kept alive."""
    connection = http.client.HTTPConnection(HOST, proxy.port, timeout=timeout)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, bytes]:
    """Status and body of the answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    names["Authorization"] = _SIGNED
    connection.request(method, path, body, names, encode_chunked=isinstance(body, list))
    answer = connection.getresponse()
    return answer.status, answer.read()


def until(happened: Callable[[], Any]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def puts(request: Request) -> bool:
    """For `where`."""
    return request.method == "PUT"


# Without a fault


def test_requests_are_passed_on_and_recorded(proxy: Proxy, moto: Moto) -> None:
    """Requests on one connection arrive unchanged, and what they were and how they were answered is recorded."""
    bucket = moto.fresh_bucket()
    with connected(proxy) as connection:
        path = f"/{bucket}/a%20b"
        assert ask(connection, "PUT", path, BODY, If_None_Match="*")[0] == 200
        first_socket = connection.sock
        assert ask(connection, "PUT", path, b"other", If_None_Match="*")[0] == 412
        assert ask(connection, "HEAD", path)[0] == 200
        assert ask(connection, "GET", path) == (200, BODY)
        assert ask(connection, "GET", f"/{bucket}?list-type=2&prefix=a")[0] == 200
        assert ask(connection, "DELETE", path)[0] == 204
        assert ask(connection, "GET", path)[0] == 404
        assert connection.sock is first_socket
    methods = [request.method for request in proxy.requests]
    assert methods == ["PUT", "PUT", "HEAD", "GET", "GET", "DELETE", "GET"]
    assert [request.status for request in proxy.requests] == [200, 412, 200, 200, 200, 204, 404]
    assert [request.is_listing for request in proxy.requests] == [False] * 4 + [True] + [False] * 2
    assert proxy.requests[0].path == path
    assert proxy.requests[0].headers["if-none-match"] == "*"
    assert proxy.requests[0].sent_bytes == len(BODY)
    assert proxy.requests[4].query == {"list-type": ["2"], "prefix": ["a"]}


def test_bodies_in_chunks_and_bodies_announced(proxy: Proxy, moto: Moto) -> None:
    """A chunked request, and one that waits to be told to go on, arrive whole."""
    bucket = moto.fresh_bucket()
    with connected(proxy) as connection:
        assert ask(connection, "PUT", f"/{bucket}/chunks", [BODY, b"!"])[0] == 200
        assert ask(connection, "PUT", f"/{bucket}/announced", BODY, Expect="100-continue")[0] == 200
    assert objects(moto, bucket) == {"chunks": BODY + b"!", "announced": BODY}


def test_a_delayed_request_has_not_reached_the_server(moto: Moto) -> None:
    """While a request is delayed it is in the log without a status; the end of the proxy ends the wait."""
    bucket = moto.fresh_bucket()
    with Proxy(moto.port, delay_s=3600) as proxy, connected(proxy) as connection:
        connection.request("PUT", f"/{bucket}/a", BODY)
        until(lambda: proxy.requests)
        assert proxy.requests[0].status is None
        assert objects(moto, bucket) == {}


# Faults, as any client sees them


def test_slow_down(proxy: Proxy, moto: Moto) -> None:
    """The client is told to slow down in S3's own words, on a connection that stays; nothing was stored."""
    bucket = moto.fresh_bucket()
    fault = proxy.inject(SLOW_DOWN)
    with connected(proxy) as connection:
        status, body = ask(connection, "PUT", f"/{bucket}/a", BODY)
        assert status == 503
        assert b"<Code>SlowDown</Code>" in body
        assert objects(moto, bucket) == {}
        assert ask(connection, "PUT", f"/{bucket}/a", BODY)[0] == 200
    assert [request.fault for request in proxy.requests] == [SLOW_DOWN, None]
    assert fault.fired == proxy.requests[:1]


@pytest.mark.parametrize(("kind", "stored"), [(RESET, {}), (REPLY_LOST, {"a": BODY})])
def test_resets(kind: str, stored: dict[str, bytes], proxy: Proxy, moto: Moto) -> None:
    """The connection is reset before the server hears of the request, or after it has done what it was asked for."""
    bucket = moto.fresh_bucket()
    fault = proxy.inject(kind)
    with connected(proxy) as connection, pytest.raises(ConnectionResetError):
        ask(connection, "PUT", f"/{bucket}/a", BODY)
    assert fault.fired
    assert objects(moto, bucket) == stored
    assert proxy.requests[0].status == (200 if stored else None)


def test_silence(proxy: Proxy, moto: Moto) -> None:
    """The client waits until it gives up; nothing was stored."""
    bucket = moto.fresh_bucket()
    fault = proxy.inject(SILENCE)
    with connected(proxy, timeout=0.2) as connection, pytest.raises(TimeoutError):
        ask(connection, "PUT", f"/{bucket}/a", BODY)
    assert fault.fired
    assert objects(moto, bucket) == {}


def test_body_cut(proxy: Proxy, moto: Moto) -> None:
    """The client is promised the whole body and gets half of it."""
    bucket = moto.fresh_bucket()
    with connected(proxy) as connection:
        ask(connection, "PUT", f"/{bucket}/a", BODY)
    fault = proxy.inject(BODY_CUT)
    with connected(proxy) as connection, pytest.raises(http.client.IncompleteRead) as caught:
        ask(connection, "GET", f"/{bucket}/a")
    assert fault.fired
    assert caught.value.partial == BODY[: len(BODY) // 2]


def test_refuse(proxy: Proxy, moto: Moto) -> None:
    """Down: what is connected breaks and nobody can connect; up again at the same address."""
    path = f"/{moto.fresh_bucket()}/a"
    with connected(proxy) as connection:
        assert ask(connection, "PUT", path, BODY)[0] == 200
        proxy.refuse()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            ask(connection, "GET", path)
    with connected(proxy) as connection, pytest.raises(ConnectionRefusedError):
        ask(connection, "GET", path)
    proxy.accept()
    with connected(proxy) as connection:
        assert ask(connection, "GET", path) == (200, BODY)


@given(st.lists(st.sampled_from(["PUT", "GET"]), max_size=20), st.integers(1, 5), st.integers(1, 5))
def test_which_requests_a_fault_hits(methods: list[str], nth: int, times: int) -> None:
    """A fault hits the nth request that it is for and as many after it as it was told, and no other."""
    fault = Fault(RESET, nth, puts, times)
    numbers = [
        number
        for number, method in enumerate(methods)
        if fault.hits(Request(method, "/", {}, 0, b""))
    ]
    expected = [number for number, method in enumerate(methods) if method == "PUT"]
    assert numbers == expected[nth - 1 : nth - 1 + times]


# Faults, as s3fs reports them


@pytest.mark.parametrize("kind", FAULTS)
def test_s3fs_fails_with_each_fault(kind: str, proxy: Proxy, moto: Moto) -> None:
    """A fault at every request of s3fs makes its read fail; afterwards it can read."""
    bucket = moto.fresh_bucket()
    storage = filesystem(
        moto,
        proxy.endpoint,
        config_kwargs={"read_timeout": 0.3, "retries": {"total_max_attempts": 1}},
    )
    storage.pipe_file(f"{bucket}/a", BODY)
    fault = proxy.inject(kind, times=1000)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - they have no common base
        storage.cat_file(f"{bucket}/a", max_concurrency=1)
    assert not isinstance(caught.value, FileNotFoundError)
    assert fault.fired
    proxy.clear()
    assert storage.cat_file(f"{bucket}/a", max_concurrency=1) == BODY
