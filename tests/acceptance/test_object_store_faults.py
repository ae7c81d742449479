"""What goes wrong with object stores costs time at most: no output is half there, none is believed that is not.

Each fault comes from a proxy between the run and a real server, and each test asserts that it has happened.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, execute, job, op
from runstore import OutputConflict, RunStore, StorageFailed
from runstore.log.events import StepSucceeded
from runstore.outputs import requests
from runstore.outputs.s3 import S3Base
from runstore.testing import Failpoint, armed
from tests.acceptance.three_stages import finished_steps
from tests.acceptance.twenty_clones import EXPECTED, RUN, Scene, assert_whole, values
from tests.object_stores.client import lead_to, objects, unfinished_uploads
from tests.object_stores.ministack import Ministack
from tests.object_stores.moto import Moto
from tests.object_stores.proxy import (
    BODY_CUT,
    FAULTS,
    REPLY_LOST,
    RESET,
    SILENCE,
    SLOW_DOWN,
    Proxy,
    Request,
)
from tests.object_stores.server import ObjectStore

EACH = 61
"""Writes of a run without a fault, and reads, by a step or by whoever asks for the values."""
STEP = 25
"""Every so many writes, and reads, one is hit in a run of the default tier."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is silent is given up soon, and the next try comes at once."""
    monkeypatch.setattr(requests, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(requests, "LONGEST_WAIT_S", 0.01)
    settings = "[tool.runstore.storage.config_kwargs]\nread_timeout = 0.5\nconnect_timeout = 2\n"
    (tmp_path / "pyproject.toml").write_text(settings)


def new_scene(moto: Moto, folder: Path, name: str) -> tuple[Scene, str]:
    """A run of its own, and its bucket."""
    bucket = moto.fresh_bucket()
    scene = Scene(folder / name, f"s3://{bucket}/place")
    scene.folder.mkdir()
    return scene, bucket


def methods_of(kind: str) -> tuple[str, ...]:
    """What a fault makes a difference to: only an answer with a body can be cut."""
    return ("GET",) if kind == BODY_CUT else ("PUT", "GET")


def every(step: int, first: int, methods: Iterable[str]) -> Callable[[Request], bool]:
    """True for each `step`-th request of each method from the `first` on, and for no repetition of one that was hit."""
    seen, hit = Counter[str](), set[tuple[str, str]]()

    def is_hit(request: Request) -> bool:
        what = (request.method, request.target)
        if request.method not in methods or what in hit:
            return False
        number = seen[request.method]
        seen[request.method] += 1
        if number < first or (number - first) % step:
            return False
        hit.add(what)
        return True

    return is_hit


def run_with_faults(
    kind: str, where: Callable[[Request], bool], moto: Moto, proxy: Proxy, folder: Path
) -> list[Request]:
    """A run that is hit: the same values, whole objects, nothing left over, no step twice. What was hit."""
    proxy.clear()
    bucket = moto.fresh_bucket()
    scene = Scene(folder / bucket, f"s3://{bucket}/place")
    scene.folder.mkdir()
    fault = proxy.inject(kind, where=where, times=10**6)
    result = scene.execute()
    assert result.success
    assert values(result) == EXPECTED
    called = scene.take_calls()
    assert len(called) == len(set(called))
    assert not [request for request in proxy.requests if request.is_listing]
    assert_whole(scene, moto, bucket, "place")
    assert unfinished_uploads(moto, bucket) == []
    return fault.fired


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_now_and_then(
    kind: str, moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hit at every 25th write and every 25th read, a run ends as if nothing had been, and no step runs twice."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    first = random.Random(kind).randrange(STEP)
    where = every(STEP, first, methods_of(kind))
    fired = run_with_faults(kind, where, moto, proxy, tmp_path)
    assert len(fired) >= 2 * len(methods_of(kind))
    assert {request.method for request in fired} == set(methods_of(kind))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_each_request(
    kind: str, moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hit once, at any single request, a run ends as if nothing had been."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    for method in methods_of(kind):
        for number in range(EACH):
            where = every(10**6, number, (method,))
            assert len(run_with_faults(kind, where, moto, proxy, tmp_path)) == 1


def test_the_same_request_hit_until_it_is_given_up(
    moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object that never gets through fails its step alone; a resume makes up for it and repeats nothing else."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    scene, bucket = new_scene(moto, tmp_path, "one")
    fault = proxy.inject(RESET, where=lambda one: "/double/result/07" in one.path, times=10**6)
    result = scene.execute()
    assert not result.success
    assert [failure.step_key for failure in result.failures] == ["double[07]"]
    assert len(fault.fired) >= requests.TRIES
    finished = finished_steps(scene.state())
    assert len(finished) == 39
    proxy.clear()
    scene.take_calls()
    assert values(scene.resume()) == EXPECTED
    assert not finished & set(scene.take_calls())
    assert_whole(scene, moto, bucket, "place")


@pytest.mark.parametrize("large", [False, True])
def test_a_service_that_answers_nothing(
    large: bool, moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes requests and never answers stops the run before its tries are at an end, and says what to set."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    with (tmp_path / "pyproject.toml").open("a") as settings:
        settings.write("[tool.runstore.storage]\ngive_up_after_s = 1.0\n")
    monkeypatch.chdir(tmp_path)
    url = f"s3://{moto.fresh_bucket()}/place"
    fault = proxy.inject(SILENCE, times=10**6)
    data = LARGE if large else b"small"
    with RunStore.open(tmp_path / "store", url) as store:
        base = store.base(f"{url}/run")
        with pytest.raises(StorageFailed, match=r"given up after .* give_up_after_s \(now 1\)"):
            base.write("a.bin", data, hashlib.sha256(data).hexdigest())
    asked = Counter((request.method, request.target) for request in fault.fired)
    assert 0 < max(asked.values()) < requests.TRIES


# Large outputs


LARGE_BYTES = 9 * 2**20
LARGE = random.Random("large").randbytes(LARGE_BYTES)


@op(out=DynamicOut(bytes))
def pieces() -> Any:
    """One piece, of more than is sent in one request."""
    yield DynamicOutput(LARGE, mapping_key="a")


@op
def measure(piece: bytes) -> int:
    """Its size."""
    return len(piece)


@job
def large() -> None:
    """A large output, read by a clone."""
    pieces().map(measure)


def writes(request: Request) -> bool:
    """True for each request of a large write, and not for the end of one that has failed."""
    return request.method in ("PUT", "POST") and "/pieces/" in request.path


def completes(request: Request) -> bool:
    """True for the request that makes an object of its parts."""
    return request.method == "POST" and "uploadId" in request.query


@pytest.mark.parametrize(
    "kind",
    [
        REPLY_LOST,
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in (SLOW_DOWN, RESET, SILENCE)),
    ],
)
def test_a_large_output_hit_at_each_of_its_requests(
    kind: str, moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hit at any request of its upload, a large object is whole in the end and no part of it is left over."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    for nth in range(1, 5):  # begun, two parts, completed
        proxy.clear()
        bucket = moto.fresh_bucket()
        with RunStore.open(tmp_path / str(nth), f"s3://{bucket}/place") as store:
            fault = proxy.inject(kind, nth, where=writes)
            result = execute(large, store, run_id=RUN)
            assert result.output_for_node("measure") == {"a": LARGE_BYTES}
            assert result.output_for_node("pieces") == {"a": LARGE}
        assert len(fault.fired) == 1
        assert LARGE in objects(moto, bucket).values()
        assert unfinished_uploads(moto, bucket) == []


@pytest.mark.parametrize("kind", [REPLY_LOST, RESET, SLOW_DOWN])
def test_a_large_object_is_sent_once(
    kind: str, any_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hit where its parts become one object, it is completed, or found to be there; no part is sent again."""
    bucket = any_store.fresh_bucket()
    with Proxy(any_store.port) as proxy:
        lead_to(monkeypatch, any_store, proxy.endpoint)
        base = S3Base(f"s3://{bucket}/place")
        fault = proxy.inject(kind, where=completes)
        base.write("pieces/large.bin", LARGE, hashlib.sha256(LARGE).hexdigest())
        assert len(fault.fired) == 1
        assert len([one for one in proxy.requests if "partNumber" in one.query]) == 2
        assert len([one for one in proxy.requests if completes(one)]) == 2 - (kind == REPLY_LOST)
        assert base.read("pieces/large.bin") == LARGE
    assert unfinished_uploads(any_store, bucket) == []


def test_another_object_in_the_place_of_a_large_one(
    moto: Moto, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there with another digest is no reply that got lost: it is a conflict, and stays as it is."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    base = S3Base(f"s3://{moto.fresh_bucket()}/place")
    other = LARGE[::-1]
    base.write("large.bin", other, hashlib.sha256(other).hexdigest())
    fault = proxy.inject(REPLY_LOST, where=completes)
    with pytest.raises(OutputConflict, match=r"large\.bin holds other bytes"):
        base.write("large.bin", LARGE, hashlib.sha256(LARGE).hexdigest())
    assert len(fault.fired) == 1
    assert base.read("large.bin") == other


# The server gone


def run_without_storage(scene: Scene) -> None:
    """A run that does not end well: it stops, or its steps fail, depending on how much was on its way."""
    try:
        success = scene.execute().success
    except StorageFailed:
        success = False
    assert not success


def test_down_in_the_middle(
    moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server is down the run stops and says so; when it is up again a resume ends it, repeating little."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    scene, bucket = new_scene(moto, tmp_path, "down")
    down = Failpoint(nth=1, kind="StepSucceeded", step="shift[05]", action=proxy.refuse)
    with armed(down):
        run_without_storage(scene)
    assert down.reached
    finished = finished_steps(scene.state())
    proxy.accept()
    scene.take_calls()
    result = scene.resume()
    assert values(result) == EXPECTED
    assert not finished & set(scene.take_calls())
    assert_whole(scene, moto, bucket, "place")


@pytest.mark.parametrize(
    ("end", "when"),
    [
        ("kill", "output.before"),
        pytest.param("kill", "output.after", marks=pytest.mark.slow),
        pytest.param("stop", "output.before", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_comes_back(
    end: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped or killed during a run and started again, a server costs the run nothing that it had confirmed."""
    with Ministack(tmp_path / "server") as server:
        lead_to(monkeypatch, server)
        monkeypatch.setattr(requests, "FIRST_WAIT_S", 0.1)
        monkeypatch.setattr(requests, "LONGEST_WAIT_S", 5.0)  # the server needs a second
        scene = Scene(tmp_path, f"s3://{server.bucket}/place")

        def come_back() -> None:
            getattr(server, end)()
            server.restart()

        gone = Failpoint(nth=33, point=when, action=come_back)
        with armed(gone):
            result = scene.execute()
        assert gone.reached >= 33
        assert result.success
        assert values(result) == EXPECTED
        assert_whole(scene, server, server.bucket, "place")


def test_killed_with_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server killed with -9 that stays away stops the run; what the log names is whole when it is back."""
    with Ministack(tmp_path / "server") as server:
        lead_to(monkeypatch, server)
        scene = Scene(tmp_path, f"s3://{server.bucket}/place")
        gone = Failpoint(nth=33, point="output.before", action=server.kill)
        with armed(gone):
            run_without_storage(scene)
        assert gone.reached >= 33
        server.restart()
        assert_whole(scene, server, server.bucket, "place")
        finished = finished_steps(scene.state())
        scene.take_calls()
        assert values(scene.resume()) == EXPECTED
        assert not finished & set(scene.take_calls())


# Bytes that are not those that were stored


def test_no_success_before_its_bytes(
    moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each success in the log of a living run, the bytes of that step are in the bucket already."""
    lead_to(monkeypatch, moto, proxy.endpoint)
    scene, _ = new_scene(moto, tmp_path, "order")
    proxy.inject(REPLY_LOST, where=every(7, 3, ("PUT",)), times=10**6)
    answered: list[int] = []

    def look(name: str, subject: Any) -> None:
        if name == "event.before" and isinstance(subject, StepSucceeded):
            answered.append(
                sum(one.method == "PUT" and one.status == 200 for one in proxy.requests)
            )

    with armed(look):
        assert scene.execute().success
    # The generator's twenty outputs are there before its success; each step after it adds one.
    assert answered[0] >= 20
    assert all(count >= 20 + number for number, count in enumerate(answered))
