#!/usr/bin/env python3
"""Measure the executor for Dask: scripts/bench_dask.py [--clones 10000] [--rounds 3]

W(N), the job of `bench_job.py`, at level `fast` on a cluster of two worker processes, against a bare `client.map` of
the same ops on the same cluster, which writes the same files (beside, then renamed) and reads them back: no log, no
verification, no resume. In turn, in this process; a figure is the median. A table, not a test.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import bench_job  # noqa: E402
from execution import dask, execute  # noqa: E402
from runstore import RunStore  # noqa: E402

TARGET = 1.3


def store(path: str, value: int) -> None:
    """As an output is stored at level `fast`."""
    with open(f"{path}.tmp", "wb") as file:
        file.write(str(value).encode())
    os.rename(f"{path}.tmp", path)


def read(path: str) -> int:
    """What was stored."""
    with open(path, "rb") as file:
        return int(file.read())


def numbers(folder: str, n: int) -> None:
    """The first op of W(N)."""
    for number in range(n):
        store(f"{folder}/{number}.json", number)


def inc(number: int, folder: str) -> None:
    """The mapped op."""
    store(f"{folder}/{number}.inc.json", read(f"{folder}/{number}.json") + 1)


def total(folder: str, n: int) -> int:
    """The collect."""
    return sum(read(f"{folder}/{number}.inc.json") for number in range(n))


def bare(client: Any, folder: str, n: int) -> int:
    """W(N) without anything but Dask."""
    client.submit(numbers, folder, n, pure=False).result()
    client.gather(client.map(inc, range(n), folder=folder, pure=False))
    result: int = client.submit(total, folder, n, pure=False).result()
    return result


def ours(cluster: Any, folder: str, n: int) -> int:
    """W(N), from an open store to the result."""
    with RunStore.open(folder, level="fast") as opened:
        config = {"ops": {"numbers": {"config": {"n": n}}}}
        result = execute(bench_job.count_up, opened, run_config=config, executor=dask(cluster))
        found: int = result.output_for_node("total")
        return found


def timed(call: Callable[[str], int], expected: int) -> float:
    """Seconds that it takes in a fresh folder."""
    os.sync()
    folder = tempfile.mkdtemp(dir=ROOT / ".bench")
    try:
        begin = time.perf_counter()
        found = call(folder)
        seconds = time.perf_counter() - begin
        assert found == expected, f"a wrong answer: {found}"
        return seconds
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure, and say what was found."""
    from distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clones", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    (ROOT / ".bench").mkdir(exist_ok=True)
    n, expected = given.clones, given.clones * (given.clones + 1) // 2
    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=2, silence_logs=50, **options) as cluster,
        Client(cluster) as client,
    ):
        bares, own = [], []
        for _ in range(given.rounds):
            bares.append(timed(lambda folder: bare(client, folder, n), expected))
            own.append(timed(lambda folder: ours(cluster, folder, n), expected))
    ratio = median(own) / median(bares)
    verdict = "ok" if ratio <= TARGET else "short"
    print(
        f"W({n:,}) on Dask: {ratio:.2f} × a bare client.map (≤ {TARGET} {verdict}); "
        f"{median(own):.1f} s ({min(own):.1f} to {max(own):.1f}) against "
        f"{median(bares):.1f} s ({min(bares):.1f} to {max(bares):.1f})"
    )


if __name__ == "__main__":
    main()
