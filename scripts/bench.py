#!/usr/bin/env python3
"""Measure runstore against the least that any program would have to do: scripts/bench.py [--quick] [--json FILE]

W(N) is a job whose first op yields N numbers, which are mapped and collected, everything persisted (`bench_job.py`).
Its floor writes the same files and events without a framework (`bench_floor.py`). Each sample is a fresh process in a
fresh folder of the same disk, floor and W in turn (A B A B), after a sync so that none pays for what another left
unwritten; a figure is the median. A table, not a test: a target that is not met is shown, and only a sample that fails
makes it exit with 1.

An ext4 without a journal looks through the inodes deleted in the last six minutes whenever it gives out a new one, so
that a deleted checkout or test folder makes each new file many times slower, and hides what runstore adds. So the
samples are spread over the disk and deleted at the end, and the first line says what a new file costs.
"""

import argparse
import json
import math
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench_samples import (
    FLOOR_OF,
    ROOT,
    Bench,
    Sample,
    SampleFailed,
    checked,
    cpu_s,
    new_file_us,
    session,
)

SLOW_FILE_US = 60  # a few times what an idle disk needs
# What an import may not load: the terminal, and whatever an optional extra brings.
NOT_WANTED = """
    aiobotocore boto3 botocore click dask distributed numpy pandas pebble polars pyarrow rich s3fs tzdata
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Row:
    """One line of the table; without a target it only informs."""

    name: str
    measured: float | None
    unit: str
    target: float | None = None
    detail: str = ""

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return self.unit  # which says why: skipped, failed
        if self.target is None:
            return ""
        return "ok" if self.measured <= self.target else "short"


def floors(bench: Bench) -> Iterator[Row]:
    """The floors alone: what the disk of today costs."""
    for level in ("kill", "power"):
        for n in bench.sizes:
            floor = bench.floor(level, n)
            detail = f"{spread(floor, n)}; event body {mid(floor, 'body_bytes'):.0f} B"
            yield Row(f"floor-{level}, N={n:,}", micros(floor, n), "µs/clone", detail=detail)


def fast(bench: Bench) -> Iterator[Row]:
    yield from against_floor(bench, "fast", target=2.5)


def durable(bench: Bench) -> Iterator[Row]:
    yield from against_floor(bench, "durable", target=1.2)


def against_floor(bench: Bench, level: str, target: float) -> Iterator[Row]:
    for n in bench.sizes:
        floor, ours = bench.pair(level, n)
        ratio = mid(ours, "seconds") / mid(floor, "seconds")
        detail = f"{spread(ours, n)}; floor {spread(floor, n)} µs/clone"
        yield Row(f"{level} against floor-{FLOOR_OF[level]}, N={n:,}", ratio, "×", target, detail)


def nested(bench: Bench) -> Iterator[Row]:
    n = bench.sizes[-1]
    flat, ours = bench.nested("fast", n)
    clones = n + 2 * (n // 10)  # the numbers, the clones that yield them and those that add them up
    ratio = micros(ours, clones) / micros(flat, n)
    detail = f"{spread(ours, clones)}; flat {spread(flat, n)} µs/clone"
    yield Row(f"nested against flat, fast, N={n:,}", ratio, "×", 1.2, detail)


def growth(bench: Bench) -> Iterator[Row]:
    if bench.quick:
        yield skipped("growth")
        return
    times = {n: mid(bench.run("fast", n), "seconds") for n in (1_000, 10_000, 100_000)}
    detail = ", ".join(f"N={n:,}: {s / n * 1e6:.0f} µs/clone" for n, s in times.items())
    yield Row("growth of time, fast, 1,000 to 100,000", exponent(times), "exponent", 1.05, detail)


def memory(bench: Bench) -> Iterator[Row]:
    if bench.quick:
        yield skipped("memory")
        return
    n = 100_000
    base, peak = (mid(bench.run("fast", size), "peak_bytes") for size in (10, n))
    detail = (
        f"ru_maxrss of W({n:,}) {peak / 2**20:.1f} MiB less that of W(10) {base / 2**20:.1f} MiB"
    )
    yield Row("peak memory, fast", (peak - base) / n, "B/clone", 700, detail)


def log(bench: Bench) -> Iterator[Row]:
    n = bench.sizes[-1]
    ours = bench.run("fast", n)
    detail = (
        f"runs.db after a checkpoint, N={n:,}; {mid(ours, 'events') / n:.2f} events per clone, "
        f"body {mid(ours, 'body_bytes'):.0f} B"
    )
    yield Row("log", mid(ours, "log_bytes") / n, "B/clone", 1_300, detail)


def resume(bench: Bench) -> Iterator[Row]:
    if bench.quick:
        yield skipped("resume")
        return
    n = 10_000
    for level in ("durable", "fast"):
        samples = bench.resume(level, n)
        detail = (
            f"{mid(samples, 'seconds') * 1e3:.0f} ms from opening the store to the first op, {n * 9 // 10:,} clones "
            f"finished, {n // 10:,} left; imports {mid(samples, 'import_s') * 1e3:.0f} ms apart"
        )
        yield Row(
            f"resume, {level}, N={n:,}", micros(samples, n * 9 // 10), "µs/finished", 40, detail
        )


def help_(bench: Bench) -> Iterator[Row]:
    beside = Path(sys.executable).parent / "runstore"
    entry = "import sys; from execution.cli.main import main; sys.argv[0] = 'runstore'; main()"
    command = [str(beside)] if beside.exists() else [sys.executable, "-c", entry]
    cpu_s([*command, "--help"])  # the first one compiles
    samples = [cpu_s([*command, "--help"]) for _ in range(3 if bench.quick else 7)]
    detail = f"user and system; {min(samples):.3f} to {max(samples):.3f}"
    yield Row("runstore --help", median(samples), "CPU s", 0.3, detail)


def imports(bench: Bench) -> Iterator[Row]:
    code = (
        "import sys, time; t = time.process_time(); from execution import execute; s = time.process_time() - t\n"
        f"print(s, *sorted(set(sys.modules) & set({NOT_WANTED})))"
    )
    seconds, *loaded = checked([sys.executable, "-c", code]).split()
    detail = (
        f"{' '.join(loaded) or 'none of click, rich and the extras'}; {float(seconds):.3f} CPU s"
    )
    yield Row("import execution loads", len(loaded), "modules", 0, detail)


def skipped(name: str) -> Row:
    return Row(name, None, "skipped", detail="not with --quick")


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "fast": fast,
    "durable": durable,
    "nested": nested,
    "growth": growth,
    "memory": memory,
    "log": log,
    "resume": resume,
    "help": help_,
    "imports": imports,
}
ALONE = {"floors": floors}  # only when asked for


def mid(samples: list[Sample], name: str) -> float:
    return median(sample[name] for sample in samples)


def micros(samples: list[Sample], n: int) -> float:
    return mid(samples, "seconds") / n * 1e6


def spread(samples: list[Sample], n: int) -> str:
    """Median, least and most microseconds per clone."""
    each = sorted(sample["seconds"] / n * 1e6 for sample in samples)
    return f"{median(each):.0f} ({each[0]:.0f} to {each[-1]:.0f})"


def exponent(times: dict[int, float]) -> float:
    """The k of the line time = c · N^k through the points, by least squares on logarithms."""
    points = [(math.log(n), math.log(seconds)) for n, seconds in times.items()]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )


def machine(disk: Path) -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "filesystem": filesystem(disk),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "µs per new file": round(new_file_us(disk)),
    }


def filesystem(path: Path) -> str:
    """The type of the file system that holds `path`; Linux tells in /proc/mounts, by the longest prefix."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    holding = [m for m in mounts if path.resolve().is_relative_to(m[1])]
    return max(holding, key=lambda m: len(m[1]))[2] if holding else "unknown"


