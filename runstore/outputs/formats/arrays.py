"""Arrays and scalars of numpy as npy, in which no object is ever pickled.

What comes back has the same dtype (byte order too), shape, order (C or Fortran; a view of neither comes back as C) and
bytes, and can be written to.
"""

import io
from typing import Any

from runstore.errors import ExtraMissing, NotStorable

_OBJECTS = (
    "which npy could only pickle; give the array a dtype of its own, store it as a list, or allow pickle with "
    "Out(serializer='pickle')"
)


class Npy:
    """A `numpy.ndarray`, of this very class."""

    name, extension = "npy", "npy"

    def encode(self, value: Any, declared: Any) -> bytes:
        """The npy file; raises NotStorable for arrays of objects and for subclasses."""
        numpy = _numpy()
        if type(value) is not numpy.ndarray:
            raise NotStorable(_no_array(value, numpy))
        return _saved(value, numpy)

    def decode(self, data: bytes, declared: Any) -> Any:
        """The array."""
        return _loaded(data)

    def is_same(self, value: Any, back: Any) -> bool:
        """Same dtype, shape, order and bytes."""
        return _same_array(value, back)


class NpyScalar:
    """A scalar of numpy (`float64`, `datetime64`, a record), as an array without dimensions."""

    name, extension = "npy-scalar", "npy"

    def encode(self, value: Any, declared: Any) -> bytes:
        """The npy file; raises NotStorable for what is no scalar."""
        numpy = _numpy()
        if not isinstance(value, numpy.generic):
            raise NotStorable(
                f"a value of type {type(value).__name__} is no scalar of numpy; "
                "return one, or leave the serializer to the value's type"
            )
        return _saved(numpy.asarray(value), numpy)

    def decode(self, data: bytes, declared: Any) -> Any:
        """The scalar."""
        return _loaded(data)[()]

    def is_same(self, value: Any, back: Any) -> bool:
        """Same class, dtype and bytes."""
        numpy = _numpy()
        return type(value) is type(back) and _same_array(
            numpy.asarray(value), numpy.asarray(back), text=value
        )


def _saved(array: Any, numpy: Any) -> bytes:
    dtype = array.dtype
    if dtype.hasobject or not getattr(type(dtype), "_legacy", True):
        raise NotStorable(f"an array of dtype {dtype} holds Python objects, {_OBJECTS}")
    if numpy.lib.format.drop_metadata(dtype) is not dtype:
        raise NotStorable(
            f"an array of dtype {dtype} has metadata, which npy does not keep; "
            "store array.astype(numpy.lib.format.drop_metadata(array.dtype))"
        )
    file = io.BytesIO()
    numpy.save(file, array, allow_pickle=False)
    data = file.getvalue()
    if dtype.kind != "V" or not array.nbytes:
        return data
    # numpy copies records field by field and leaves in the gaps what was in memory before; the same array is to give
    # the same bytes.
    order = "F" if _is_fortran(array) else "C"
    return data[: -array.nbytes] + bytes(array.tobytes(order))


def _loaded(data: bytes) -> Any:
    return _numpy().load(io.BytesIO(data), allow_pickle=False)


def _same_array(one: Any, other: Any, text: Any = None) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if _is_fortran(one) != _is_fortran(other):
        return False
    if isinstance(text, str | bytes):  # a scalar may end in NUL, which an array takes for padding
        return bool(text == other[()])
    return one.tobytes() == other.tobytes() or bool(_numpy().array_equal(one, other))


def _is_fortran(array: Any) -> bool:
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)


def _no_array(value: Any, numpy: Any) -> str:
    kind = type(value)
    if isinstance(value, numpy.ndarray):
        return (
            f"a {kind.__name__} is a subclass of numpy.ndarray, which npy does not keep; store numpy.asarray(value), "
            "what else it holds as an output of its own, or allow pickle with Out(serializer='pickle')"
        )
    return f"a value of type {kind.__name__} is no numpy.ndarray; return numpy.asarray(value)"


def _numpy() -> Any:
    # Imported late, at its one door: an optional extra, and slow.
    try:
        import numpy
    except ImportError:
        raise ExtraMissing.of("numpy", "numpy") from None
    return numpy
