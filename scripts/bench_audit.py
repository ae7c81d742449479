#!/usr/bin/env python3
"""Measure what audits cost on nested runs of 10,000 and 100,000 clones: scripts/bench_audit.py [--quick] [--dir DIR]

The logs are made once and kept in DIR: `numbers` yields N/10 keys, below each of which `ten_from` yields ten, `inc` is
cloned for all N, and `subtotal` and `total` collect. A point question's figure is the median of some calls in one
process, after the store was opened and asked once, each about another step; of three such medians the best. What reads
much is the best of three calls. A table, not a test.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import bench_job  # noqa: E402
from execution import execute  # noqa: E402
from runstore import RunStore  # noqa: E402
from runstore.audit import (  # noqa: E402
    diff,
    errors,
    explain,
    find_output,
    key_grid,
    lineage,
    progress,
    show_step,
    verify,
    who,
)
from runstore.keys import format_step_key  # noqa: E402
from runstore.log.lines import to_lines  # noqa: E402

RUN, OTHER = "nested", "again"
VIEWS = ("steps", "outputs", "keys", "lineage", "collects")
LISTED = 1_000


def made(folder: Path, clones: int) -> Path:
    """The store with two such runs; made if it is not there."""
    directory = folder / f"audit-{clones}"
    if not (directory / "done").exists():
        print(f"… making two runs of {clones:,} clones in {directory}", file=sys.stderr)
        config = {"ops": {"numbers": {"config": {"n": clones // 10}}}}
        with RunStore.open(directory, level="fast") as store:
            for run in (RUN, OTHER):
                assert execute(
                    bench_job.count_up_nested, store, run_id=run, run_config=config
                ).success
        (directory / "done").touch()
    return directory


def made_part(folder: Path, clones: int, name: str, share: float) -> Path:
    """A store with the first part of such a run's log, as a crash leaves it."""
    directory = folder / f"audit-{clones}-{name}"
    if not (directory / "done").exists():
        with (
            RunStore.open(made(folder, clones), must_exist=True) as whole,
            RunStore.open(directory, level="fast") as part,
        ):
            rows = islice(whole.rows(RUN), round(whole.run(RUN).events * share))
            part.take_in(to_lines(RUN, rows), "part of a log")
        (directory / "done").touch()
    return directory


def made_list(folder: Path) -> Path:
    """A store with a thousand small runs."""
    directory = folder / "audit-runs"
    if not (directory / "done").exists():
        print(f"… making {LISTED:,} runs in {directory}", file=sys.stderr)
        config = {"ops": {"numbers": {"config": {"n": 1}}}}
        with RunStore.open(directory, level="fast") as store:
            for number in range(LISTED):
                execute(bench_job.count_up, store, run_id=f"r{number}", run_config=config)
        (directory / "done").touch()
    return directory


