"""Jobs whose outputs are arrays, data frames, and pickles."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa

from execution import DynamicOut, DynamicOutput, Out, Output, job, op

FRAME = pd.DataFrame({"city": ["Paris", "Oslo", "Paris"], "n": [1, 2, 3]})
VALUES: dict[str, Any] = {
    "text": "line\n",
    "raw": b"\x00\xff",
    "typed": (1, "a"),
    "packed": [float("nan"), b"a"],
    "array": np.arange(6.0).reshape(2, 3),
    "scalar": np.float64(0.5),
    "pandas": FRAME,
    "polars": pl.DataFrame({"a": [1, None]}),
    "arrow": pa.table({"a": [1, None]}),
    "pickled": {1, 2},
    "small_text": "line\n" * 100,
    "small_json": {"a": [1] * 100},
    "small_frame": FRAME,
    "small_pickle": {1, 2},
}
FORMATS = {
    "text": "text",
    "raw": "raw",
    "typed": "json",
    "packed": "msgpack",
    "array": "npy",
    "scalar": "npy-scalar",
    "pandas": "parquet",
    "polars": "parquet",
    "arrow": "parquet",
    "pickled": "pickle",
    "small_text": "text+zstd",
    "small_json": "json+zstd",
    "small_frame": "parquet+zstd",
    "small_pickle": "pickle+zstd",
}


@op(
    out={
        "text": Out(str),
        "raw": Out(bytes),
        "typed": Out(tuple[int, str]),
        "packed": Out(),
        "array": Out(np.ndarray),
        "scalar": Out(),
        "pandas": Out(pd.DataFrame),
        "polars": Out(),
        "arrow": Out(pa.Table),
        "pickled": Out(serializer="pickle"),
        "small_text": Out(str, compress="zstd"),
        "small_json": Out(compress="zstd:9"),
        "small_frame": Out(pd.DataFrame, compress="zstd"),
        "small_pickle": Out(serializer="pickle", compress="zstd"),
    }
)
def every() -> Any:
    for name, value in VALUES.items():
        yield Output(value, name)


@job
def formats() -> None:
    every()


@op(out=DynamicOut(pd.DataFrame, compress="zstd"))
def by_city() -> Iterator[DynamicOutput[pd.DataFrame]]:
    for city, part in FRAME.groupby("city", sort=False):
        yield DynamicOutput(part, str(city))


@op
def numbers(part: pd.DataFrame) -> npt.NDArray[np.int64]:
    return part["n"].to_numpy()


@op
def joined(parts: list[np.ndarray], frames: list[pd.DataFrame]) -> pd.DataFrame:  # type: ignore[type-arg]
    return pd.concat(frames).assign(n=np.concatenate(parts) * 10)


@job
def pipeline() -> None:
    cities = by_city()
    joined(cities.map(numbers).collect(), cities.collect())


class Plain:
    def __init__(self, x: int = 1) -> None:
        self.x = x


@op
def plain() -> Plain:
    return Plain(7)


@op(out=Out(compress="zstd"))
def anything() -> Any:
    return {1, (2, 3)}


@op
def unpickled(one: Plain, other: Any) -> int:
    return one.x + len(other)


@job
def pickles() -> None:
    unpickled(plain(), anything())


@op
def wrong() -> Plain:
    return {1}  # type: ignore[return-value]


@job
def wrong_type() -> None:
    wrong()


@op(out=Out(serializer="json"))
def named() -> Any:
    return {1}


@job
def named_format() -> None:
    named()


@op
def hopeless() -> Any:
    return lambda: 1


@job
def not_even_pickled() -> None:
    hopeless()
