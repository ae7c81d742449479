"""Executing jobs: what comes of them, failures, and the calls of T1 and T2.

That any job gives what plain Python gives, and that any cut of its log resumes to the same, is tried in tests/property.
"""

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    Out,
    Output,
    RunResult,
    execute,
    job,
    op,
    plan_resume,
    resume,
)
from execution.definition.job import JobDefinition
from execution.errors import CodeChanged, JobNotFound, PlanChanged
from execution.running import inputs
from execution.running.control import NoControl
from runstore.errors import ConfigError, InvalidKey, RunNotFound, StepNotFound, StoreNotFound
from runstore.log.database import Database
from runstore.log.events import CollectResolved, RunCancelled, RunFailed, RunResumed, StepStarted
from runstore.log.recorder import Recorder
from runstore.store import RunStore
from tests.unit.jobs import chained, fails_at


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A store on disk."""
    return RunStore.open(tmp_path / "store", level="fast")


@op(out=DynamicOut())
def letters():
    """a, b, c."""
    for letter in "abc":
        yield DynamicOutput(letter, letter)


@op
def upper(x):
    """Capitals."""
    return x.upper()


@op
def join(xs):
    """One text."""
    return "".join(xs)


@op
def show(x):
    """What it was given, as text."""
    return repr(x)


def run(body: Callable[[], Any], **given: Any) -> RunResult:
    """Run a job of a body in memory."""

    def compose() -> None:
        body()

    return job(compose).execute_in_process(**given)


# What comes of a job


def test_collects_in_the_order_of_keys() -> None:
    """D9: a list in the order of yields, a dict with its keys in that order, of pieces or of what was mapped."""

    def body() -> None:
        found = letters()
        mapped = found.map(upper)
        show(found.collect())
        show(mapped.collect())
        show(mapped.collect(as_dict=True))
        show(found.collect(as_dict=True))

    result = run(body)
    shown = [result.output_for_node(name) for name in ("show", "show_2", "show_3", "show_4")]
    assert shown == [
        "['a', 'b', 'c']",
        "['A', 'B', 'C']",
        "{'a': 'A', 'b': 'B', 'c': 'C'}",
        "{'a': 'a', 'b': 'b', 'c': 'c'}",
    ]


def test_a_collect_too_large_to_be_held_is_read_from_the_log_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether references are held from the proof or read once more, the values are the same."""
    job = chained("abc")
    held = job.execute_in_process().output_for_node("total")
    monkeypatch.setattr(inputs, "HELD", 2)
    assert job.execute_in_process().output_for_node("total") == held


def test_several_collects_of_one_op_and_lists_that_mix() -> None:
    """D8: one op may collect several times; a list may mix plain, mapped and collected values, each one element."""

    @op
    def two(xs, ys):
        return [xs, ys]

    def body() -> None:
        found = letters()
        mapped = found.map(upper)
        two(found.collect(), mapped.collect())
        found.map(lambda x: show([x, mapped.collect(), 7, upper("z")]))

    result = run(body)
    assert result.output_for_node("two") == [["a", "b", "c"], ["A", "B", "C"]]
    assert result.output_for_node("show")["b"] == "['b', ['A', 'B', 'C'], 7, 'Z']"


Pair = namedtuple("Pair", "big small")


def test_namedtuples_of_outputs_and_of_maps() -> None:
    """D3, D5: several outputs by name, also those of a mapped op and those that a callable groups itself."""

    @op(out={"first": Out(), "rest": Out()})
    def split(x):
        yield Output(x[0], "first")
        yield Output(x[1:], "rest")

    def body() -> None:
        found = letters()
        parts = found.map(split)
        join.alias("firsts")(parts.first.collect())
        pair = found.map(lambda x: Pair(upper(x), x))
        join.alias("bigs")(pair.big.collect())
        join.alias("smalls")(pair.small.collect())

    result = run(body)
    assert [result.output_for_node(name) for name in ("firsts", "bigs", "smalls")] == [
        "abc",
        "ABC",
        "abc",
    ]
    assert result.output_for_node("split", "rest") == {"a": "", "b": "", "c": ""}


class Point(msgspec.Struct):
    """A typed value."""

    x: int
    tags: set[str] = set()


