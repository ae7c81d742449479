"""Data frames and tables come back as they were, of the library that they are of, or are refused when stored."""

import datetime as dt
import decimal
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.errors import NotStorable
from runstore.outputs.formats.registry import PARQUET
from runstore.outputs.serializers import deserialize, serialize

D = decimal.Decimal
DAYS = pd.date_range("2026-01-01", periods=2)
PANDAS = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": [-0.0, np.inf]}),
    "small": pd.DataFrame({"a": np.array([1], "i1"), "b": np.array([1], "f4")}),
    "text": pd.DataFrame({"a": ["x", None], "b": ["y", np.nan]}),
    "objects": pd.DataFrame({"a": pd.Series(["x", None], dtype=object)}),
    "objects and nan": pd.DataFrame({"a": pd.Series(["x", np.nan], dtype=object)}),
    "whole numbers as objects": pd.DataFrame({"a": pd.Series([1, None], dtype=object)}),
    "decimals": pd.DataFrame({"a": [D("1.10"), D("2.00")]}),
    "bytes": pd.DataFrame({"a": [b"x", b"\0"]}),
    "dates": pd.DataFrame({"a": [dt.date(2026, 1, 1), None]}),
    "times": pd.DataFrame({"a": DAYS, "b": DAYS.tz_localize("Europe/Paris")}),
    "seconds": pd.DataFrame({"a": np.array(["2026-01-01", "NaT"], "M8[s]")}),
    "durations": pd.DataFrame({"a": pd.to_timedelta([1, 2], unit="s")}),
    "categories": pd.DataFrame({"a": pd.Categorical(["b", None], ["b", "a"], ordered=True)}),
    "nullable": pd.DataFrame(
        {"a": pd.array([1, None], "Int64"), "b": pd.array(["x", None], "string")}
    ),
    "periods": pd.DataFrame({"a": pd.period_range("2026", periods=2, freq="M")}),
    "intervals": pd.DataFrame({"a": pd.interval_range(0, 2)}),
    "named index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key")),
    "range index": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 9, 2)),
    "time index": pd.DataFrame({"a": [1, 2]}, index=DAYS),
    "many indexes": pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["n", None])
    ),
    "numbered columns": pd.DataFrame([[1, 2]]),
    "many columns": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "named columns": pd.DataFrame({"a": [1]}).rename_axis(columns="c"),
    "no rows": pd.DataFrame({"a": np.array([], "i4"), "b": pd.array([], "string")}),
    "index alone": pd.DataFrame(index=["x", "y"]),
}
PANDAS_REFUSED = {
    "lists": pd.DataFrame({"a": [[1], [2]]}),
    "tuples": pd.DataFrame({"a": [(1, 2)]}),
    "dicts": pd.DataFrame({"a": [{"x": 1}, {"y": 2}]}),
    "mixed": pd.DataFrame({"a": [1, "x"]}),
    "digits": pd.DataFrame({"a": [D("1.10"), D("1.1")]}),
    "two ways to be missing": pd.DataFrame({"a": pd.Series(["x", None, np.nan], dtype=object)}),
    "complex": pd.DataFrame({"a": [1j]}),
    "sparse": pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
    "the same name twice": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "rows without columns": pd.DataFrame(index=range(3)),
    "attrs": pd.DataFrame({"a": [1]}),
}
PANDAS_REFUSED["attrs"].attrs["at"] = (1, 2)
POLARS = {
    "numbers": pl.DataFrame({"a": [1, None], "b": [0.5, float("nan")]}),
    "small": pl.DataFrame({"a": pl.Series([1], dtype=pl.UInt8)}),
    "text": pl.DataFrame({"a": ["x", None], "b": [b"x", b""]}),
    "categories": pl.DataFrame({"a": pl.Series(["x", "y"], dtype=pl.Categorical)}),
    "enum": pl.DataFrame({"a": pl.Series(["x"], dtype=pl.Enum(["y", "x"]))}),
    "times": pl.DataFrame(
        {
            "a": [dt.datetime(2026, 1, 1)],  # noqa: DTZ001
            "b": [dt.time(1)],
            "c": [dt.timedelta(1)],
        }
    ),
    "zones": pl.DataFrame({"a": pl.Series([0], dtype=pl.Datetime("ms", "Europe/Paris"))}),
    "decimals": pl.DataFrame({"a": pl.Series(["1.10"]).cast(pl.Decimal(10, 2))}),
    "lists": pl.DataFrame(
        {"a": [[1], []], "b": pl.Series([[1, 2]] * 2, dtype=pl.Array(pl.Int8, 2))}
    ),
    "records": pl.DataFrame({"a": [{"x": 1, "y": "b"}]}),
    "nulls": pl.DataFrame({"a": [None, None]}),
    "no rows": pl.DataFrame({"a": [1], "b": ["x"]}).head(0),
    "nothing": pl.DataFrame(),
}
POLARS_REFUSED = {
    "objects": pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}),
    "records of nothing": pl.DataFrame({"a": [{}]}),
}
ARROW = {
    "numbers": pa.table({"a": [1, None], "b": [0.5, float("nan")]}),
    "metadata": pa.table({"a": [1]}, metadata={"k": "v"}),
    "metadata of a field": pa.table(
        [pa.array([1])], pa.schema([pa.field("a", pa.int64(), False, {"x": "y"})])
    ),
    "seconds": pa.table({"a": pa.array([1], pa.timestamp("s", "UTC"))}),
    "days": pa.table({"a": pa.array([dt.date(2026, 1, 1)], pa.date64())}),
    "dictionary": pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()}),
    "lists": pa.table({"a": pa.array([[1.0, float("nan")]], pa.large_list(pa.float64()))}),
    "maps": pa.table({"a": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32()))}),
    "chunks": pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2]})]),
    "the same name twice": pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]),
    "no rows": pa.table({"a": [1]}).slice(0, 0),
    "nothing": pa.table({}),
}
ARROW_REFUSED = {
    "unions": pa.table({"a": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
    "runs": pa.table({"a": pa.RunEndEncodedArray.from_arrays([2], [1])}),
    "rows without columns": pa.table({"a": [1]}).select([]),
}


def same_arrow(one: Any, other: Any) -> bool:
    """The same schema and values, NaN being NaN."""
    return bool(
        one.schema.equals(other.schema)
        and (one.schema.metadata or {}) == (other.schema.metadata or {})
        and repr(one.to_pydict()) == repr(other.to_pydict())
    )


def same_pandas(one: Any, other: Any) -> bool:
    """What pandas itself calls equal, types and index too."""
    pd.testing.assert_frame_equal(
        one, other, check_exact=True, check_index_type="exact", check_column_type="exact"
    )
    return True


def cases(named: dict[str, Any]) -> Any:
    """Parameters with their names."""
    return pytest.mark.parametrize("frame", named.values(), ids=list(named))


def check(frame: Any, same: Callable[[Any, Any], bool]) -> None:
    """Declared by its type, in a union or not at all, it is parquet and comes back."""
    for declared in (None, type(frame), type(frame) | None):
        stored = serialize(frame, declared)
        assert (stored.serializer, stored.extension) == ("parquet", "parquet")
        back = deserialize(stored.data, stored.serializer, declared)
        assert type(back) is type(frame)
        assert same(frame, back)
    # Without a declared type too: the file knows its library. Any reader of parquet can open it.
    assert type(deserialize(stored.data, stored.serializer)) is type(frame)
    assert pq.ParquetFile(pa.BufferReader(stored.data)).metadata.num_rows == len(frame)


@cases(PANDAS)
def test_frames_of_pandas_come_back(frame: Any) -> None:
    """Columns, types, index, names and order, missing values as what they were."""
    check(frame, same_pandas)


@cases(POLARS)
def test_frames_of_polars_come_back(frame: Any) -> None:
    """Schema and values."""
    check(frame, lambda one, other: one.schema == other.schema and one.equals(other))


@cases(ARROW)
def test_tables_of_arrow_come_back(frame: Any) -> None:
    """Schema, with its metadata, and values; also types that parquet has no word for."""
    check(frame, same_arrow)


@cases(PANDAS)
def test_a_frame_that_came_back_can_be_changed(frame: Any) -> None:
    """An op may work on the frame that it is given: its cells can be set."""
    stored = serialize(frame)
    back = deserialize(stored.data, stored.serializer)
    for row, column in np.ndindex(back.shape):
        back.iloc[row, column] = back.iloc[0, column]
    assert same_pandas(frame, deserialize(stored.data, stored.serializer))


def test_a_long_column_with_nan_comes_back() -> None:
    """Also where it is compared in parts: a NaN in one of them is found, and so is a number in its place."""
    numbers = np.arange(150_000.0)
    numbers[140_000] = np.nan
    table = pa.table({"a": numbers})
    stored = serialize(table)
    assert stored.serializer == "parquet"
    changed = table.set_column(0, "a", pa.array(np.where(np.isnan(numbers), 5.0, numbers)))
    with pytest.raises(NotStorable, match="column 'a'"):
        PARQUET.is_same(table, changed)


def test_a_frame_of_nothing_comes_back() -> None:
    """Without rows and columns."""
    check(pd.DataFrame(), same_pandas)


@cases(PANDAS_REFUSED | POLARS_REFUSED | ARROW_REFUSED)
def test_what_parquet_would_change_is_refused(frame: Any) -> None:
    """What does not come back as it was is refused when it is stored, with what changed and the remedy."""
    with pytest.raises(NotStorable, match=r"(parquet: .*; convert it.*allow pickle)") as caught:
        serialize(frame)
    library = type(frame).__module__.partition(".")[0]
    assert f"a {library}.{type(frame).__name__} of " in str(caught.value)


class Frame(pd.DataFrame):
    """A subclass, of which parquet keeps nothing."""


@pytest.mark.parametrize(
    ("value", "declared", "named", "told"),
    [
        (pd.Series([1]), None, "parquet", r"parquet: this is a pandas.Series; store .to_frame\(\)"),
        (pl.Series([1]), None, "parquet", r"this is a polars.Series; store .to_frame\(\)"),
        (
            pl.DataFrame({"a": [1]}).lazy(),
            None,
            "parquet",
            r"this is a polars.LazyFrame; store .collect\(\)",
        ),
        (1, None, "parquet", "this is a int; return a table"),
        (pd.Series([1]), None, None, r"\$ is a pandas.Series; store .to_frame"),
        (Frame({"a": [1]}), None, None, r"\$ is a subclass of pandas.DataFrame; store a plain one"),
        (pl.DataFrame({"a": [1]}), pd.DataFrame, None, "not exactly the declared type DataFrame"),
        ([pd.DataFrame()], list[pd.DataFrame], None, r"\$\[0\] is a pandas.DataFrame; give it"),
    ],
)
def test_what_is_no_table_is_refused(value: Any, declared: Any, named: Any, told: str) -> None:
    """Series, lazy frames, subclasses and frames inside of other values are refused, with what to store instead."""
    with pytest.raises(NotStorable, match=told):
        serialize(value, declared, named)


_columns = st.sampled_from(
    [
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.text(st.characters(codec="utf-8")),
        st.none(),
    ]
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), _columns, max_size=3), st.data())
def test_any_frame_comes_back_or_is_refused(columns: dict[str, Any], data: st.DataObject) -> None:
    """Of any columns, for each library: it comes back the same, or is refused with a remedy."""
    rows = data.draw(st.integers(0, 3))
    values = {
        name: data.draw(st.lists(value | st.none(), min_size=rows, max_size=rows))
        for name, value in columns.items()
    }
    same: Any
    for make, same in (
        (pd.DataFrame, same_pandas),
        (lambda data: pl.DataFrame(data, strict=False), lambda one, other: one.equals(other)),
        (pa.table, same_arrow),
    ):
        frame = make(values)
        try:
            stored = serialize(frame)
        except NotStorable as error:
            refused = str(error)
        else:
            assert same(frame, deserialize(stored.data, stored.serializer))
            continue
        assert "allow pickle" in refused


