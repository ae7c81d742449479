"""Whole jobs in processes: what a worker's death costs, and what travels between processes."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution import execute, processes, resume, threads
from execution.definition.loading import load_job
from execution.errors import CodeChanged, WorkerLost
from execution.executors import packing
from execution.executors.frames import Frames
from execution.executors.opening import opening
from execution.executors.packing import pack, pack_told, unpack, unpack_told
from execution.running import inputs
from execution.running.brief import Brief
from execution.running.told import Told
from runstore import ConfigError, RunStore, bases
from runstore.log.claims import process_started
from runstore.log.events import (
    UNSTAMPED,
    DynamicOutputStored,
    ErrorInfo,
    StepFailed,
    StepRetried,
    StepStarted,
)
from runstore.log.messages import Message
from runstore.outputs.base import Base
from runstore.outputs.reference import OutputReference
from runstore.store import reopen_outputs
from tests.unit.contract_jobs import contract
from tests.unit.executor_contract import Bench
from tests.unit.jobs import chained
from tests.unit.process_jobs import COUNT, dying, wide

PATIENCE_S = 60


def config_of(folder: Path, how: str, times: int) -> dict[str, Any]:
    """How `dying` is to die."""
    return {"ops": {"deadly": {"config": {"folder": str(folder), "how": how, "times": times}}}}


@pytest.mark.parametrize("how", ["killed", "exit", "segfault", "forked"])
def test_a_lost_worker_costs_its_step_alone(tmp_path: Path, how: str) -> None:
    """A step whose process died, in whatever way, is tried again without using up its retries; no other runs again."""
    result = execute(
        dying, tmp_path / "s", run_config=config_of(tmp_path, how, 2), executor=processes(2)
    )
    assert result.output_for_node("total") == sum(range(COUNT))
    with RunStore.open(tmp_path / "s") as opened:
        events = [event for _, event in opened.events(result.run_id)]
    retried = [event for event in events if isinstance(event, StepRetried)]
    assert [(one.step, one.attempt, one.worker_lost) for one in retried] == [
        ("deadly[3]", 1, True),
        ("deadly[3]", 2, True),
    ]
    pids = [(tmp_path / f"died-{n}").read_text().split()[0] for n in (1, 2)]
    assert [one.worker for one in retried] == [f"process {pid}" for pid in pids]
    for pid, one in zip(pids, retried, strict=True):
        assert one.error.type == "execution.errors.WorkerLost"
        assert f"step 'deadly[3]': its worker process {pid}" in one.error.message
    assert {(tmp_path / f"died-{n}").read_text().split()[1] for n in (1, 2)} == {"0"}
    started = [event.step for event in events if isinstance(event, StepStarted)]
    assert sorted(started) == sorted(
        ["numbers", *(f"deadly[{n}]" for n in range(COUNT)), "deadly[3]", "deadly[3]", "total"]
    )


def test_a_poisonous_key_fails_alone(tmp_path: Path) -> None:
    """A step over which four workers were lost has failed, and says so; a resume tries it again."""
    config = config_of(tmp_path, "exit", 4)
    result = execute(dying, tmp_path / "s", run_config=config, executor=processes(2))
    (failure,) = result.failures
    assert failure.step_key == "deadly[3]"
    assert failure.error.type == "execution.errors.WorkerLost"
    assert "ended with exit code 3, as 3 before" in failure.error.message
    with RunStore.open(tmp_path / "s") as opened:
        state = opened.state(result.run_id)
        (failed,) = [e for _, e in opened.events(result.run_id) if isinstance(e, StepFailed)]
    assert failed.attempt == 4
    assert state.losses == {}
    again = resume(result.run_id, tmp_path / "s", executor=threads(2))
    assert again.output_for_node("total") == sum(range(COUNT))


def test_no_worker_outlives_its_executor(tmp_path: Path) -> None:
    """When the process that drives a run is killed, its workers end, whatever they do."""
    code = (
        "from execution import execute, processes\n"
        "from tests.unit.process_jobs import waiting\n"
        f"config = {{'ops': {{'waits': {{'config': {{'folder': {str(tmp_path)!r}}}}}}}}}\n"
        f"execute(waiting, {str(tmp_path / 's')!r}, run_config=config, executor=processes(2))"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root) as driver:
        files = [tmp_path / "pid-0", tmp_path / "pid-1"]
        wait_until(lambda: all(file.exists() and file.read_text() for file in files))
        pids = [int(file.read_text()) for file in files]
        assert all(process_started(pid) for pid in pids)
        driver.kill()
    wait_until(lambda: not any(process_started(pid) for pid in pids))


def wait_until(is_so: Any) -> None:
    """Look until it is."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, "never"
        time.sleep(0.01)


def test_jobs_that_no_module_has(tmp_path: Path) -> None:
    """A job made inside a function travels as its code."""
    result = execute(chained(["a", "b", "c"]), tmp_path, executor=processes(2))
    assert result.output_for_node("total") == "ABC"


