#!/usr/bin/env python3
"""Measure output storage: scripts/bench_storage.py [--quick] [--json FILE]

    far    W(1,000) with its outputs in S3, 20 ms away, against the same puts and gets one after the other
    pack   W(10,000) at level durable with small outputs packed, against one file for each output
    asked  requests of W(1,000) to that server, packed and not

W(N) is the job of `bench_job.py`. The server is `rclone serve s3` on this machine, 20 ms away by a proxy in a process
of its own. Each sample is a fresh process, those that are compared in turn. A table, not a test: a target that is not
met is shown, and only a sample that fails makes it exit with 1.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

DELAY_S = 0.020
TARGETS = {"far": 1 / 8, "pack": 0.3, "asked": 1 / 10}


# In processes of their own


def run(outputs: str, level: str, small_outputs: str, n: int) -> None:
    """W(N); prints its seconds, from an open store to the result."""
    import bench_job
    from execution import execute
    from runstore import RunStore

    folder = tempfile.mkdtemp(dir=ROOT / ".bench")
    try:
        place = None if outputs == "here" else f"{outputs}/{os.path.basename(folder)}"
        with RunStore.open(folder, place, level, small_outputs=small_outputs) as store:  # type: ignore[arg-type]
            execute(bench_job.count_up, store, run_config=config(1))
            begin = time.perf_counter()
            result = execute(bench_job.count_up, store, run_config=config(n))
            seconds = time.perf_counter() - begin
            assert result.output_for_node("total") == n * (n + 1) // 2
    finally:
        shutil.rmtree(folder)
    print(json.dumps(seconds))


def config(n: int) -> dict[str, object]:
    return {"ops": {"numbers": {"config": {"n": n}}}}


def one_by_one(bucket: str, n: int) -> None:
    """The puts and gets of W(N) in turn, by s3fs alone; prints their seconds."""
    import s3fs

    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    prefix = f"{bucket}/floor-{os.getpid()}"
    filesystem.pipe_file(f"{prefix}/first", b"1")
    begin = time.perf_counter()
    for node in ("numbers", "inc"):
        for i in range(n):
            filesystem.pipe_file(f"{prefix}/{node}/{i}", b"%d" % i)
        for i in range(n):
            filesystem.cat_file(f"{prefix}/{node}/{i}", max_concurrency=1)
    print(json.dumps(time.perf_counter() - begin))


def proxy(port: int) -> None:
    """Stand between; prints its endpoint, then for each line that it reads how many requests have come."""
    from tests.object_stores.proxy import Proxy

    with Proxy(port, DELAY_S) as between:
        print(between.endpoint, flush=True)
        for _ in sys.stdin:
            print(len(between.requests), flush=True)
            between.clear()


# The table


class Far:
    """A server in S3's language, and the way there."""

    def __init__(self, environment: dict[str, str], bucket: str, way: "subprocess.Popen[str]"):
        self.environment, self.bucket, self._way = environment, bucket, way

    def child(self, *words: object) -> float:
        self.requests()
        return child(*words, environment=self.environment)

    def requests(self) -> int:
        """How many have come since the last call."""
        assert self._way.stdin
        assert self._way.stdout
        self._way.stdin.write("\n")
        self._way.stdin.flush()
        return int(self._way.stdout.readline())


@contextmanager
def far_server() -> Iterator[Far]:
    from tests.object_stores.rclone import Rclone

    with tempfile.TemporaryDirectory(dir=ROOT / ".bench") as folder, Rclone(Path(folder)) as server:
        command = [sys.executable, __file__, "child", "proxy", str(server.port)]
        way = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert way.stdout
        endpoint = way.stdout.readline().strip()
        try:
            yield Far({**os.environ, **server.environment(endpoint)}, server.bucket, way)
        finally:
            way.kill()
            way.wait()


def child(*words: object, environment: dict[str, str] | None = None) -> float:
    command = [sys.executable, __file__, "child", *map(str, words)]
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(found.stdout))


def measure(quick: bool) -> Iterator[tuple[str, float, str]]:
    n, rounds = (200, 1) if quick else (1_000, 3)
    with far_server() as far:
        url = f"s3://{far.bucket}/runs"
        floors, ours, packed, asked = [], [], [], {}
        for _ in range(rounds):
            floors.append(far.child("one_by_one", far.bucket, n))
            ours.append(far.child("run", url, "durable", "file", n))
            asked["file"] = far.requests()
            packed.append(far.child("run", url, "durable", "pack", n))
            asked["pack"] = far.requests()
        ratio = median(ours) / median(floors)
        detail = f"N={n:,}: {median(ours):.1f} s against {median(floors):.1f} s; packed {median(packed):.1f} s"
        yield "far", ratio, detail
        detail = f"N={n:,}: {asked['pack']:,} requests against {asked['file']:,}"
        yield "asked", asked["pack"] / asked["file"], detail
    n = 1_000 if quick else 10_000
    samples: dict[str, list[float]] = {"file": [], "pack": []}
    for _ in range(rounds):
        for form, found in samples.items():
            os.sync()
            found.append(child("run", "here", "durable", form, n))
    one, many = (median(samples[form]) / n * 1e6 for form in ("file", "pack"))
    yield "pack", many / one, f"N={n:,}: {many:.0f} µs/clone against {one:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="small and once")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args()
    (ROOT / ".bench").mkdir(exist_ok=True)
    rows = []
    for name, ratio, detail in measure(options.quick):
        verdict = "ok" if ratio <= TARGETS[name] else "short"
        print(
            f"{name:<6} {ratio:.3f} ×  of at most {TARGETS[name]:.3f}  {verdict:<6} {detail}",
            flush=True,
        )
        rows.append({"row": name, "ratio": ratio, "target": TARGETS[name], "detail": detail})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        verb, *rest = sys.argv[2:]
        words = [int(word) if word.isdigit() else word for word in rest]
        {"run": run, "one_by_one": one_by_one, "proxy": proxy}[verb](*words)
    else:
        main()
