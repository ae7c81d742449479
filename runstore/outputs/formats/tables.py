"""Data frames and tables as parquet, through pyarrow; the file says of which library they are.

Parquet forgets some of what a table of Arrow or of pandas is. What can be told the reader stands in the file's own
metadata; all else that comes back changed is refused.
"""

import base64
from typing import Any

import msgspec

from runstore.errors import ExtraMissing, NotStorable
from runstore.exactness import same
from runstore.outputs.formats.declared import type_name
from runstore.outputs.formats.remedies import instead_of

_KEY = b"runstore"
"""In the schema's metadata: `{"library": …}`, and for pandas what `_notes` says."""
_ARROW_SCHEMA = b"ARROW:schema"
_BATCH = 65_536
_REMEDY = (
    "convert it to what parquet holds, store it as another type, or allow pickle with "
    "Out(serializer='pickle')"
)


class Parquet:
    """A `pandas.DataFrame`, `polars.DataFrame` or `pyarrow.Table`, of this very class."""

    name, extension = "parquet", "parquet"

    def encode(self, value: Any, declared: Any) -> bytes:
        """The parquet file; raises NotStorable for what is no table, or none that parquet holds."""
        library = _library(value)
        _pyarrow()
        try:
            table, notes = _TO_ARROW[library](value)
            return _written(table, {"library": library, **notes})
        except Exception as error:
            fact = " ".join(str(error).split())
            raise NotStorable(
                f"a {_shown(value)} cannot be written as parquet: {fact[:200]}; {_REMEDY}"
            ) from error

    def decode(self, data: bytes, declared: Any) -> Any:
        """The table, of the library that stored it; a file of another program is a `pyarrow.Table`."""
        table, notes = _read(data)
        return _FROM_ARROW[notes.get("library", "pyarrow")](table, notes)

    def is_same(self, value: Any, back: Any) -> bool:
        """Same columns, types, index, order and values; raises NotStorable, which says what is not."""
        changed = _CHANGED[_library(value)](value, back)
        if changed is not None:
            raise NotStorable(
                f"a {_shown(value)} comes back changed from parquet: {changed}; {_REMEDY}"
            )
        return type(value) is type(back)


def _library(value: Any) -> str:
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library in _TO_ARROW and kind.__name__ in ("DataFrame", "Table"):
        return library
    told = instead_of(kind) or f"is a {type_name(kind)}; return a table, or let the type pick"
    raise NotStorable(
        f"what is no pandas.DataFrame, polars.DataFrame or pyarrow.Table cannot be parquet: this {told}"
    )


def _shown(value: Any) -> str:
    kind = type(value)
    library, (rows, columns) = kind.__module__.partition(".")[0], value.shape
    return f"{library}.{kind.__name__} of {rows:,} rows and {columns:,} columns"


# The file


def _written(table: Any, notes: dict[str, Any]) -> bytes:
    import pyarrow.parquet

    metadata = {**(table.schema.metadata or {}), _KEY: msgspec.json.encode(notes)}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), sink)
    return bytes(sink.getvalue().to_pybytes())


def _read(data: bytes) -> tuple[Any, dict[str, Any]]:
    pyarrow = _pyarrow()
    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
    table = file.read()
    metadata = dict(table.schema.metadata or {})
    notes = msgspec.json.decode(metadata.pop(_KEY, b"{}"))
    raw = (file.metadata.metadata or {}).get(_ARROW_SCHEMA)
    if raw is not None:  # what parquet has no type for, such as seconds, was another type before
        schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(raw)))
        if table.schema != schema:
            table = table.cast(schema)
    return table.replace_schema_metadata(metadata or None), notes


# pyarrow


def _changed_table(one: Any, other: Any) -> str | None:
    """What of a table came back as anything else, in words."""
    if one.shape != other.shape or one.column_names != other.column_names:
        return "its shape"
    if (one.schema.metadata or None) != (other.schema.metadata or None):
        return "the metadata of its schema"
    for mine, theirs in zip(one.schema, other.schema, strict=True):
        if mine != theirs or mine.metadata != theirs.metadata:
            return f"the type of column {mine.name!r}, {mine.type}"
    for name, mine, theirs in zip(one.column_names, one.columns, other.columns, strict=True):
        if not mine.equals(theirs) and not _same_but_for_nan(mine, theirs):
            return f"column {name!r}"
    return None


def _same_but_for_nan(one: Any, other: Any) -> bool:
    # To Arrow NaN differs from NaN, so that it is asked value by value, a few at a time, where columns differ.
    parts = (
        (one.slice(start, _BATCH), other.slice(start, _BATCH))
        for start in range(0, len(one), _BATCH)
    )
    return all(
        mine.equals(theirs) or same(mine.to_pylist(), theirs.to_pylist()) for mine, theirs in parts
    )


