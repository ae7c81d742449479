"""A run as Parquet: one file for each of its tables. The one room of the audit that knows pyarrow."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from runstore.audit.tables import TABLES, columns, table
from runstore.errors import ConfigError
from runstore.store import RunStore

_BATCH = 10_000
_INTS = frozenset(
    [
        "seq",
        "epoch",
        "attempt",
        "attempts",
        "base",
        "size_bytes",
        "number",
        "place",
        "accepted",
        "source_seq",
    ]
)
_FLOATS = frozenset({"seconds"})


def export_parquet(store: RunStore, run: str, directory: Path) -> Iterator[Path]:
    """Write `<table>.parquet` for every table of a run, and give the path of each once it is whole.

    Raises RunNotFound; ConfigError where pyarrow is not there, OSError where a file cannot be written.
    """
    try:
        import pyarrow  # imported late, at its one door: an optional extra
        import pyarrow.parquet as parquet
    except ImportError:
        raise ConfigError(
            "Parquet needs pyarrow; install runstore[parquet], or export as jsonl"
        ) from None
    run_id = store.resolve(run)
    directory.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        path = directory / f"{name}.parquet"
        schema = pyarrow.schema([(one, _type(pyarrow, one)) for one in columns(store, name)])
        rows = table(store, run_id, name)
        with parquet.ParquetWriter(path, schema) as writer:
            while batch := list(islice(rows, _BATCH)):
                writer.write_table(pyarrow.Table.from_pylist(batch, schema))
        yield path


def _type(pyarrow: Any, column: str) -> Any:
    if column in _INTS:
        return pyarrow.int64()
    return pyarrow.float64() if column in _FLOATS else pyarrow.string()