def test_values_keep_their_types_through_storage() -> None:
    """What arrives at an op has been through storage, and is what its producer declared."""
    seen: list[Any] = []

    @op(out=DynamicOut(Point))
    def points():
        yield DynamicOutput(Point(1, {"a"}), "p")

    @op
    def look(p) -> tuple[int, str]:
        seen.append(p)
        return p.x, "é"

    @op
    def collect(ps):
        seen.append(ps)

    result = run(lambda: collect(points().map(look).collect()))
    assert seen == [Point(1, {"a"}), [(1, "é")]]
    assert result.output_for_node("points") == {"p": Point(1, {"a"})}
    assert result.output_for_node("look") == {"p": (1, "é")}


def test_the_context() -> None:
    """D2: run, node, key path, attempt, epoch, config and tags of its own step are what an op is told."""
    seen: list[OpContext] = []

    @op(tags={"kind": "op"})
    def look(context, x):
        seen.append(context)

    @job(tags={"team": "t", "kind": "job"})
    def j():
        letters().map(lambda x: look(x))
        look.alias("plain").tag({"more": "m"})(1)

    config = {"ops": {"look": {"config": {"n": 1}}}}
    with RunStore.in_memory() as store:
        result = execute(j, store, run_config=config, tags={"team": "mine"})
    plain, first = seen[0], seen[1]
    assert (first.run_id, first.job_name, first.node, first.key_path) == (
        result.run_id,
        "j",
        "look",
        ("a",),
    )
    assert (first.step_key, first.mapping_key, first.attempt, first.epoch) == ("look[a]", "a", 1, 1)
    assert first.op_config == {"n": 1}
    assert first.tags == {"team": "mine", "kind": "op"}
    assert (plain.step_key, plain.mapping_key, plain.op_config) == ("plain", None, {})
    assert plain.tags == {"team": "mine", "kind": "op", "more": "m"}


def test_no_keys(store: RunStore) -> None:
    """X3: no key is an empty dict, no clone, and a collect of nothing."""
    result = execute(chained([]), store)
    assert result.success
    assert result.output_for_node("fan_out") == result.output_for_node("echo") == {}
    assert result.output_for_node("total") == ""


# Failures


def test_a_failed_clone_stops_its_chain_and_collects_only(store: RunStore) -> None:
    """F2: siblings and their chains go on; the run fails at its end, with counts per op and state."""
    result = execute(fails_at("abcd", "b"), store, run_id="r")
    assert (result.success, result.status) == (False, "failed")
    assert result.output_for_node("echo") == {"a": "A", "c": "C", "d": "D"}
    with pytest.raises(StepNotFound, match="output 'result' of 'total' has no value"):
        result.output_for_node("total")
    [failure] = result.failures
    assert (failure.step_key, failure.attempt, failure.error.type, failure.error.message) == (
        "echo[b]",
        1,
        "ValueError",
        "no b",
    )
    *_, (_, last) = store.events("r")
    assert isinstance(last, RunFailed)
    assert last.counts == {
        "fan_out": {"succeeded": 1},
        "echo": {"succeeded": 3, "failed": 1},
        "total": {"blocked": 1},
    }


def test_fail_fast_starts_nothing_new(store: RunStore) -> None:
    """F2: with fail_fast no step starts after the first failure; what was not started is left for a resume."""
    result = execute(fails_at("abcd", "b"), store, run_id="r", fail_fast=True)
    assert result.output_for_node("echo") == {"a": "A"}
    assert result.status == "failed"
    result = resume("r", store, job=chained("abcd"))
    assert result.output_for_node("total") == "ABCD"


def _fails_often() -> JobDefinition:
    @op
    def check(x):
        if x in "bc":
            raise ValueError(f"check {x}")
        return x

    @op
    def last(x):
        raise KeyError(x)

    @op
    def alone():
        raise OSError("alone")

    @job
    def often():
        letters().map(check).map(last)
        alone()

    return often


def test_failures_stand_in_the_order_of_steps() -> None:
    """X4, T1: failures are listed in the order in which steps start; the first is what a call in process raises."""
    result = _fails_often().execute_in_process(raise_on_error=False)
    assert [failure.step_key for failure in result.failures] == [
        "alone",
        "last[a]",
        "check[b]",
        "check[c]",
    ]
    with pytest.raises(OSError, match="alone"):
        _fails_often().execute_in_process()


def test_the_very_exception_is_raised_in_process() -> None:
    """T1: in the same process the caller gets the exception object that the op raised."""
    raised = ValueError("mine")

    @op
    def fail():
        raise raised

    with pytest.raises(ValueError, match="mine") as caught:
        run(lambda: fail())
    assert caught.value is raised


