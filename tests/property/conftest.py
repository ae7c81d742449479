"""Random runs are made in a folder without settings: no `pyproject.toml` is read, and parsed, for each of thousands."""

import contextlib
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        yield