# polars


def _polars_to_arrow(frame: Any) -> tuple[Any, dict[str, Any]]:
    return _unpanicked(frame.to_arrow), {}


def _from_polars(table: Any, notes: dict[str, Any]) -> Any:
    return _unpanicked(_polars().from_arrow, table)


def _unpanicked(function: Any, *args: Any) -> Any:
    # A panic in polars is no Exception, and would pass through everything that stops a step.
    try:
        return function(*args)
    except _polars().exceptions.PanicException as error:
        raise ValueError(str(error)) from error


def _changed_polars(one: Any, other: Any) -> str | None:
    if one.shape != other.shape:
        return "its shape"
    for mine, theirs in zip(one.iter_columns(), other.iter_columns(), strict=True):
        if mine.dtype != theirs.dtype:
            return f"the type of column {mine.name!r}, {mine.dtype}"
    return None if one.equals(other) else "its values"


# pandas


def _pandas_to_arrow(frame: Any) -> tuple[Any, dict[str, Any]]:
    return _pyarrow().Table.from_pandas(frame), _notes(frame)


def _notes(frame: Any) -> dict[str, Any]:
    """What Arrow forgets of a frame: a range as column names, the step of a time index, columns of objects."""
    pandas = _pandas()
    notes: dict[str, Any] = {}
    names = frame.columns
    if type(names) is pandas.RangeIndex:
        notes["columns"] = [names.start, names.stop, names.step]
    freq = getattr(frame.index, "freq", None)
    if freq is not None:
        notes["freq"] = freq.freqstr
    objects = {
        place: _missing(frame.iloc[:, place])
        for place, dtype in enumerate(frame.dtypes)
        if _holds_objects(dtype)
    }
    if objects:
        notes["objects"] = objects
    return notes


def _holds_objects(dtype: Any) -> bool:
    return getattr(dtype, "kind", None) == "O" and str(dtype) == "object"


def _missing(column: Any) -> str | None:
    """What stands for a missing value in a column of objects: "None", "nan", or nothing does."""
    gone = column[column.isna()]
    return None if gone.empty else str(gone.iloc[0])


def _to_pandas(table: Any, notes: dict[str, Any]) -> Any:
    pandas = _pandas()
    frame = table.to_pandas(integer_object_nulls=True)
    if any(map(pandas.api.types.is_extension_array_dtype, frame.dtypes)):
        frame = frame.copy()  # some columns are Arrow's own memory, which nobody may write to
    if "columns" in notes:
        name = frame.columns.name
        frame.columns = pandas.RangeIndex(*notes["columns"], name=name)
    if "freq" in notes:
        frame.index.freq = notes["freq"]
    for place, missing in notes.get("objects", {}).items():
        column = frame.iloc[:, int(place)].astype(object)
        if missing is not None:
            column = column.where(column.notna(), None if missing == "None" else float("nan"))
        frame.isetitem(int(place), column)
    return frame


def _changed_pandas(one: Any, other: Any) -> str | None:
    from pandas import testing

    exact = {"check_index_type": "exact", "check_column_type": "exact", "check_exact": True}
    try:
        testing.assert_frame_equal(one, other, **exact)
    except AssertionError as error:
        return str(error).partition("\n")[0]
    if not same(one.attrs, other.attrs):
        return "its attrs"
    for place, dtype in enumerate(one.dtypes):
        mine, theirs = one.iloc[:, place], other.iloc[:, place]
        if _holds_objects(dtype) and not same(mine.tolist(), theirs.tolist()):
            return f"the objects in column {one.columns[place]!r}"
    return None


_TO_ARROW: dict[str, Any] = {
    "pandas": _pandas_to_arrow,
    "polars": _polars_to_arrow,
    "pyarrow": lambda table: (table, {}),
}
_FROM_ARROW: dict[str, Any] = {
    "pandas": _to_pandas,
    "polars": _from_polars,
    "pyarrow": lambda table, notes: table,
}
_CHANGED: dict[str, Any] = {
    "pandas": _changed_pandas,
    "polars": _changed_polars,
    "pyarrow": _changed_table,
}


# The doors: optional extras, and slow, so that each is imported late


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ExtraMissing.of("pyarrow", "parquet") from None
    return pyarrow


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise _library_missing("pandas") from None
    return pandas


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise _library_missing("polars") from None
    return polars


def _library_missing(package: str) -> ExtraMissing:
    return ExtraMissing(
        f"this output is a data frame of {package}, which is not installed; `pip install {package}`"
    )