def test_a_key_twice_fails_the_step_and_not_the_log(store: RunStore) -> None:
    """K1, F2: an op that yields a key twice in a row fails like any other, and the run can be resumed."""
    result = execute(chained(["a", "b", "b"]), store, run_id="r")
    [failure] = result.failures
    assert "mapping key 'b' twice, as items 2 and 3" in failure.error.message
    assert resume("r", store, job=chained(["a", "b"])).output_for_node("total") == "AB"


@pytest.mark.parametrize("error", [KeyboardInterrupt])
def test_an_interrupt_leaves_a_resumable_run(store: RunStore, error: type[BaseException]) -> None:
    """Ctrl-C inside an op ends the run as cancelled; what was done is kept, the interrupted step runs again."""

    def interrupted() -> JobDefinition:
        @op(out=DynamicOut(), version="1")
        def fan_out():
            yield from (DynamicOutput(key, key) for key in "abc")

        @op(version="1")
        def echo(x):
            if x == "b":
                raise error
            return x.upper()

        @job
        def chained():
            join.alias("total")(fan_out().map(echo).collect())

        return chained

    with pytest.raises(error):
        execute(interrupted(), store, run_id="r")
    assert store.run("r").status == "cancelled"
    plan = plan_resume("r", store, job=chained("abc"))
    assert {node.node: (node.reuse, node.run) for node in plan.nodes}["echo"] == (
        1,
        {"interrupted": 1, "never started": 1},
    )
    assert resume("r", store, job=chained("abc")).output_for_node("total") == "ABC"


class StopAfter(NoControl):
    """Asks a run to stop after some events."""

    def __init__(self, events: int) -> None:
        self.left = events

    def progressed(self, state: Any) -> None:
        """Count."""
        self.left -= 1

    def stop_requested(self) -> str:
        """Once enough has happened."""
        return "enough" if self.left < 0 else ""


@pytest.mark.parametrize("events", range(0, 16, 3))
def test_a_run_that_is_asked_to_stop_ends_as_cancelled(store: RunStore, events: int) -> None:
    """A stop takes effect between steps, is in the log with its reason, and the rest is resumed."""
    result = execute(chained("abc"), store, run_id="r", control=StopAfter(events))
    assert result.status == "cancelled"
    ended = store.state("r").ended
    assert isinstance(ended, RunCancelled)
    assert ended.reason == "enough"
    assert store.state("r").running == {}
    assert resume("r", store, job=chained("abc")).output_for_node("total") == "ABC"


# T1


@pytest.mark.parametrize("level", ["durable", "fast"])
def test_what_is_told_at_the_end_survives_what_the_level_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Any
) -> None:
    """The last event of a run is synced at level durable, and at level fast, as its outputs, only committed."""
    fulls: list[bool] = []
    transaction = Database.transaction

    def spy(database: Database, *, full: bool) -> Any:
        fulls.append(full)
        return transaction(database, full=full)

    with RunStore.open(tmp_path, level=level) as store:
        monkeypatch.setattr(Database, "transaction", spy)
        monkeypatch.setattr(Recorder, "close", lambda recorder: None)
        assert execute(chained("abc"), store).success
    assert fulls[0], "a run begins on disk"
    assert fulls[-1] == (level == "durable")


def test_a_run_id_of_your_own_makes_the_call_idempotent(store: RunStore) -> None:
    """T1: with the same run id the call starts, then resumes, then reports success; another config is refused."""
    first = execute(fails_at("ab", "b"), store, run_id="mine")
    second = execute(chained("ab"), store, run_id="mine")
    third = execute(chained("ab"), store, run_id="mine")
    assert [first.success, second.success, third.success] == [False, True, True]
    assert store.run("mine").epoch == 2
    assert len(store.runs()) == 1
    with pytest.raises(ConfigError, match="run 'mine' exists with another config"):
        execute(chained("ab"), store, run_id="mine", run_config={"ops": {"echo": {"config": 1}}})
    with pytest.raises(InvalidKey, match="run id 'a/b'"):
        execute(chained("ab"), store, run_id="a/b")


