"""Steps in threads, processes and on Dask whose outputs are in a bucket: each worker finds the way by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from execution import dask, execute, processes, resume, threads
from execution.executors.base import Executor
from runstore import RunStore
from runstore.config import SmallOutputs
from tests.object_stores.moto import Moto
from tests.unit.process_jobs import COUNT, dying


def new_executor(name: str) -> Executor:
    """Of that name, with two workers."""
    executors: dict[str, Callable[[int], Executor]]
    executors = {"threads": threads, "processes": processes, "dask": dask}
    return executors[name](2)


@pytest.mark.parametrize("small_outputs", ["file", "pack"])
@pytest.mark.parametrize("name", ["threads", "processes", "dask"])
def test_a_run_in_a_bucket(
    tmp_path: Path,
    service: Moto,
    name: str,
    small_outputs: SmallOutputs,
) -> None:
    """Clones of which one kills its worker, a collect over them, and a resume that finds nothing to do."""
    url = f"s3://{service.fresh_bucket()}/out"
    times = 0 if name == "threads" else 1
    settings = {"folder": str(tmp_path), "how": "killed", "times": times}
    with RunStore.open(tmp_path / "s", url, "fast", small_outputs=small_outputs) as store:
        result = execute(
            dying,
            store,
            run_config={"ops": {"deadly": {"config": settings}}},
            executor=new_executor(name),
        )
        assert result.output_for_node("deadly") == {str(n): n for n in range(COUNT)}
        assert result.output_for_node("total") == sum(range(COUNT))
        assert (tmp_path / "died-1").exists() == bool(times)
        assert resume(result.run_id, store, executor=new_executor(name)).success
    secret = service.secret.encode()
    assert not any(secret in file.read_bytes() for file in (tmp_path / "s").glob("runs.db*"))
