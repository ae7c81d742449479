"""The same job, unchanged, wherever its outputs go: killed at any time, it ends as one does that nobody has killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from execution import resume
from runstore.log import recorder
from runstore.log.database import Database
from runstore.outputs.output_store import PACKED_AHEAD
from runstore.testing import Failpoint, record_points
from tests.acceptance import three_stages, twenty_clones
from tests.acceptance.test_crash_matrix import (
    COMMITS,
    end_of,
    failpoints_for,
    go_on,
    kill_run,
    reset,
    resume_and_check,
)
from tests.acceptance.twenty_clones import (
    EXPECTED,
    OUTPUTS,
    RUN,
    WINDOW,
    Scene,
    assert_only_what_was_in_flight_runs_again,
    assert_whole,
    values,
)
from tests.object_stores.client import lead_to
from tests.object_stores.fixtures import STORES
from tests.object_stores.moto import Moto
from tests.object_stores.proxy import Proxy
from tests.object_stores.server import ObjectStore

ROOT = Path(__file__).parent.parent.parent
JOB = f"{twenty_clones.__file__}:twenty"


@pytest.fixture
def _no_objects() -> Iterator[None]:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield
    MemoryFileSystem.store.clear()


# Killed in the middle


def run_until_held(scene: Scene, held: str) -> list[str]:
    """`runstore run` in a process of its own, killed when it has come to a step; what it has called."""
    scene.hold(held)
    config = scene.folder / "config.json"
    config.write_text(json.dumps(scene.config))
    words = ["run", JOB, "--run-id", RUN, "--store", str(scene.store), "--config", str(config)]
    if scene.outputs:
        words += ["--outputs", scene.outputs]
    environment = {"PYTHONPATH": str(ROOT), "RUNSTORE_SMALL_OUTPUTS": scene.small_outputs}
    process = subprocess.Popen(
        [sys.executable, "-m", "execution.cli.main", *words],
        cwd=scene.folder,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (scene.calls.exists() and held in scene.calls.read_text().splitlines()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (scene.folder / f"hold-{held}").unlink()
    return scene.take_calls()


@pytest.mark.parametrize(
    ("place", "small_outputs"),
    [*((place, "file") for place in ("disk", *STORES)), ("moto", "pack")],
)
def test_killed_in_the_middle_of_a_fan_out(
    place: str,
    small_outputs: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A killed process costs what was in flight: 1 step on a disk, up to 16 elsewhere, more where outputs are packed;
    the end is the same.
    """
    outputs, window = None, 1
    if place != "disk":
        server = request.getfixturevalue(place)
        lead_to(monkeypatch, server)
        outputs = f"s3://{server.fresh_bucket()}/some/place"
        window = PACKED_AHEAD if small_outputs == "pack" else WINDOW
    scene = Scene(tmp_path, outputs, small_outputs=small_outputs)
    called = run_until_held(scene, "shift[11]")
    crashed = scene.state()
    assert crashed.small_outputs == small_outputs
    result = scene.resume()
    assert result.success
    assert values(result) == EXPECTED
    assert_only_what_was_in_flight_runs_again(crashed, called, scene.take_calls(), window)


@pytest.mark.usefixtures("_no_objects")
def test_killed_with_outputs_in_memory(tmp_path: Path) -> None:
    """`memory://` dies with its process: whatever a resume has to read is made again, and the end is the same."""
    scene = Scene(tmp_path, "memory://bucket/some/place")
    run_until_held(scene, "shift[11]")
    result = scene.resume()
    assert result.success
    assert result.output_for_node("total") == EXPECTED["total"]
    ran = scene.take_calls()
    assert len(ran) == len(set(ran))


# Killed at every point