def seconds(call: Callable[[], Any]) -> float:
    """What one call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def best(call: Callable[[], Any]) -> float:
    """What a long call takes: the best of three, since a machine has its noisy hours."""
    return min(seconds(call) for _ in range(3))


def points(store: RunStore, clones: int) -> dict[str, float]:
    """Milliseconds of each point question, median of many, each about another clone."""
    numbers = count(7, 11)

    def clone() -> str:
        number = next(numbers) % clones
        return f"inc[{number // 10}][{number}]"

    state = store.state(RUN)
    files = [find_output(store, state, clone()).address for _ in range(50)]
    digests = [find_output(store, state, clone()).reference.sha256 for _ in range(50)]
    questions: dict[str, Callable[[], Any]] = {
        "who FILE": lambda: who(store, files.pop()),
        "who SHA256": lambda: who(store, digests.pop()),
        "show": lambda: show_step(store, RUN, clone()),
        "lineage --up": lambda: lineage(store, RUN, clone()),
        "lineage --down": lambda: lineage(store, RUN, clone(), "down"),
        "explain": lambda: explain(store, RUN, clone()),
        "keys, a page": lambda: key_grid(store, RUN),
        "keys --status succeeded": lambda: key_grid(store, RUN, status=["succeeded"]),
        "keys --status failed": lambda: key_grid(store, RUN, status=["failed"]),
    }
    return {name: 1e3 * median(seconds(ask) for _ in range(25)) for name, ask in questions.items()}


def measured(folder: Path, sizes: tuple[int, ...]) -> Iterator[tuple[str, str, str]]:
    """(figure, measured, target)"""
    found: dict[int, dict[str, float]] = {}
    for clones in sizes * 3:  # in turn, since a machine has its noisy minutes
        with RunStore.open(made(folder, clones), must_exist=True) as store:
            store.runs()
            asked, before = points(store, clones), found.get(clones, {})
            found[clones] = {name: min(ms, before.get(name, ms)) for name, ms in asked.items()}
    most = sizes[-1]
    for name, ms in found[most].items():
        target = "≤ 100 ms" if name.startswith("keys") else "≤ 50 ms"
        grown = ms / found[sizes[0]][name]
        yield f"{name}, {most:,} clones", f"{ms:.1f} ms", target
        if len(sizes) > 1:
            yield f"{name}, growth from {sizes[0]:,}", f"{grown:.2f} ×", "≤ 1.5 ×"
    with RunStore.open(made(folder, most), must_exist=True) as store:
        events = store.run(RUN).events
        replayed = best(lambda: store.state(RUN)) / events * 1e6
        verified = best(lambda: verify(store, RUN)) / events * 1e6
        yield "verify", f"{verified:.1f} µs/event (a replay: {replayed:.1f})", "≤ 10 µs"
        yield "diff of two runs", f"{best(lambda: diff(store, RUN, OTHER)):.1f} s", "≤ 5 s"
        steps = most + 2 * (most // 10) + 2
        for view in VIEWS:
            took = best(lambda view=view: rows_of(store, view))  # type: ignore[misc]
            yield f"view {view}", f"{took / steps * 1e5:.2f} s per 100,000 steps", "≤ 1 s"
    for name, share in (("halfway", 0.5), ("near its end", 0.9998)):
        part = made_part(folder, most, name.replace(" ", "-"), share)
        with RunStore.open(part, must_exist=True) as store:
            for question, ask, target in of_crashed(store, f"*{most // 4 + 7}"):
                yield f"crashed {name}: {question}", f"{1e3 * best(ask):.1f} ms", target
    directory = made_list(folder)

    def listed() -> None:
        with RunStore.open(directory, must_exist=True) as store:
            assert len(store.runs()) == LISTED

    listed()
    yield (
        f"open and list {LISTED:,} runs",
        f"{1e3 * median(seconds(listed) for _ in range(7)):.0f} ms",
        "≤ 100 ms",
    )


def of_crashed(store: RunStore, one: str) -> Iterator[tuple[str, Callable[[], Any], str]]:
    """What is asked of a run that broke off, and the target; `one`: a glob that one key fits."""
    left = key_grid(store, RUN, status=["pending"]).rows
    cells = ((row.key_path, cell) for row in left for cell in row.cells if row.key_path)
    step = next(format_step_key(cell.op, path) for path, cell in cells if cell.status == "pending")
    yield "explain of a clone", lambda: explain(store, RUN, step), "≤ 50 ms"
    yield "explain of a collect", lambda: explain(store, RUN, "total"), "≤ 50 ms"
    filters: dict[str, dict[str, Any]] = {
        "a page": {},
        "of one op": {"ops": ["inc"]},
        "--retried": {"retried": True},
        "--status pending": {"status": ["pending"]},
        "--like, none": {"like": "none*"},
        "--like, one": {"like": one},
    }
    for name, wanted in filters.items():
        yield f"keys, {name}", lambda wanted=wanted: key_grid(store, RUN, **wanted), "≤ 100 ms"  # type: ignore[misc]
    yield "how far it is", lambda: progress(store, store.run(RUN)), ""
    yield "errors", lambda: errors(store, RUN), ""


def rows_of(store: RunStore, view: str) -> None:
    """Read all rows of a view of the run."""
    for _ in store.query(f"SELECT * FROM {view} WHERE run_id = '{RUN}'"):
        pass


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10,000 clones only")
    parser.add_argument("--dir", type=Path, default=ROOT / ".bench")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    sizes = (10_000,) if options.quick else (10_000, 100_000)
    for name, figure, target in measured(options.dir, sizes):
        print(f"{name:<44}  {figure:<38}  {target}", flush=True)


if __name__ == "__main__":
    main()
