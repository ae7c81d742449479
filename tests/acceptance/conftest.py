"""Settings of whoever runs the tests must not reach them: neither the environment nor a pyproject.toml."""

from pathlib import Path

import pytest

from tests.acceptance.audited import Audited


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """A nested run that was killed, failed and was resumed twice; for reading only."""
    made = Audited(tmp_path_factory.mktemp("audited"))
    made.make()
    return made


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNSTORE_STORE", "RUNSTORE_OUTPUTS", "RUNSTORE_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
