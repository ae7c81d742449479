"""Importing the library is cheap: no terminal, no cloud, no optional extra comes with it."""

import subprocess
import sys

import pytest

HEAVY = (
    "click",
    "rich",
    "fsspec",
    "s3fs",
    "boto3",
    "botocore",
    "aiobotocore",
    "distributed",
    "dask",
    "pebble",
    "numpy",
    "pandas",
    "pyarrow",
    "polars",
    "zstandard",
    "cloudpickle",
    "hypothesis",
    "pytest",
    "asyncio",
)


PLAIN = """
import sys
from runstore.outputs.serializers import deserialize, serialize
for value in (1, "a", None, [1.5, {"a": b""}]):
    stored = serialize(value)
    deserialize(stored.data, stored.serializer)
print(*sorted({name.partition('.')[0] for name in sys.modules}))
"""


def test_plain_values_need_no_extra() -> None:
    """To store and to read what the core's formats hold loads none of the libraries of the other formats."""
    ended = subprocess.run(
        [sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True
    )
    assert not set(ended.stdout.split()) & set(HEAVY)


@pytest.mark.parametrize("package", ["execution", "runstore"])
def test_what_an_import_brings(package: str) -> None:
    """Importing the package loads neither click nor rich nor any extra, and not the outputs' cloud libraries."""
    code = (
        f"import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert package in found
    assert not set(found) & set(HEAVY)
