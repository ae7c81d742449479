"""Arrays and scalars of numpy come back as they were, or are refused when they are stored; nothing is pickled."""

import datetime as dt
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runstore.errors import NotReadable, NotStorable
from runstore.outputs.serializers import deserialize, serialize

RECORD = np.dtype([("name", "U4"), ("at", "M8[s]"), ("parts", "<f4", (2,))])
KEPT = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(12).reshape(3, 4)[::-1, ::2],
    np.array(3.5),
    np.zeros((0, 3), dtype="f2"),
    np.array([]),
    np.array([1.0, np.nan, -0.0, np.inf]),
    np.array([1 + 2j]),
    np.array([True, False]),
    np.array([1, 2], dtype=">i4"),
    np.array(["a", "bcd", ""]),
    np.array([b"a\0", b""]),
    np.array(["2026-01-01", "NaT"], dtype="M8[D]"),
    np.array([5], dtype="m8[ns]"),
    np.array([("a", "2026-01-01", (1, 2))], dtype=RECORD),
    np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    np.zeros(2, dtype="V3"),
    np.array([1], dtype=np.longdouble),
]
SCALARS = [
    np.float64(0.1),
    np.float32("nan"),
    np.int64(-3),
    np.uint8(3),
    np.bool_(True),
    np.complex128(1j),
    np.str_("é"),
    np.bytes_(b"a"),
    np.datetime64("2026-01-01T00:00", "m"),
    np.datetime64("NaT"),
    np.timedelta64(5, "s"),
    np.array([("a", "2026-01-01", (1, 2))], dtype=RECORD)[0],
]


class Special(np.ndarray):  # type: ignore[type-arg]
    """A subclass, of which npy keeps nothing."""


def bits(array: Any) -> tuple[Any, ...]:
    """All that makes an array."""
    flags = array.flags
    order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    values = repr(array.tolist()) if array.dtype.names else array.tobytes()
    return type(array), array.dtype, array.shape, order, values


@pytest.mark.parametrize("array", KEPT, ids=lambda one: f"{one.dtype}-{one.shape}")
def test_arrays_come_back(array: Any) -> None:
    """Declared by class, by dtype, in a union or not at all: npy, and the same array, which can be written to."""
    for declared in (None, Any, np.ndarray, npt.NDArray[Any], np.ndarray | None):
        stored = serialize(array, declared)
        assert (stored.serializer, stored.extension) == ("npy", "npy")
        back = deserialize(stored.data, stored.serializer, declared)
        assert bits(back) == bits(array)
        assert back.flags.writeable
    assert np.load(io.BytesIO(stored.data), allow_pickle=False).shape == array.shape


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
@given(
    arrays.arrays(
        arrays.scalar_dtypes() | arrays.nested_dtypes(max_itemsize=64),
        arrays.array_shapes(min_dims=0, min_side=0),
    ),
    st.sampled_from(["C", "F", "T"]),
)
def test_any_array_comes_back(array: Any, order: str) -> None:
    """Of any dtype, shape and order."""
    array = array.T if order == "T" else np.asarray(array, order=order)  # type: ignore[call-overload]
    stored = serialize(array)
    assert bits(deserialize(stored.data, stored.serializer)) == bits(array)
    assert serialize(array) == stored


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda one: f"{one.dtype}")
def test_scalars_come_back(scalar: Any) -> None:
    """A scalar of numpy is npy too, under a name of its own, and comes back as that scalar."""
    for declared in (None, type(scalar)):
        stored = serialize(scalar, declared)
        assert (stored.serializer, stored.extension) == ("npy-scalar", "npy")
        back = deserialize(stored.data, stored.serializer, declared)
        assert type(back) is type(scalar)
        assert (back.dtype, back.tobytes()) == (scalar.dtype, scalar.tobytes())


@pytest.mark.parametrize(
    ("value", "declared", "told"),
    [
        (np.array([object()]), None, "dtype object holds Python objects.*npy could only pickle"),
        (np.array([(1, None)], dtype="i4,O"), np.ndarray, "holds Python objects.*allow pickle"),
        (
            np.array(["a"], dtype=np.dtypes.StringDType()),
            None,
            "holds Python objects.*a dtype of its",
        ),
        (np.zeros(1, np.dtype("f8", metadata={"a": 1})), None, "metadata.*store array.astype"),  # type: ignore[call-overload]
        (
            np.array([1]).view(Special),
            None,
            r"\$ is a subclass of numpy.ndarray; store a plain one",
        ),
        (np.ma.masked_array([1]), None, r"\$ is a numpy.MaskedArray; store .filled\(\)"),  # type: ignore[no-untyped-call]
        (np.array([1]).view(Special), np.ndarray, "is not exactly the declared type ndarray"),
        (np.ma.masked_array([1]), np.ndarray, "is not exactly the declared type ndarray"),  # type: ignore[no-untyped-call]
        (np.str_("a\0"), None, "comes back changed from npy-scalar.*annotate"),
        ([1, 2], np.ndarray, "is not exactly the declared type ndarray; return that type"),
        (np.float64(1), float, "is not exactly the declared type float; return that type"),
        (
            [np.arange(3)],
            None,
            r"\$\[0\] is a numpy.ndarray; store .tolist\(\), or give it an output of its own",
        ),
        ({"a": np.float64(1)}, None, r"\$\['a'\] is a numpy.float64; store .item\(\), or give"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_npy_would_change_is_refused(value: Any, declared: Any, told: str) -> None:
    """Objects, metadata, subclasses, and arrays inside of other values are refused when stored, with the remedy."""
    with pytest.raises(NotStorable, match=told):
        serialize(value, declared)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("npy", [1], "is no numpy.ndarray; return numpy.asarray"),
        (
            "npy",
            np.array([1]).view(Special),
            "Special is a subclass of numpy.ndarray.*numpy.asarray",
        ),
        ("npy-scalar", 1.5, "is no scalar of numpy"),
        ("json", np.array([1]), r"comes back changed from json.*store .tolist\(\)"),
    ],
)
def test_a_format_by_name_is_for_its_values(name: str, value: Any, told: str) -> None:
    """A named format refuses what it is not for."""
    with pytest.raises(NotStorable, match=told):
        serialize(value, named=name)


def test_no_array_is_ever_unpickled() -> None:
    """An npy file with a pickle in it, from wherever, is not loaded."""
    file = io.BytesIO()
    np.save(file, np.array([dt.date(2026, 1, 1)]), allow_pickle=True)
    with pytest.raises(NotReadable, match="bytes of npy are no value here: ValueError"):
        deserialize(file.getvalue(), "npy")
