"""Workers and executors killed at random: what `scripts/chaos.py` demands, for as many kills as there is time for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "chaos.py"

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds workers in /proc")


def survive(kills: int, *words: str) -> None:
    """Kill so often, and see that it has happened and did no harm."""
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", str(kills), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = re.search(r"(\d+) kills", ended.stdout)
    assert found is not None
    assert int(found[1]) >= kills


def test_a_few_kills() -> None:
    """A run that is killed in several places ends right after its resumes."""
    survive(5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("level", ["fast", "durable"])
def test_many_kills(level: str) -> None:
    """Many runs that are killed in many places do."""
    survive(200, "--level", level, "--workers", "3")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_kills_on_a_cluster() -> None:
    """So do those whose workers are those of a Dask cluster."""
    survive(200, "--dask", "--level", "fast")
