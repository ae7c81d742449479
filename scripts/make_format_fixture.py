#!/usr/bin/env python3
"""Make the store that FORMAT.md takes its examples from: scripts/make_format_fixture.py [DIRECTORY] [--documents]

Four runs of `fixtures/stores/v1_job.py`, in which every kind of event occurs:

- `mended`: killed while a clone runs; resumed, that clone fails; an output is deleted; resumed to the end, in which
  a step is tried twice.
- `stopped`: killed between a seal and the success of its step, then cancelled.
- `redone`: a rerun of one clone of `mended`; what it needs is reused, what needs it is left out.
- `tidied`: killed between a seal and the success of its step, resumed to the end; then pruned, and moved to another
  folder.

The store of a format that was released is kept for ever, so the default directory must not exist yet. Host name and
source folder are replaced, so that nothing in it says where it was made.

With --documents nothing is made; what FORMAT.md and ARCHITECTURE.md copy is copied anew: examples, SQL, transitions.
`scripts/make_docs.py` does the same for the pages of `docs/`.
"""

import argparse
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from execution import execute, rerun, resume  # noqa: E402
from execution.running import failing, hook_runner  # noqa: E402
from fixtures.stores.v1_job import offsets  # noqa: E402
from runstore import RunStore  # noqa: E402
from runstore.housekeeping import move, prune  # noqa: E402
from runstore.log import recorder, schema  # noqa: E402
from runstore.log.events import ErrorInfo, OutputStored  # noqa: E402
from runstore.log.transitions import (  # noqa: E402
    PENDING,
    RUN_TRANSITIONS,
    STATUS_NAMES,
    STEP_TRANSITIONS,
)
from runstore.testing import Failpoint, armed, in_fork  # noqa: E402

READ = {"ops": {"table": {"config": {"reader": "a clock"}}}}
UNREADABLE = {"ops": {"minutes": {"config": {"unreadable": ["Asia/Kolkata"]}}}}


def main() -> None:
    """Make the store and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "directory", nargs="?", type=Path, default=ROOT / "fixtures" / "stores" / "v1"
    )
    parser.add_argument("--documents", action="store_true")
    arguments = parser.parse_args()
    directory = arguments.directory
    if arguments.documents:
        copy_into_documents(directory)
        return
    if directory.exists():
        sys.exit(f"{directory} exists; a released fixture is never made anew. Name another place")
    make_anonymous()
    make_mended(directory)
    make_stopped(directory)
    assert rerun("mended", directory, select="minutes[UTC]", new_run_id="redone").success
    make_tidied(directory)
    with RunStore.open(directory) as store:
        print(f"{directory}: {', '.join(run.run_id for run in store.runs())}")
    tidy(directory)


def make_anonymous() -> None:
    """Let every machine be `localhost`, and tracebacks name files from the root of the sources on."""
    describe = failing.describe_error

    def without_root(error: BaseException) -> ErrorInfo:
        told = describe(error)
        return ErrorInfo(told.type, told.message, told.traceback.replace(f"{ROOT}/", ""))

    failing.describe_error = hook_runner.describe_error = without_root
    socket.gethostname = lambda: "localhost"


def make_mended(directory: Path) -> None:
    """Crash, fail, lose an output, try again, succeed: three epochs of one run."""
    killed_at(
        Failpoint(point="event.after", kind="OutputStored", step="minutes[Asia/Kolkata]"),
        lambda: execute(offsets, directory, run_id="mended", tags={"team": "clocks"}),
    )
    failed = resume("mended", directory, run_config=UNREADABLE)
    assert failed.status == "failed"
    lose(directory, "mended", "minutes[Europe/Paris]")
    assert resume("mended", directory, run_config=READ).success


def make_stopped(directory: Path) -> None:
    """Crash with the seal on disk and the success not, then cancel."""

    def run() -> None:
        recorder.GROUP_S = 0.0  # a commit after each event
        execute(offsets, directory, run_id="stopped")

    killed_at(Failpoint(point="event.before", kind="StepSucceeded", step="zones"), run)
    with RunStore.open(directory) as store:
        assert store.cancel("stopped") == "cancelled"


def make_tidied(directory: Path) -> None:
    """Crash with outputs that will not count, go on to the end, prune, move."""

    def run() -> None:
        recorder.GROUP_S = 0.0  # a commit after each event
        execute(offsets, directory, run_id="tidied")

    killed_at(Failpoint(point="event.before", kind="StepSucceeded", step="zones"), run)
    assert resume("tidied", directory).success
    with RunStore.open(directory) as store:
        list(prune(store, "tidied"))
        move(store, "tidied", str(directory / "moved"), delete_old=True)


def killed_at(failpoint: Failpoint, run: Callable[[], Any]) -> None:
    """Run in a process that is killed where it is said."""

    def killed() -> None:
        with armed(failpoint):
            run()

    assert in_fork(killed).killed


def lose(directory: Path, run_id: str, step: str) -> None:
    """Delete the file of a plain output."""
    with RunStore.open(directory) as store:
        stored = [event for _, event in store.step_events(run_id, step)]
    for event in stored:
        if isinstance(event, OutputStored):
            (directory / "outputs" / run_id / event.reference.path).unlink()


def tidy(directory: Path) -> None:
    """Fold the write-ahead log into the file, and drop what deleted rows have left in it."""
    connection = sqlite3.connect(directory / "runs.db")
    assert connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    (directory / "runs.lock").unlink()


# What the documents copy


def copy_into_documents(directory: Path) -> None:
    """Bring examples, SQL and transitions of both documents up to date; everything else is left as it is."""
    format_page, architecture = ROOT / "FORMAT.md", ROOT / "ARCHITECTURE.md"
    text = with_examples(format_page.read_text(), rows_of(directory))
    for name, ddl in schema.OBJECTS.items():
        block = rf"(?<=^```sql\n){re.escape(first_line(ddl))}\n.*?(?=^```)"
        text, found = re.subn(block, lambda _, ddl=ddl: ddl.strip() + "\n", text, flags=re.M | re.S)
        if found != 1:
            sys.exit(
                f"{format_page} shows {name!r} {found} times; it wants a paragraph and a block"
            )
    table = r"^\| \| pending \|.*?(?=^\n)"
    format_page.write_text(re.sub(table, lambda _: transition_table(), text, flags=re.M | re.S))
    block = r"(?<=^```mermaid\n)stateDiagram.*?(?=^```)"
    text = architecture.read_text()
    architecture.write_text(re.sub(block, lambda _: diagram(), text, flags=re.M | re.S))


def rows_of(directory: Path) -> dict[tuple[str, int], str]:
    """(run id, seq) -> body of every event; read from a copy, since opening a log makes files beside it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(directory, Path(folder) / "store")
        with RunStore.open(Path(folder) / "store") as store:
            return {
                (run.run_id, seq): body
                for run in store.runs()
                for seq, body in store.rows(run.run_id)
            }