def test_a_run_id_of_another_job_is_refused(store: RunStore) -> None:
    """T1: a run of another job is no success of this one, and is not gone on with; the error names both jobs."""

    @job
    def other() -> None:
        pass

    execute(chained("ab"), store, run_id="done")
    execute(fails_at("ab", "a"), store, run_id="failed")
    events = {run: store.run(run).events for run in ("done", "failed")}
    for run in events:
        with pytest.raises(
            ConfigError, match=f"run '{run}' exists and is of job 'chained', not of 'other'"
        ):
            execute(other, store, run_id=run)
    assert {run: store.run(run).events for run in events} == events


def test_resuming_what_has_succeeded_does_nothing(store: RunStore) -> None:
    """R1: a run that is done is reported as it is, and nothing is appended."""
    execute(chained("ab"), store, run_id="r")
    events = store.run("r").events
    assert plan_resume("r", store, job=chained("ab")).succeeded
    assert resume("r", store, job=chained("ab")).output_for_node("total") == "AB"
    assert store.run("r").events == events


BAD_CONFIGS: list[tuple[Any, str]] = [
    ({"op": {}}, r"run config: \$.op: unknown section; did you mean 'ops'\?"),
    (
        {"ops": {"nobody": {"config": 1}}},
        r"\$.ops.nobody: no op of job 'chained'; it has fan_out, echo, total",
    ),
    (
        {"ops": {"echo": {"cfg": 1}}},
        r"\$.ops.echo.cfg: unknown setting of an op; did you mean 'con",
    ),
    ({"ops": {"echo": {"config": (1, 2)}}}, r"\$.ops.echo.config is \(1, 2\), which JSON does not"),
    ({"ops": {"echo": {"config": {"a": [1, float("nan")]}}}}, r"echo.config.a\[1\] is nan, which"),
    ({"ops": {"echo": 5}}, r"\$.ops.echo: expected a mapping, got int"),
    ({"ops": []}, r"\$.ops: expected a mapping, got list"),
    ({"ops": "echo"}, r"\$.ops: expected a mapping, got str"),
]


@pytest.mark.parametrize(("config", "fact"), BAD_CONFIGS)
def test_a_config_that_does_not_fit_is_refused_before_anything(
    store: RunStore, config: Any, fact: str
) -> None:
    """A run config is checked against the job before a run begins; the error names the path."""
    with pytest.raises(ConfigError, match=fact):
        execute(chained("ab"), store, run_config=config)
    assert store.directory is not None
    assert not store.directory.exists()


def test_tags_that_are_no_text_are_refused(store: RunStore) -> None:
    """What cannot stand in the log as it is, is refused before a run begins."""
    with pytest.raises((ConfigError, TypeError), match="tag"):
        execute(chained("ab"), store, tags={"a": 5})  # type: ignore[dict-item]
    assert store.directory is not None
    assert not store.directory.exists()


def test_config_and_outputs_are_those_of_the_log_unless_given(store: RunStore) -> None:
    """R7: a resume keeps the config of the log, and records another that it is given."""
    configs: list[Any] = []

    def configured(fails: bool) -> JobDefinition:
        @op(version="1")
        def read(context):
            configs.append(context.op_config)
            if fails:
                raise ValueError("not yet")

        @job
        def configured():
            read()

        return configured

    config = {"ops": {"read": {"config": 1}}}
    execute(configured(True), store, run_id="r", run_config=config)
    resume("r", store, job=configured(True))
    resume("r", store, job=configured(False), run_config={"ops": {"read": {"config": 2}}})
    assert configs == [1, 1, 2]
    resumed = [event for _, event in store.events("r") if isinstance(event, RunResumed)]
    assert [event.config for event in resumed] == [None, {"ops": {"read": {"config": 2}}}]


def test_a_job_that_cannot_be_loaded_must_be_passed(store: RunStore) -> None:
    """T1: a job made inside a function is not known by a reference, and the message says what to do."""
    execute(fails_at("ab", "b"), store, run_id="r")
    for call in (resume, plan_resume):
        with pytest.raises(JobNotFound, match=r"resume\(job=…\)"):
            call("r", store)


