"""Random runs that were cut, have lost outputs, and were resumed or left as they were: what audits are asked about."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from execution import execute, resume
from execution.definition.job import JobDefinition
from runstore.errors import RunStoreError
from runstore.store import RunStore
from tests.property.logs import RUN, cut
from tests.shapes import Shape, job_of, shapes

Crash = tuple[float, bool, list[int], bool]
"""Where the log is cut; whether files that it no longer names stay; which files are lost; whether it is resumed."""

crashes = st.lists(
    st.tuples(
        st.floats(0.2, 1), st.booleans(), st.lists(st.integers(0, 30), max_size=3), st.booleans()
    ),
    max_size=3,
)
some_shapes = shapes(most=6)


@contextlib.contextmanager
def crashed_run(shape: Shape, history: list[Crash], root: Path) -> Iterator[RunStore]:
    """A store with the run `r` of a shape, after these crashes and resumes."""
    with crashed(job_of(shape), history, root) as store:
        yield store


@contextlib.contextmanager
def crashed(job: JobDefinition, history: list[Crash], root: Path) -> Iterator[RunStore]:
    """The same of a job."""
    with RunStore.open(root / "0", level="fast") as store:
        execute(job, store, run_id=RUN)
    for number, (fraction, all_files, lost, is_resumed) in enumerate(history, 1):
        before = root / str(number - 1)
        with RunStore.open(before, level="fast") as store:
            length = sum(1 for _ in store.rows(RUN))
        rows = max(1, round(fraction * length))
        with cut(before, root / str(number), rows, all_files=all_files) as store:
            lose(root / str(number) / "outputs", lost)
            if is_resumed:
                # Outputs that cannot be made again stop a resume; its log so far is as good as any.
                with contextlib.suppress(RunStoreError):
                    resume(RUN, store, job=job)
    with RunStore.open(root / str(len(history)), level="fast") as store:
        yield store


def lose(outputs: Path, which: list[int]) -> None:
    """Delete some files."""
    files = sorted(path for path in outputs.rglob("*") if path.is_file())
    for number in which:
        if files:
            files[number % len(files)].unlink(missing_ok=True)


def copy_of(store: RunStore, target: Path) -> Path:
    """A copy of a store's log, for whoever opens it with other tools."""
    assert store.directory is not None
    shutil.copytree(store.directory, target)
    return target / "runs.db"