SAMPLE = {"memory": 40, "moto": 4}
"""Points in the default tier; all of them in the slow one."""


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs, to copy."""
    directory = tmp_path_factory.mktemp("empty")
    Database(directory / "runs.db", writable=True).close()
    return directory


def kill_at_points(
    server: Moto, folder: Path, empty_store: Path, sample: int | None, small_outputs: str = "file"
) -> None:
    """Kill a run at its points, or at some; each time all that the log names is whole, and a resume does the rest."""
    place = f"s3://{server.fresh_bucket()}/some/place"
    points = failpoints_for(
        record_points(
            three_stages.Scene(
                folder / "points", outputs=place, small_outputs=small_outputs
            ).execute
        )
    )
    assert {point.point for point in points} >= {"output.before", "output.after", "commit.after"}
    if sample is not None:
        points = random.Random("points of a run on moto").sample(points, sample)
    for failpoint in points:
        bucket = server.fresh_bucket()
        scene = three_stages.Scene(
            folder / "run", outputs=f"s3://{bucket}/some/place", small_outputs=small_outputs
        )
        reset(scene, empty_store)
        if is_in_every_run(failpoint, small_outputs):
            kill_run(scene.execute, failpoint)
        else:
            ending = end_of(scene.execute, failpoint)
            assert ending.killed or not ending.code, f"{failpoint}: {ending}"
        if scene.open().has_run(RUN):
            assert_whole(scene, server, bucket, "some/place")
        resume_and_check(scene, f"{failpoint}", window=WINDOW)


FEWEST_COMMITS = len(three_stages.ALL_STEPS)
"""One for the start of each step; how many more there are depends on which steps have come back by then."""
FEWEST_OBJECTS = {"file": 19, "pack": len(three_stages.NODES)}
"""One for each output; packed at least one for each op, and how many more depends on what else waits to be written."""


def is_in_every_run(failpoint: Failpoint, small_outputs: str) -> bool:
    """False for a commit or an object that a slower or faster run may not come to: it ends then, and is checked."""
    what = (failpoint.point or "").partition(".")[0]
    fewest = {"commit": FEWEST_COMMITS, "output": FEWEST_OBJECTS[small_outputs]}
    return what not in fewest or failpoint.nth <= fewest[what]


@pytest.mark.parametrize("small_outputs", ["file", "pack"])
def test_kill_at_some_points_on_s3(
    small_outputs: str,
    moto: Moto,
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at points drawn with a fixed seed, a run whose outputs are in S3 resumes to the same result."""
    lead_to(monkeypatch, moto)
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    kill_at_points(moto, tmp_path, empty_store, SAMPLE["moto"], small_outputs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("small_outputs", ["file", "pack"])
@pytest.mark.parametrize("commits", COMMITS)
def test_kill_at_every_point_on_s3(
    commits: str,
    small_outputs: str,
    moto: Moto,
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at each point that an uninterrupted run passes, a run with outputs in S3 resumes to the same result."""
    lead_to(monkeypatch, moto)
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS[commits])
    kill_at_points(moto, tmp_path, empty_store, None, small_outputs)


@pytest.mark.usefixtures("_no_objects")
@pytest.mark.parametrize("sample", [SAMPLE["memory"], pytest.param(None, marks=pytest.mark.slow)])
def test_kill_with_outputs_in_memory(
    sample: int | None, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any point, with every output lost by it, a run makes again what it has to read and ends the same."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    scene = three_stages.Scene(tmp_path, outputs="memory://bucket/place")
    points = failpoints_for(record_points(scene.execute))
    if sample is not None:
        points = random.Random("points of a run in memory").sample(points, sample)
    for failpoint in points:
        MemoryFileSystem.store.clear()
        reset(scene, empty_store)
        kill_run(scene.execute, failpoint)
        was_over = scene.open().has_run(three_stages.RUN) and scene.state().is_over()
        result = go_on(scene)
        assert result.success, failpoint
        if not was_over:  # nothing is made again for a run that has succeeded
            expected = three_stages.EXPECTED["gather"]
            assert result.output_for_node("gather") == expected, failpoint
        del result  # no log may be open when the next run is forked


# What is asked of the service


def test_requests_of_a_run(
    moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One conditional PUT with a sha256 for each output, no HEAD, no listing, no multipart upload for what is small."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    bucket = moto.fresh_bucket()
    scene = Scene(tmp_path, f"s3://{bucket}/place")
    assert values(scene.execute()) == EXPECTED
    puts = [request for request in proxy.requests if request.method == "PUT"]
    assert len(puts) == OUTPUTS
    assert len({request.path for request in puts}) == OUTPUTS
    for request in puts:
        assert request.headers["if-none-match"] == "*"
        assert "x-amz-checksum-sha256" in request.headers
    assert {request.method for request in proxy.requests} == {"PUT", "GET"}
    assert not [request for request in proxy.requests if request.is_listing]
    assert_whole(scene, moto, bucket, "place")


def test_requests_of_a_resume(
    moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned and resumed, a killed run looks for the outputs that it will read by their names, and lists nothing."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    scene = Scene(tmp_path, f"s3://{moto.fresh_bucket()}/place")
    run_until_held(scene, "double[07]")
    proxy.clear()
    assert scene.plan().nodes
    result = scene.resume()
    assert values(result) == EXPECTED
    assert proxy.count("HEAD") > 0  # it has looked for what it will read
    assert not [request for request in proxy.requests if request.is_listing]


def test_stores_in_one_process_do_not_mix(
    moto: Moto, ministack: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores under equal URLs, opened one after the other in environments that differ, go to two services."""
    name = moto.fresh_bucket()
    ministack.make_bucket(name)
    for server in (moto, ministack):
        lead_to(monkeypatch, server)
        scene = Scene(tmp_path / type(server).__name__, f"s3://{name}/place")
        scene.folder.mkdir()
        assert scene.execute().success
        assert_whole(scene, server, name, "place")


def test_outputs_move_with_one_url(
    moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed on a laptop's disk goes on in a bucket, and reads what lies on the disk."""
    lead_to(monkeypatch, moto)
    scene = Scene(tmp_path)
    called = run_until_held(scene, "shift[11]")
    crashed = scene.state()
    bucket = moto.fresh_bucket()
    result = resume(RUN, scene.open(), job=twenty_clones.twenty, outputs=f"s3://{bucket}/place")
    assert values(result) == EXPECTED
    assert_only_what_was_in_flight_runs_again(crashed, called, scene.take_calls(), 1)
    assert scene.state().bases == ["outputs/the-run", f"s3://{bucket}/place/the-run"]
