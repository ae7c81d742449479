"""One sample of the benchmark, in a process of its own so that its memory and its imports are its own.

    bench_child.py floor kill|power N DIRECTORY
    bench_child.py run fast|durable N DIRECTORY
    bench_child.py nested fast|durable N DIRECTORY    the same numbers, in tens
    bench_child.py kill fast|durable N DIRECTORY      dies by SIGKILL with 10 % of the clones left
    bench_child.py resume fast|durable N DIRECTORY

Prints what it measured as one line of JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

Sample = dict[str, float]


def main() -> None:
    verb, level, n, directory = sys.argv[1:]
    sample = VERBS[verb](Path(directory), level, int(n))
    print(json.dumps(sample | {"peak_bytes": peak_bytes()}))


def floor(directory: Path, level: str, n: int) -> Sample:
    import bench_floor

    return {"seconds": bench_floor.run(directory, level, n)}


def run(directory: Path, level: str, n: int) -> Sample:
    """W(N) from an open store to the result. Opening is reported apart, as the floor does not count its own either.

    A store opens when it is first used, so a run of one clone opens it.
    """
    imported_s = import_all()
    begin = time.perf_counter()
    store = open_store(directory, level)
    execute_in(store, 1)
    opened = time.perf_counter()
    result = execute_in(store, n)
    done = time.perf_counter()
    check_total(result, n)
    return {"seconds": done - opened, "open_s": opened - begin, "import_s": imported_s}


def nested(directory: Path, level: str, n: int) -> Sample:
    """The nested W(N), N a multiple of ten, from an open store to the result."""
    import bench_job

    imported_s = import_all()
    store = open_store(directory, level)
    execute_in(store, 1)
    begin = time.perf_counter()
    result = execute_in(store, n // 10, bench_job.count_up_nested)
    done = time.perf_counter()
    check_total(result, n)
    return {"seconds": done - begin, "import_s": imported_s}


def kill(directory: Path, level: str, n: int) -> Sample:
    import bench_job

    bench_job.probe.kill_at = finished_when_killed(n)
    execute_in(open_store(directory, level), n)
    raise SystemExit("the run was to be killed, and was not")


def resume(directory: Path, level: str, n: int) -> Sample:
    """From before the store is opened to the first line of the first op that runs again."""
    imported_s = import_all()
    import bench_job
    import execution

    begin = time.perf_counter()
    result = execution.resume("last", open_store(directory, level), job=bench_job.count_up)
    check_total(result, n)
    left = n - finished_when_killed(n)
    if bench_job.probe.first_call_at is None or bench_job.probe.calls != left:
        raise SystemExit(f"{bench_job.probe.calls} clones ran on resume instead of {left}")
    return {"seconds": bench_job.probe.first_call_at - begin, "import_s": imported_s}


VERBS = {"floor": floor, "run": run, "nested": nested, "kill": kill, "resume": resume}


def finished_when_killed(n: int) -> int:
    return n * 9 // 10


def import_all() -> float:
    """Import what a run needs, and return the seconds that it took."""
    begin = time.perf_counter()
    import bench_job  # noqa: F401
    import runstore  # noqa: F401

    return time.perf_counter() - begin


def open_store(directory: Path, level: str) -> Any:
    from runstore import RunStore

    return RunStore.open(directory, level=level)


def execute_in(store: Any, n: int, job: Any = None) -> Any:
    import bench_job
    from execution import execute

    config = {"ops": {"numbers": {"config": {"n": n}}}}
    return execute(job or bench_job.count_up, store, run_config=config)


def check_total(result: Any, n: int) -> None:
    """A fast wrong answer is no sample."""
    total = result.output_for_node("total") if result.success else None
    if total != n * (n + 1) // 2:
        raise SystemExit(f"W({n}) ended {result.status} with total {total}")


def peak_bytes() -> int:
    """The most memory that this process has held; Linux counts it in KiB, macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
