"""The job that these tests kill: fan out, two chained maps, collect; six clones. Each call is noted in a file."""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    ResumePlan,
    RunResult,
    execute,
    job,
    op,
    plan_resume,
    resume,
)
from runstore import RunStore
from runstore.log.state import RunState
from runstore.log.transitions import SUCCEEDED

RUN = "the-run"
LETTERS = "abcdef"
NODES = ("fan_out", "shout", "wrap", "gather")
ALL_STEPS = frozenset(
    ["fan_out", "gather", *(f"{node}[{key}]" for node in ("shout", "wrap") for key in LETTERS)]
)
EXPECTED = {
    "fan_out": {key: key * 3 for key in LETTERS},
    "shout": {key: key.upper() * 3 for key in LETTERS},
    "wrap": {key: f"<{key.upper() * 3}>" for key in LETTERS},
    "gather": "<AAA> <BBB> <CCC> <DDD> <EEE> <FFF>",
}


def note(context: OpContext) -> None:
    """Append the step key to the file of calls, in one write."""
    line = f"{context.step_key}\n".encode()
    fd = os.open(context.op_config["calls"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, line)
    os.close(fd)


@op(out=DynamicOut(str))
def fan_out(context: OpContext) -> Iterator[DynamicOutput[str]]:
    """Six pieces."""
    note(context)
    for letter in LETTERS:
        yield DynamicOutput(letter * 3, mapping_key=letter)


@op
def shout(context: OpContext, piece: str) -> str:
    """The first map."""
    note(context)
    return piece.upper()


@op
def wrap(context: OpContext, piece: str) -> str:
    """The second map."""
    note(context)
    return f"<{piece}>"


@op
def gather(context: OpContext, pieces: list[str]) -> str:
    """The collect."""
    note(context)
    return " ".join(pieces)


@job
def three_stages() -> None:
    """Fan out, map, map, collect."""
    gather(fan_out().map(shout).map(wrap).collect())


@dataclass(frozen=True)
class Scene:
    """A folder with a store for one run of the job, and the file of calls beside it."""

    folder: Path
    level: str = "fast"
    outputs: str | None = None
    """Where outputs go; None: into the store."""
    small_outputs: str = "file"

    @property
    def store(self) -> Path:
        """The store's directory."""
        return self.folder / "store"

    @property
    def config(self) -> dict[str, Any]:
        """Tells each op where to note its call."""
        return {"ops": {node: {"config": {"calls": str(self._calls)}} for node in NODES}}

    @property
    def _calls(self) -> Path:
        return self.folder / "calls.txt"

    def execute(self, store: RunStore | None = None) -> RunResult:
        """Start the run."""
        return execute(three_stages, store or self.open(), run_config=self.config, run_id=RUN)

    def resume(self, store: RunStore | None = None, **more: Any) -> RunResult:
        """Go on with the run."""
        return resume(RUN, store or self.open(), job=three_stages, **more)

    def plan(self, store: RunStore | None = None) -> ResumePlan:
        """What a resume would do."""
        return plan_resume(RUN, store or self.open(), job=three_stages)

    def open(self) -> RunStore:
        """The store, not yet opened on disk."""
        return RunStore.open(self.store, self.outputs, self.level, small_outputs=self.small_outputs)  # type: ignore[arg-type]

    def state(self) -> RunState:
        """The fold of what is on disk."""
        with self.open() as store:
            return store.state(RUN)

    def take_calls(self) -> list[str]:
        """The step keys that were called since the last question, in order."""
        calls = self._calls.read_text().splitlines() if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return calls


def finished_steps(state: RunState) -> set[str]:
    """Step keys with a success in the log."""
    return {
        str(step)
        for node in state.graph.nodes
        for step in state.sealed_steps(node)
        if state.status(step) == SUCCEEDED
    }


def values(result: RunResult) -> dict[str, Any]:
    """Every value of the run."""
    return {node: result.output_for_node(node) for node in NODES}


def event_rows(store: Path) -> list[tuple[int, int, str]]:
    """All rows of `events`, read without runstore."""
    connection = sqlite3.connect(f"{(store / 'runs.db').as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT run, seq, body FROM events ORDER BY run, seq").fetchall()
    finally:
        connection.close()


def file_digests(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