def test_a_script_runs_its_own_job(tmp_path: Path) -> None:
    """What is defined in `__main__` runs in processes, without the script being run again in each, also once it has run
    in this one.
    """
    script = tmp_path / "script.py"
    script.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from execution import DynamicOut, DynamicOutput, execute, job, op, processes\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "@op(out=DynamicOut())\n"
        "def points():\n"
        "    for n in range(3):\n"
        "        yield DynamicOutput(n, n)\n"
        "@op\n"
        "def point(n: int) -> Point:\n"
        "    return Point(n)\n"
        "@op\n"
        "def total(points: list[Point]) -> int:\n"
        "    return sum(point.x for point in points)\n"
        "@job\n"
        "def summed():\n"
        "    total(points().map(point).collect())\n"
        "print('begun')\n"
        "for executor in (processes(2), None, processes(2)):\n"
        f"    result = execute(summed, {str(tmp_path / 's')!r}, executor=executor)\n"
        "    print(result.output_for_node('total'))\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("begun\n3\n3\n3\n", "")


def test_formats_that_a_script_registers(tmp_path: Path) -> None:
    """Workers know what only `__main__` has registered, by type and by name, also for a job of a module."""
    (tmp_path / "prices.py").write_text(
        "from execution import Out, job, op\n"
        "@op(out=Out(serializer='upper'))\n"
        "def name():\n"
        "    return 'gold'\n"
        "@op\n"
        "def seen(name):\n"
        "    return name\n"
        "@job\n"
        "def named():\n"
        "    seen(name())\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import runstore\n"
        "from execution import execute, job, op, processes\n"
        "from prices import named\n"
        "class Money:\n"
        "    def __init__(self, cents):\n"
        "        self.cents = cents\n"
        "@runstore.serializer('money', extension='txt', types=[Money])\n"
        "class Pence:\n"
        "    def encode(self, value, declared):\n"
        "        return b'%d' % value.cents\n"
        "    def decode(self, data, declared):\n"
        "        return Money(int(data))\n"
        "@runstore.serializer('upper', extension='txt')\n"
        "class Upper:\n"
        "    def encode(self, value, declared):\n"
        "        return value.upper().encode()\n"
        "    def decode(self, data, declared):\n"
        "        return data.decode()\n"
        "@op\n"
        "def price() -> Money:\n"
        "    return Money(250)\n"
        "@op\n"
        "def doubled(price: Money) -> int:\n"
        "    return 2 * price.cents\n"
        "@job\n"
        "def priced():\n"
        "    doubled(price())\n"
        f"result = execute(priced, {str(tmp_path / 's')!r}, executor=processes(1))\n"
        "print(result.output_for_node('doubled'))\n"
        f"result = execute(named, {str(tmp_path / 's')!r}, executor=processes(1))\n"
        "print(result.output_for_node('seen'))\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("500\nGOLD\n", "")


def test_a_wide_collect_travels(tmp_path: Path) -> None:
    """The references of a collect go with the ticket, however many they are."""
    result = execute(wide, RunStore.open(tmp_path, level="fast"), executor=processes(1))
    assert result.output_for_node("total") == sum(range(2_345))


def test_outputs_in_memory_are_refused() -> None:
    """What other processes cannot reach is refused before a step begins, with what to do instead."""
    refused = pytest.raises(ConfigError, match="other processes cannot open these outputs")
    with RunStore.in_memory() as opened, refused:
        execute(wide, opened, executor=processes(2))


def test_a_worker_that_finds_other_code_stops_the_run(tmp_path: Path) -> None:
    """A file that was edited since the run began is not mixed into it."""
    file = tmp_path / "edited.py"
    text = "from execution import job, op\n@op\ndef one():\n    return 1\n@job\ndef edited():\n    one()\n"
    file.write_text(text)
    edited = load_job(f"{file}:edited")
    assert edited.ops["one"].code
    file.write_text(text.replace("return 1", "return 1 + 1"))
    with pytest.raises(CodeChanged, match="the code of one has changed"):
        execute(edited, tmp_path / "s", executor=processes(1))


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """Files that a test has loaded are not loaded by the workers of those after it."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("runstore_job_"):
            del sys.modules[name]


@pytest.mark.usefixtures("_forgotten")
def test_a_job_that_a_worker_cannot_load_stops_the_run(tmp_path: Path) -> None:
    """It is no failure of a step; what had been done is on disk, and the run can be resumed."""
    file = tmp_path / "once.py"
    file.write_text(
        "from pathlib import Path\n"
        "from execution import job, op\n"
        "Path(__file__).with_name('loaded').touch(exist_ok=False)\n"
        "@op\n"
        "def one():\n"
        "    return 1\n"
        "@job\n"
        "def once():\n"
        "    one()\n"
    )
    once = load_job(f"{file}:once")
    with pytest.raises(WorkerLost, match=r"(?s)cannot go on; the run stops.*FileExistsError"):
        execute(once, tmp_path / "s", run_id="r", executor=processes(1))
    assert resume("r", tmp_path / "s", job=once).output_for_node("one") == 1


def test_a_worker_that_cannot_be_started_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says why not, and the run can be resumed."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(WorkerLost, match=r"no worker process can be started: .*No such file"):
        execute(wide, tmp_path / "s", run_id="r", executor=processes(1))
    assert resume("r", tmp_path / "s", executor=threads(1)).success


# What travels


@given(st.lists(st.binary(max_size=300)), st.data())
def test_messages_arrive_whole_or_not_at_all(messages: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut into pieces, and wherever it ends, what arrives is the first messages, each whole."""
    stream = b"".join(len(one).to_bytes(8, "big") + one for one in messages)
    end = data.draw(st.integers(0, len(stream)))
    cuts = sorted(data.draw(st.lists(st.integers(0, end), max_size=5)))
    frames, found = Frames(), []
    for begin, stop in zip([0, *cuts], [*cuts, end], strict=True):
        found += frames.add(stream[begin:stop])
    whole = 0
    while sum(len(one) + 8 for one in messages[: whole + 1]) <= end and whole < len(messages):
        whole += 1
    assert found == messages[:whole]


def test_a_packed_ticket_is_the_ticket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Types, config and constants are found again on the other side; no value, type or op is in the bytes."""
    for module in (packing, inputs):
        monkeypatch.setattr(module, "REFERENCES_AT_ONCE", 2)
    bench = Bench(threads(1), tmp_path)
    ticket = bench.ticket(
        "summed", numbers=bench.collected(5, [30, 4, 8, 1, 2], ("more", "result"))
    )
    first, *rest = pack(ticket, bench.brief)
    assert len(rest) == 3
    found = unpack(first, iter(rest).__next__, bench.brief)
    assert isinstance(found, type(ticket))
    assert (found.op, found.context, found.step_key) == (
        ticket.op,
        ticket.context,
        ticket.step_key,
    )
    there, here = found.arguments["numbers"], ticket.arguments["numbers"]
    assert list(there.references()) == list(here.references())  # type: ignore[union-attr]
    assert list(there.references()) == list(here.references())  # type: ignore[union-attr]
    assert there.declared is here.declared  # type: ignore[union-attr]
    assert b"OpDefinition" not in first
    bench.executor.close()


references = st.builds(
    OutputReference,
    st.text(),
    st.integers(0, 2**63),
    st.text(),
    st.text(),
    st.none() | st.integers(0, 2**40),
    st.integers(0, 9),
)
errors = st.builds(ErrorInfo, st.text(), st.text(), st.text())


@given(
    st.lists(
        st.builds(DynamicOutputStored, st.text(), st.text(), st.text(), references)
        | st.builds(StepFailed, st.text(), errors, st.floats(0, 1e9), st.integers(1, 99))
        | st.builds(StepRetried, st.text(), errors, st.floats(0, 1e9), st.just(UNSTAMPED)),
        max_size=4,
    ),
    st.booleans(),
    st.none() | st.floats(0, 1e6),
    st.lists(
        st.builds(
            Message,
            step=st.text(),
            attempt=st.integers(1, 9),
            time=st.datetimes(timezones=st.just(UNSTAMPED.tzinfo)),
            level=st.integers(0, 50),
            logger=st.text(),
            text=st.text(),
        ),
        max_size=3,
    ),
)
def test_what_is_told_arrives_as_it_was(
    events: Any, is_last: bool, wait_s: float | None, messages: Any
) -> None:
    """Events, times and lines come back equal."""
    told = Told("s", events, is_last, messages=messages, wait_s=wait_s)
    found = unpack_told(pack_told(told), "s")
    assert (found.events, found.is_last) == (events, is_last)
    assert (found.messages, found.wait_s) == (messages, wait_s)


SECRET = "hush-7c1e"


def test_no_secret_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials are in nothing that a worker is sent; it finds them where the executor did."""
    opened: list[tuple[str, Any]] = []

    def open_base(url: str, *, durable: bool, options: Any) -> Base:
        opened.append((url, dict(options)))
        return original(str(tmp_path / "outputs"), durable=durable)

    original = bases.open_base
    monkeypatch.setattr(bases, "open_base", open_base)
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.runstore]\noutputs = "ftp://me:{SECRET}@host/out"\n'
        f'[tool.runstore.storage]\npassword = "{SECRET}"\n'
    )
    monkeypatch.chdir(tmp_path)
    found = RunStore.open(tmp_path / "s", level="fast")
    state = Bench.state(found)
    outputs = found.outputs(state)
    assert outputs.whereabouts is not None
    message = opening(outputs.whereabouts, Brief.of(state, contract))
    assert SECRET.encode() not in message
    monkeypatch.chdir("/")
    reopen_outputs(outputs.whereabouts)
    assert opened[0] == opened[-1]
    assert SECRET in opened[0][0]
    assert opened[0][1] == {"password": SECRET}


def test_credentials_of_one_process_alone_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL with credentials that no worker could find again leads to no worker."""
    original = bases.open_base
    monkeypatch.setattr(
        bases,
        "open_base",
        lambda url, *, durable, options: original(str(tmp_path), durable=durable),
    )
    found = RunStore.open(tmp_path / "s", f"ftp://me:{SECRET}@host/out", "fast")
    assert found.outputs(Bench.state(found)).whereabouts is None