def test_a_file_of_another_program_is_a_table() -> None:
    """A parquet file that says nothing of a library is read as a table of Arrow."""
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), file)
    assert deserialize(file.getvalue(), "parquet").to_pydict() == {"a": [1]}


@pytest.mark.parametrize(
    ("missing", "made", "told"),
    [
        (
            "pyarrow",
            "polars.DataFrame({'a': [1]})",
            "needs pyarrow.*pip install 'runstore[parquet]'",
        ),
        ("zstandard", "1, None, None, 'zstd'", "needs zstandard.*pip install 'runstore[zstd]'"),
        ("cloudpickle", "1, None, 'cloudpickle'", "needs cloudpickle.*'runstore[cloudpickle]'"),
        ("numpy", "[1], None, 'npy'", "needs numpy.*pip install 'runstore[numpy]'"),
    ],
)
def test_a_missing_extra_is_named(missing: str, made: str, told: str) -> None:
    """Where a format's package is not installed, one error says which extra brings it."""
    code = f"""
import sys
{"import polars" if "polars" in made else ""}
sys.modules[{missing!r}] = None
from runstore import ExtraMissing
from runstore.outputs.serializers import serialize
try:
    serialize({made})
except ExtraMissing as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for part in told.split(".*"):
        assert part in ended.stdout


def test_a_frame_whose_library_is_missing_says_so() -> None:
    """A stored frame is not turned into one of another library where its own is not installed."""
    stored = serialize(pd.DataFrame({"a": [1]}))
    code = f"""
import sys
sys.modules["pandas"] = None
from runstore import ExtraMissing
from runstore.outputs.serializers import deserialize
try:
    deserialize({stored.data!r}, "parquet")
except ExtraMissing as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "data frame of pandas, which is not installed; `pip install pandas`" in ended.stdout
