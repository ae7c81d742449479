"""What a store holds is its owner's: private modes whatever the umask, and no credential of an output URL anywhere."""

import os
import stat
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from execution import DynamicOut, DynamicOutput, RunResult, execute, job, op, plan_resume, resume
from runstore import ConfigError, RunStore, StorageFailed
from runstore.testing import Failpoint, armed, in_fork
from tests.acceptance.three_stages import EXPECTED, RUN, Scene, values

SECRETS = ("user-canary", "password-canary", "token-canary", "fragment-canary")
URL = "memory://user-canary:password-canary@bucket/some/place?token=token-canary#fragment-canary"


@pytest.mark.parametrize("umask", [0o000, 0o022], ids=oct)
@pytest.mark.parametrize("level", ["fast", "durable"])
def test_modes_of_a_store(level: str, umask: int, tmp_path: Path) -> None:
    """Folders are 0700 and files 0600: the log, its -wal and -shm, the lock, every output, also of a killed run."""
    scene = Scene(tmp_path, level)

    def run() -> None:
        os.umask(umask)
        with armed(Failpoint(point="output.partial", nth=9)):
            scene.execute()

    assert in_fork(run).killed
    kinds = set()
    for path in [scene.store, *scene.store.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
        kinds.add(path.suffix if path.parent != scene.store else path.name)
    assert {"runs.db", "runs.db-wal", "runs.db-shm", "runs.lock", ".txt"} <= kinds
    if level == "durable":  # else a file on Linux has no name before it is whole
        assert ".tmp" in kinds
    assert values(scene.resume()) == EXPECTED


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    """A folder that was there before is its owner's business; what is made in it is private."""
    scene = Scene(tmp_path)
    scene.store.mkdir()
    scene.store.chmod(0o755)
    scene.execute()
    assert stat.S_IMODE(scene.store.stat().st_mode) == 0o755
    assert stat.S_IMODE((scene.store / "runs.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((scene.store / "outputs").stat().st_mode) == 0o700


# Credentials


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Three pieces."""
    for number in range(3):
        yield DynamicOutput(number, mapping_key=number)


@op
def double(number: int) -> int:
    """Twice."""
    return 2 * number


@op
def total(found: list[int]) -> int:
    """The sum."""
    return sum(found)


@job
def doubling() -> None:
    """Fan out, map, collect."""
    total(numbers().map(double).collect())


@pytest.fixture
def _no_objects() -> Iterator[None]:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield
    MemoryFileSystem.store.clear()


def assert_silent(*texts: str) -> None:
    """No credential in any of the texts."""
    for text in texts:
        for secret in SECRETS:
            assert secret not in text


def assert_silent_on_disk(folder: Path) -> None:
    """No credential in any byte of any file, or in its name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        assert_silent(str(path))
        assert not [secret for secret in SECRETS if secret.encode() in data], path


@pytest.mark.usefixtures("_no_objects")
def test_credentials_of_a_run(tmp_path: Path) -> None:
    """Killed and resumed over a URL with credentials: none is in the database, its WAL, results or plans."""

    def run() -> None:
        with armed(Failpoint(point="commit.after", nth=4)):
            execute(doubling, RunStore.open(tmp_path, outputs=URL), run_id=RUN)

    assert in_fork(run).killed
    assert (tmp_path / "runs.db-wal").stat().st_size
    assert_silent_on_disk(tmp_path)
    with RunStore.open(tmp_path, outputs=URL) as store:
        plan = plan_resume(RUN, store, job=doubling)
        result = resume(RUN, store, job=doubling)  # what the killed process held in memory is lost
        assert_silent_on_disk(tmp_path)
        assert result.success
        assert result.output_for_node("total") == 6
        loaded = RunResult.load(RUN, store)
        assert loaded.output_for_node("double") == {"0": 0, "1": 2, "2": 4}
        state = store.state(RUN)
        bodies = [body for _, body in store.rows(RUN)]
        assert_silent(
            repr(plan), repr(result), repr(loaded), repr(state.bases), *bodies, repr(store.runs())
        )
        assert state.bases == ["memory://bucket/some/place/the-run"]
        assert state.started is not None
    assert_silent_on_disk(tmp_path)


@pytest.mark.usefixtures("_no_objects")
def test_credentials_of_a_move(tmp_path: Path) -> None:
    """A resume that moves outputs to a URL with credentials records the place without them."""

    def run() -> None:
        with armed(Failpoint(point="event.before", kind="StepSucceeded", step="double[1]")):
            execute(doubling, tmp_path, run_id=RUN)

    assert in_fork(run).killed
    plan = plan_resume(RUN, tmp_path, job=doubling, outputs=URL)
    assert "base" in plan.changes
    result = resume(RUN, tmp_path, job=doubling, outputs=URL)
    assert result.output_for_node("total") == 6
    assert_silent(repr(plan), repr(result))
    assert_silent_on_disk(tmp_path)


def text_of(raised: BaseException) -> str:
    """Everything that a person or a log file would get to see of an error, without the source lines of this test."""
    parts = [str(raised), repr(raised)]
    shown: BaseException | None = raised
    while shown is not None:
        parts += traceback.TracebackException.from_exception(shown).format_exception_only()
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    return "\n".join(parts)


@pytest.mark.usefixtures("_no_objects")
@pytest.mark.parametrize("verb", ["pipe_file", "cat_file"])
def test_credentials_in_a_failure_of_the_storage(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the storage itself complains with the whole URL, the error names the object without it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, f"access denied to {URL}", URL)

    monkeypatch.setattr(MemoryFileSystem, verb, refuse)
    with (
        RunStore.open(tmp_path, outputs=URL) as store,
        pytest.raises(StorageFailed, match="memory://bucket/some/place/the-run/") as caught,
    ):
        execute(doubling, store, run_id=RUN)
    assert_silent(text_of(caught.value))
    assert_silent_on_disk(tmp_path)


@pytest.mark.parametrize(
    "broken", [URL.replace("memory", "nosuchscheme"), URL.replace("@bucket", "@[bucket")]
)
def test_credentials_in_an_unusable_url(broken: str, tmp_path: Path) -> None:
    """An error about the URL itself does not repeat what is secret in it; no run has begun."""
    with pytest.raises(ConfigError, match="outputs cannot go to") as caught:
        execute(doubling, RunStore.open(tmp_path, outputs=broken), run_id=RUN)
    assert_silent(text_of(caught.value))
    assert not RunStore.open(tmp_path).has_run(RUN)
