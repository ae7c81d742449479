"""A proxy between a client and an object store: it counts and records every request, and injects faults.

    with Proxy(store.port) as proxy:
        fault = proxy.inject(RESET, nth=3, where=lambda request: request.method == "PUT")
        ...                                   # a client that speaks to proxy.endpoint
        assert fault.fired                    # a fault that has not happened proves nothing
        assert not [r for r in proxy.requests if r.is_listing]

Requests are numbered as they arrive. Each connection of a client has a thread, each request its own to the server.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedRWPair
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.object_stores.server import HOST
from tests.object_stores.wire import Message, read_reply, read_request

SLOW_DOWN = "slow down"
"""503 SlowDown, answered by the proxy; the server never hears of the request."""
RESET = "reset"
"""The connection is reset when the request is there whole; the server never hears of it."""
SILENCE = "silence"
"""No answer, until the client gives up; the server never hears of the request."""
REPLY_LOST = "reply lost"
"""The server has done what it was asked for and has answered; the client gets a reset instead."""
BODY_CUT = "body cut"
"""The reply's headers and half of its body, then the end of the connection."""
FAULTS = (SLOW_DOWN, RESET, SILENCE, REPLY_LOST, BODY_CUT)

_SLOW_DOWN_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>"
    b"<RequestId>0000000000000000</RequestId><HostId>proxy</HostId></Error>"
)


@dataclass
class Request:
    """A request that has arrived, and what has become of it."""

    method: str
    target: str
    headers: dict[str, str]
    """By lower-case name."""
    sent_bytes: int
    """Size of its body as sent."""
    body: bytes = field(repr=False)
    status: int | None = None
    """Of the server's reply, or of the proxy's own; None where there was none."""
    fault: str | None = None
    """What was injected."""

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's parameters; one without a value is there too."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def is_listing(self) -> bool:
        """True for a request for what lies in a bucket, or for which buckets there are."""
        is_object = self.path.strip("/").partition("/")[2] != ""
        return self.method == "GET" and not is_object and "location" not in self.query


@dataclass
class Fault:
    """One of FAULTS, at the `nth` request for which `where` is true, and at the `times - 1` such requests after it."""

    kind: str
    nth: int = 1
    where: Callable[[Request], bool] = lambda request: True
    times: int = 1
    matched: int = 0
    fired: list[Request] = field(default_factory=list)
    """The requests that it has hit."""

    def hits(self, request: Request) -> bool:
        """Count a request; True if it is to be hit."""
        if not self.where(request):
            return False
        self.matched += 1
        return self.nth <= self.matched < self.nth + self.times


class Proxy:
    """Listens on a port of its own, in front of a server on a port of this machine."""

    def __init__(self, server_port: int, delay_s: float = 0.0) -> None:
        self.server_port = server_port
        self.delay_s = delay_s
        """Before each request reaches the server."""
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._stopped = threading.Event()
        self._listener: socket.socket | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://{HOST}:{self.port}"

    def inject(
        self,
        kind: str,
        nth: int = 1,
        where: Callable[[Request], bool] = lambda request: True,
        times: int = 1,
    ) -> Fault:
        """From now on, inject a fault; the first that hits a request wins."""
        assert kind in FAULTS
        fault = Fault(kind, nth, where, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget faults and requests."""
        with self._lock:
            self._faults, self.requests = [], []

    def count(self, method: str) -> int:
        """How many requests of that method have come."""
        return sum(request.method == method for request in self.requests)

    # Up and down

    def accept(self) -> Self:
        """Listen, on the same port as before."""
        listener = socket.create_server((HOST, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()
        return self

    def refuse(self) -> None:
        """Be down: connections that are open break, and new ones are refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self.accept()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self.refuse()

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    # One connection

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._clients.add(client)
        try:
            with client.makefile("rwb") as stream:
                while (message := read_request(stream, stream)) is not None:
                    if not self._handle(message, client, stream):
                        break
        except (OSError, EOFError):
            _reset(client)  # the server is down, or the client has gone
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()

    def _handle(self, message: Message, client: socket.socket, stream: BufferedRWPair) -> bool:
        """Answer a request; False when the connection is over."""
        request, fault = self._arrived(message)
        if self.delay_s:
            self._stopped.wait(self.delay_s)
        if fault == SLOW_DOWN:
            request.status = 503
            return _send(stream, _slow_down())
        if fault == RESET:
            return _reset(client)
        if fault == SILENCE:
            client.recv(1)  # returns when the client, or this proxy, closes the connection
            return False
        reply = self._forward(message, request)
        if fault == REPLY_LOST:
            return _reset(client)
        if fault == BODY_CUT:
            _send(stream, reply.head + reply.body[: len(reply.body) // 2])
            return False
        return _send(stream, reply.raw) and _keeps_alive(reply)

    def _arrived(self, message: Message) -> tuple[Request, str | None]:
        method, target, _ = message.first_line.split()
        request = Request(method, target, message.headers, len(message.body), message.body)
        with self._lock:
            self.requests.append(request)
            hit = [fault for fault in self._faults if fault.hits(request)][:1]
            for fault in hit:
                fault.fired.append(request)
                request.fault = fault.kind
        return request, request.fault

    def _forward(self, message: Message, request: Request) -> Message:
        with _connected(self.server_port) as server, server.makefile("rwb") as stream:
            _send(stream, message.raw)
            reply = read_reply(stream, request.method)
        request.status = int(reply.first_line.split()[1])
        return reply


@contextlib.contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port)) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield server


def _send(stream: BufferedRWPair, data: bytes) -> bool:
    stream.write(data)
    stream.flush()
    return True


def _reset(client: socket.socket) -> bool:
    """Let the end of this connection be a reset. (Lingering for no time is how a socket says so.)"""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def _slow_down() -> bytes:
    head = (
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(_SLOW_DOWN_BODY)}\r\n\r\n"
    )
    return head.encode() + _SLOW_DOWN_BODY


def _keeps_alive(reply: Message) -> bool:
    is_framed = "content-length" in reply.headers or "transfer-encoding" in reply.headers
    is_old = reply.first_line.startswith("HTTP/1.0")
    is_closing = reply.headers.get("connection", "").lower() == "close"
    bodiless = reply.first_line.split()[1] in ("204", "304")
    return (is_framed or bodiless) and not is_old and not is_closing