def test_nothing_to_resume(store: RunStore, tmp_path: Path) -> None:
    """A store or a run that does not exist is named, and not created by asking."""
    with pytest.raises(StoreNotFound):
        resume("last", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    execute(chained("a"), store)
    with pytest.raises(RunNotFound, match="no run 'other'"):
        resume("other", store)


# R5


def _versions(version: str, fails: str = "", rename: str = "") -> JobDefinition:
    @op(out=DynamicOut(), version="1")
    def fan_out():
        yield from (DynamicOutput(key, key) for key in "ab")

    @op(version=version)
    def echo(x):
        if x == fails:
            raise ValueError(x)
        return x + version

    @op(version="1")
    def after(x):
        return x

    @job
    def versions():
        mapped = fan_out().map(echo.alias(rename) if rename else echo)
        join(mapped.map(after).collect())

    return versions


@pytest.mark.parametrize(("mode", "expected"), [("reuse", "a1b2"), ("rerun", "a2b2")])
def test_changed_code(store: RunStore, mode: Any, expected: str) -> None:
    """R5: finished work of changed ops is reused, or done again with all that is downstream; either way it is told."""
    execute(_versions("1", fails="b"), store, run_id="r")
    plan = plan_resume("r", store, job=_versions("2"), on_code_change=mode)
    assert plan.changed_code == ("echo",)
    result = resume("r", store, job=_versions("2"), on_code_change=mode)
    assert result.output_for_node("join") == expected


def test_changed_code_may_be_refused(store: RunStore) -> None:
    """R5: on request a resume with changed code is refused, naming the ops, and nothing is written."""
    execute(_versions("1", fails="b"), store, run_id="r")
    events = store.run("r").events
    with pytest.raises(CodeChanged, match="the code of echo has changed since"):
        resume("r", store, job=_versions("2"), on_code_change="fail")
    assert store.run("r").events == events


def test_a_graph_that_does_not_fit_is_refused(store: RunStore) -> None:
    """R5: what has succeeded must still be there with the same name, inputs and scope; the error lists what is not."""
    execute(_versions("1", fails="b"), store, run_id="r")
    events = store.run("r").events
    with pytest.raises(
        PlanChanged, match=r"'echo' has succeeded and is gone.*'after' reads x from elsewhere"
    ):
        resume("r", store, job=_versions("1", rename="other"))
    assert store.run("r").events == events


# R6


@pytest.mark.parametrize(
    ("lost", "steps"),
    [
        ("echo/result/a.json", ("echo[a]",)),
        ("fan_out/result/b.json", ("fan_out",)),
        ("fan_out/result/a.json", ()),
    ],
)
def test_lost_bytes_are_made_again(store: RunStore, lost: str, steps: tuple[str, ...]) -> None:
    """R6: a plan names the steps whose missing bytes will be read, and no others; the resume makes them again."""
    execute(fails_at("abc", "b"), store, run_id="r")
    assert store.directory is not None
    (store.directory / "outputs/r" / lost).unlink()
    plan = plan_resume("r", store, job=chained("abc"))
    assert plan.lost == steps
    assert {node.node for node in plan.nodes if node.run.get("lost")} == {
        step.partition("[")[0] for step in steps
    }
    assert resume("r", store, job=chained("abc")).output_for_node("total") == "ABC"


# T2


def test_results_of_a_run(store: RunStore) -> None:
    """T2: values by node and output; what is not there is named with what is."""
    result = execute(chained("ab"), store, run_id="r")
    loaded = RunResult.load("r", store)
    for found in (result, loaded, RunResult.load("last", store.directory)):
        assert found.output_for_node("fan_out") == {"a": "a", "b": "b"}
        assert found.output_for_node("total") == "AB"
        assert found.success
        assert found.failures == []
    with pytest.raises(StepNotFound, match="no node 'nobody'; it has fan_out, echo, total"):
        result.output_for_node("nobody")
    with pytest.raises(StepNotFound, match="no output 'shape'; it has result"):
        result.output_for_node("echo", "shape")


def test_inputs_are_recorded_by_the_events_that_stored_them(store: RunStore) -> None:
    """Each start names its inputs by the seq of the event that stored them, a collect by its `CollectResolved`."""
    execute(chained("ab"), store, run_id="r")
    events = dict(store.events("r"))
    starts = {event.step: event for event in events.values() if isinstance(event, StepStarted)}
    piece = events[starts["echo[b]"].inputs["x"]]  # type: ignore[index]
    assert (piece.step, piece.mapping_key) == ("fan_out", "b")  # type: ignore[union-attr]
    resolved = events[starts["total"].inputs["xs"]]  # type: ignore[index]
    assert isinstance(resolved, CollectResolved)
    assert (resolved.sealed, resolved.succeeded, resolved.skipped) == (2, 2, 0)
    assert (resolved.source, resolved.levels, resolved.step) == (
        "echo.result",
        ("fan_out.result",),
        "total",
    )