def line(name: str, measured: str, target: str, verdict: str, detail: str) -> str:
    return f"{name:<40}  {measured:>17}  {target:>7}  {verdict:<7}  {detail}".rstrip()


def figure(row: Row) -> str:
    return "" if row.measured is None else f"{row.measured:.4g} {row.unit}"


def limit(row: Row) -> str:
    return "" if row.target is None else f"≤ {row.target:g}"


def measure(bench: Bench, names: list[str]) -> Iterator[Row]:
    """All rows, each as soon as it is known; one that fails says why and does not stop the others."""
    for name in names:
        print(f"… {name}", file=sys.stderr, flush=True)
        try:
            yield from (ROWS | ALONE)[name](bench)
        except SampleFailed as error:
            yield Row(name, None, "failed", detail=str(error))


def show(row: Row) -> None:
    print(line(row.name, figure(row), limit(row), row.verdict, row.detail), flush=True)


def keep(path: Path, about: dict[str, Any], rows: list[Row], bench: Bench) -> None:
    """Write what is known so far, so that nothing is lost when the rest is interrupted."""
    report = {
        "machine": about,
        "rows": [asdict(row) | {"verdict": row.verdict} for row in rows],
        "samples": bench.samples,
    }
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="The benchmark of runstore; see the first lines of this file."
    )
    parser.add_argument("--quick", action="store_true", help="N = 1,000 only, fewer samples")
    parser.add_argument(
        "--only", action="append", metavar="ROW", choices=[*ROWS, *ALONE],
        help=f"only this row (may be repeated): {', '.join([*ROWS, *ALONE])}",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write figures and samples there, row by row"
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=ROOT / ".bench",
        help="a folder on the disk to measure; default: .bench",
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    with session(options.dir.resolve()) as disk:
        about = machine(disk)
        print(" · ".join(f"{name} {value}" for name, value in about.items()), flush=True)
        if about["µs per new file"] > SLOW_FILE_US:
            print("note: new files are slow; was much deleted in the last six minutes?", flush=True)
        bench = Bench(disk, options.quick)
        print(line("", "measured", "target", "", ""), flush=True)
        rows: list[Row] = []
        for row in measure(bench, options.only or list(ROWS)):
            rows.append(row)
            show(row)
            if options.json:
                keep(options.json, about, rows, bench)
    return 1 if any(row.verdict == "failed" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
