#!/usr/bin/env python3
"""Measure executors: scripts/bench_executors.py [--quick] [--json FILE]

    compute    the largest modules of `fixtures/jobs/stdlib_metrics.py`, some 20 ms each: in-process against processes:2
    threads    W(10,000): ms per clone that threads:32 adds to in-process
    processes  W(10,000): ms per clone that processes:2 adds to in-process

W(N) is the job of `bench_job.py`. Level `fast`, each sample a fresh process and folder, those that are compared in
turn; a figure is the median. Beside wall time stands the CPU time of all processes of a sample: on a machine that does
other work as well, it says what wall time cannot. A table, not a test: a target that is not met is shown, and only a
sample that fails makes it exit with 1.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from bench_samples import fresh_folder, session  # noqa: E402

TARGETS = {"compute": 1.7, "threads": 0.5, "processes": 1.0}
EXECUTORS = {"compute": "processes:2", "threads": "threads:32", "processes": "processes:2"}

Sample = tuple[float, float]
"""Seconds by the clock, and of CPU."""


# In processes of their own


def compute(store: Any, executor: Any, n: int) -> None:
    from execution import execute
    from fixtures.jobs.stdlib_metrics import STDLIB, all_modules, is_parsable, stdlib_metrics

    def size(module: str) -> int:
        return (STDLIB / module).stat().st_size

    largest = sorted(filter(is_parsable, all_modules()), key=size, reverse=True)[:n]
    config = {"packages": [module.removesuffix(".py") for module in largest]}
    begin()
    result = execute(
        stdlib_metrics,
        store,
        run_config={"ops": {"modules": {"config": config}}},
        executor=executor,
    )
    assert len(result.output_for_node("parse")) == n


def count_up(store: Any, executor: Any, n: int) -> None:
    import bench_job
    from execution import execute

    begin()
    config = {"ops": {"numbers": {"config": {"n": n}}}}
    result = execute(bench_job.count_up, store, run_config=config, executor=executor)
    assert result.output_for_node("total") == n * (n + 1) // 2


def begin() -> None:
    global begun
    begun = (time.perf_counter(), cpu_s())


def cpu_s() -> float:
    """Of this process, and of its children that have ended."""
    return sum(os.times()[:4])


begun: Sample = (0.0, 0.0)


def child(row: str, executor: str, n: int, folder: str) -> None:
    from execution.executors.by_name import executor_named
    from runstore import RunStore

    with RunStore.open(folder, level="fast") as store:
        (compute if row == "compute" else count_up)(store, executor_named(executor), n)
        print(json.dumps([time.perf_counter() - begun[0], cpu_s() - begun[1]]))


# The table


def sample(disk: Path, row: str, executor: str, n: int) -> Sample:
    command = [sys.executable, __file__, "child", row, executor, str(n), str(fresh_folder(disk))]
    seconds, cpu = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return seconds, cpu


def measure(disk: Path, quick: bool) -> Iterator[tuple[str, float, str]]:
    rounds = 2 if quick else 5
    for row, executor in EXECUTORS.items():
        n = {"compute": 100 if quick else 300}.get(row, 1_000 if quick else 10_000)
        alone, many = [], []
        for _ in range(rounds):
            alone.append(sample(disk, row, "in_process", n))
            many.append(sample(disk, row, executor, n))
        one, two = median(found[0] for found in alone), median(found[0] for found in many)
        cpu = [median(found[1] for found in samples) for samples in (alone, many)]
        detail = f"N={n:,}: {one:.2f} s, {executor} {two:.2f} s; CPU {cpu[0]:.2f} s, {cpu[1]:.2f} s"
        yield row, one / two if row == "compute" else (two - one) / n * 1e3, detail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="small, and twice each")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args()
    rows = []
    with session(ROOT / ".bench") as disk:
        for row, figure, detail in measure(disk, options.quick):
            target, is_ratio = TARGETS[row], row == "compute"
            verdict = "ok" if (figure >= target if is_ratio else figure <= target) else "short"
            unit, bound = ("× ", "least") if is_ratio else ("ms", "most")
            line = f"{row:<9} {figure:5.2f} {unit}  of at {bound:<5} {target:.1f}  {verdict:<6} {detail}"
            print(line, flush=True)
            rows.append({"row": row, "figure": figure, "target": target, "detail": detail})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        _, _, row, executor, n, folder = sys.argv
        child(row, executor, int(n), folder)
    else:
        main()
