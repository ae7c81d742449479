"""Formats that the core can write: text, raw bytes, JSON and MessagePack, the last two typed on the way back."""

from typing import Any

import msgspec

from runstore.exactness import same
from runstore.outputs.formats.declared import json_decoder, message_pack_decoder


class Text:
    """A str as UTF-8."""

    name, extension = "text", "txt"
    is_same = staticmethod(same)

    def encode(self, value: Any, declared: Any) -> bytes:
        """The text's UTF-8."""
        return str(_of_type(value, str)).encode()

    def decode(self, data: bytes, declared: Any) -> Any:
        """The text."""
        return data.decode()


class Raw:
    """Bytes as they are."""

    name, extension = "raw", "bin"
    is_same = staticmethod(same)

    def encode(self, value: Any, declared: Any) -> bytes:
        """The bytes themselves."""
        return bytes(_of_type(value, bytes))

    def decode(self, data: bytes, declared: Any) -> Any:
        """The bytes themselves."""
        return data


class Json:
    """JSON as msgspec writes it."""

    name, extension = "json", "json"
    is_same = staticmethod(same)
    _encoder = msgspec.json.Encoder()

    def encode(self, value: Any, declared: Any) -> bytes:
        """JSON in UTF-8."""
        return self._encoder.encode(value)

    def decode(self, data: bytes, declared: Any) -> Any:
        """The value, of the declared type where msgspec knows it."""
        return msgspec.json.decode(data) if declared is None else json_decoder(declared)(data)


class MessagePack:
    """MessagePack as msgspec writes it: what JSON has, and bytes, NaN, infinities, any key."""

    name, extension = "msgpack", "msgpack"
    is_same = staticmethod(same)
    _encoder = msgspec.msgpack.Encoder()

    def encode(self, value: Any, declared: Any) -> bytes:
        """MessagePack."""
        return self._encoder.encode(value)

    def decode(self, data: bytes, declared: Any) -> Any:
        """The value, of the declared type where msgspec knows it."""
        return message_pack_decoder(declared)(data)


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}")
    return value