def with_examples(text: str, rows: dict[tuple[str, int], str]) -> str:
    """The text with each example as the row that it says it is."""
    return re.sub(
        r"Run `(\w+)`, seq (\d+):\n\n```json\n.*?```",
        lambda found: (
            f"Run `{found[1]}`, seq {found[2]}:\n\n"
            f"```json\n{in_lines(rows[found[1], int(found[2])])}\n```"
        ),
        text,
        flags=re.S,
    )


def in_lines(body: str, width: int = 116) -> str:
    """A row in several lines, broken after commas that stand outside texts."""
    lines = [""]
    for part in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^",])*,?', body):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n  ".join(lines)


def first_line(ddl: str) -> str:
    """What tells one statement from the others."""
    return ddl.strip().splitlines()[0]


def diagram() -> str:
    """STEP_TRANSITIONS as a state diagram of Mermaid; events that lead the same way share an arrow."""
    arrows: dict[tuple[int, int], list[str]] = {}
    for status, legal in STEP_TRANSITIONS.items():
        for kind, after in legal.items():
            arrows.setdefault((status, after), []).append(kind.__name__)
    for status, legal in RUN_TRANSITIONS.items():
        for kind, after in legal.items():
            arrows.setdefault((status, after), []).append(kind.__name__)
    lines = ["stateDiagram-v2", f"    [*] --> {STATUS_NAMES[PENDING]}"]
    for (status, after), kinds in arrows.items():
        lines.append(f"    {STATUS_NAMES[status]} --> {STATUS_NAMES[after]}: {', '.join(kinds)}")
    return "\n".join(lines) + "\n"


def transition_table() -> str:
    """STEP_TRANSITIONS as a table: for each event what a step is after it, in each state that it may find it in."""
    lines = [f"| | {' | '.join(STATUS_NAMES)} |", f"|---|{'---|' * len(STATUS_NAMES)}"]
    for kind in dict.fromkeys(kind for legal in STEP_TRANSITIONS.values() for kind in legal):
        cells = [f"`{kind.__name__}`"]
        for status in range(len(STATUS_NAMES)):
            after = STEP_TRANSITIONS[status].get(kind)
            cells.append("·" if after is None else STATUS_NAMES[after])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
