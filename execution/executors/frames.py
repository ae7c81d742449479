"""Messages on a socket between two processes: each is its length in eight bytes, then so many bytes.

What has not arrived whole when the other end is gone is discarded: nobody knows what it was.
"""

import socket
import struct

_LENGTH = struct.Struct(">Q")
RECEIVED_AT_ONCE = 2**18


def send(connection: socket.socket, message: bytes) -> None:
    """Send one message; raises OSError where nobody listens any more."""
    connection.sendall(_LENGTH.pack(len(message)) + message)


class Frames:
    """The messages that arrive on one socket."""

    def __init__(self) -> None:
        self._data = bytearray()

    def receive(self, connection: socket.socket) -> list[bytes] | None:
        """Wait for something to arrive; the messages that are whole with it, in order. None: nothing will any more."""
        try:
            data = connection.recv(RECEIVED_AT_ONCE)
        except ConnectionError:
            return None
        return self.add(data) if data else None

    def add(self, data: bytes) -> list[bytes]:
        """The messages that are whole with these bytes."""
        self._data += data
        found, at = [], 0
        while len(self._data) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data, at)
            end = at + _LENGTH.size + length
            if len(self._data) < end:
                break
            found.append(bytes(self._data[at + _LENGTH.size : end]))
            at = end
        del self._data[:at]
        return found
