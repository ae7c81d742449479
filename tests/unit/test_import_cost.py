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
    "hypothesis",
    "pytest",
    "asyncio",
)


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
