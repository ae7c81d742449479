"""HTTP/1.1 as it goes over the wire: one message read whole from a stream, its bytes kept as they came."""

from dataclasses import dataclass
from io import BufferedRWPair


@dataclass(frozen=True)
class Message:
    """A request or a reply: its first line, its headers by lower-case name, and its raw bytes."""

    first_line: str
    headers: dict[str, str]
    head: bytes
    body: bytes
    """As sent: with the frames of a chunked body."""

    @property
    def raw(self) -> bytes:
        """All of it."""
        return self.head + self.body


def read_request(stream: BufferedRWPair, go_on: BufferedRWPair | None = None) -> Message | None:
    """The next request; None at the end of the stream. `go_on`: where a client hears that it may send the body."""
    head = _read_head(stream)
    if head is None:
        return None
    first_line, headers = _parse(head)
    if headers.pop("expect", "").lower() == "100-continue":
        lines = head.split(b"\r\n")
        head = b"\r\n".join(line for line in lines if not line.lower().startswith(b"expect:"))
        if go_on is not None:
            go_on.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            go_on.flush()
    return Message(first_line, headers, head, _read_body(stream, headers, until_end=False))


def read_reply(stream: BufferedRWPair, method: str) -> Message:
    """The reply to a request of that method; raises EOFError if the server hangs up before it is whole."""
    while True:
        head = _read_head(stream)
        if head is None:
            raise EOFError("the server closed the connection instead of answering")
        first_line, headers = _parse(head)
        status = int(first_line.split()[1])
        if status >= 200:
            break
    has_body = method != "HEAD" and status not in (204, 304)
    return Message(
        first_line, headers, head, _read_body(stream, headers, until_end=True) if has_body else b""
    )


def _read_head(stream: BufferedRWPair) -> bytes | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            if head:
                raise EOFError("the connection ended within the headers")
            return None
        head += line
    return head


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    first_line, *lines = head.decode("latin-1").rstrip().split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return first_line, {name.strip().lower(): value.strip() for name, value in pairs}


def _read_body(stream: BufferedRWPair, headers: dict[str, str], *, until_end: bool) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _read_chunks(stream)
    if "content-length" in headers:
        return _read_exactly(stream, int(headers["content-length"]))
    return stream.read() if until_end else b""


def _read_chunks(stream: BufferedRWPair) -> bytes:
    body, size = b"", -1
    while size != 0:
        line = stream.readline()
        size = int(line.split(b";")[0], 16)
        body += line + _read_exactly(stream, size + 2 if size else 0)
    while not body.endswith(b"\r\n\r\n"):  # trailers, and the empty line after them
        body += stream.readline() or _ended()
        if body.endswith(b"0\r\n\r\n"):
            break
    return body


def _read_exactly(stream: BufferedRWPair, size: int) -> bytes:
    data = stream.read(size)
    return data if len(data) == size else _ended()


def _ended() -> bytes:
    raise EOFError("the connection ended within a body")
