"""Settings of whoever runs the tests must not reach them: neither the environment nor a pyproject.toml."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNSTORE_STORE", "RUNSTORE_OUTPUTS", "RUNSTORE_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
