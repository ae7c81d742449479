"""Between a run and its resume code, graph, config and the place of outputs may change; nothing mixes silently.

Each job here is built by a function, as one file is edited to become the next: same names, other insides.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    JobDefinition,
    OpContext,
    OpDefinition,
    Out,
    ResumePlan,
    RunResult,
    execute,
    job,
    op,
    plan_resume,
    resume,
)
from execution.errors import CodeChanged, PlanChanged
from runstore import ConfigError, RunAlive, RunStore, StepNotFound
from runstore.testing import Failpoint, armed, in_fork
from tests.acceptance.three_stages import event_rows, note

RUN = "the-run"
NODES = ("letters", "mark", "join")
KEYS = "abcd"


def letters_of(keys: str, version: str | None = None) -> OpDefinition:
    """A generator; its version stands for its source, which is the same for all keys."""

    @op(out=DynamicOut(str), version=version or keys)
    def letters(context: OpContext) -> Iterator[DynamicOutput[str]]:
        note(context)
        for key in keys:
            yield DynamicOutput(key, mapping_key=key)

    return letters


@op
def mark(context: OpContext, piece: str) -> str:
    """The clone; fails as long as it is told to."""
    note(context)
    if context.op_config.get("fail") == context.mapping_key:
        raise ValueError("told to fail")
    return piece + context.op_config.get("mark", ".")


def mark_of(sign: str) -> OpDefinition:
    """Another `mark`: its source says which sign."""
    return op(name="mark", version=f"mark {sign}")(marking(sign))


def marking(sign: str) -> Callable[..., str]:
    """What `mark` of a sign does."""

    def mark(context: OpContext, piece: str) -> str:
        note(context)
        return piece + sign

    return mark


@op
def join(context: OpContext, found: list[str]) -> str:
    """The collect."""
    note(context)
    return "".join(found)


def job_of(letters: OpDefinition | None = None, mark: OpDefinition = mark) -> JobDefinition:
    """Fan out, map, collect, with some of the ops replaced."""
    generator = letters or letters_of(KEYS)

    @job
    def marking_job() -> None:
        join(generator().map(mark).collect())

    return marking_job


ORIGINAL = job_of()


class Scene:
    """A folder with a store, and the calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def config(self, **mark: str) -> dict[str, Any]:
        """A run config: where calls are noted, and what `mark` is told."""
        calls = {"calls": str(self.folder / "calls")}
        return {
            "ops": {node: {"config": calls | (mark if node == "mark" else {})} for node in NODES}
        }

    def execute(self, job: JobDefinition = ORIGINAL, **more: Any) -> RunResult:
        """Start the run, or whatever the run id makes of it."""
        options = {"run_config": self.config(), "run_id": RUN} | more
        return execute(job, RunStore.open(self.store, level="fast"), **options)

    def crash_in(self, step: str, job: JobDefinition = ORIGINAL) -> None:
        """Leave a run that was killed inside this step; all before it is on disk."""

        def run() -> None:
            with armed(Failpoint(point="event.before", kind="OutputStored", step=step)):
                self.execute(job)

        assert in_fork(run).killed
        self.take_calls()

    def resume(self, job: JobDefinition = ORIGINAL, **more: Any) -> RunResult:
        """Go on."""
        return resume(RUN, self.store, job=job, **more)

    def plan(self, job: JobDefinition = ORIGINAL, **more: Any) -> ResumePlan:
        """What a resume would do."""
        return plan_resume(RUN, self.store, job=job, **more)

    def take_calls(self) -> list[str]:
        """Step keys that were called since the last question, sorted."""
        path = self.folder / "calls"
        calls = sorted(path.read_text().splitlines()) if path.exists() else []
        path.unlink(missing_ok=True)
        return calls

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Every event, or those of one kind."""
        bodies = [json.loads(body) for _, _, body in event_rows(self.store)]
        return [body for body in bodies if kind in ("", body["kind"])]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Nothing has run yet."""
    return Scene(tmp_path)


# Code (rule R5)


def test_changed_code_is_reused_by_default(scene: Scene) -> None:
    """Finished work stays, the rest runs with the new code, and the plan names the changed op."""
    scene.crash_in("mark[c]")
    changed = job_of(mark=mark_of("!"))
    assert scene.plan(changed).changed_code == ("mark",)
    result = scene.resume(changed)
    assert result.output_for_node("join") == "a.b.c!d!"
    assert scene.take_calls() == ["join", "mark[c]", "mark[d]"]


def test_changed_code_is_rerun_with_all_downstream(scene: Scene) -> None:
    """`rerun` does the changed op's work again, and what reads from it; what stands before it stays."""
    scene.crash_in("join")
    changed = job_of(mark=mark_of("!"))
    plan = scene.plan(changed, on_code_change="rerun")
    assert {node.node: node.run for node in plan.nodes} == {
        "letters": {},
        "mark": {"invalidated": 4},
        "join": {"interrupted": 1},
    }
    result = scene.resume(changed, on_code_change="rerun")
    assert result.output_for_node("join") == "a!b!c!d!"
    assert scene.take_calls() == ["join", *(f"mark[{key}]" for key in KEYS)]
    assert {event["reason"] for event in scene.events("StepInvalidated")} == {"code changed"}


def test_changed_code_fails(scene: Scene) -> None:
    """`fail` refuses, names the op, and writes nothing."""
    scene.crash_in("mark[c]")
    rows = event_rows(scene.store)
    for way in (scene.plan, scene.resume):
        with pytest.raises(CodeChanged, match=r"the code of mark has changed"):
            way(job_of(mark=mark_of("!")), on_code_change="fail")
    assert event_rows(scene.store) == rows
    assert scene.resume(on_code_change="fail").success  # what has not changed is no reason


def test_code_of_unfinished_ops_may_change(scene: Scene) -> None:
    """A changed op without finished work is no change of the run."""
    scene.crash_in("mark[a]")
    changed = job_of(mark=mark_of("!"))
    on_code_change: Literal["reuse", "rerun", "fail"]
    for on_code_change in ("reuse", "rerun", "fail"):
        plan = scene.plan(changed, on_code_change=on_code_change)
        assert plan.changed_code == ()
        assert plan.to_reuse == 1
    result = scene.resume(changed, on_code_change="fail")
    assert result.output_for_node("join") == "a!b!c!d!"


def test_a_rerun_generator_seals_anew(scene: Scene) -> None:
    """The last seal holds: new keys run, keys that are gone are kept as orphans and never collected."""
    scene.crash_in("join")
    changed = job_of(letters_of("dxa", version="shorter"))
    scene.resume(changed, on_code_change="rerun")
    result = RunResult.load(RUN, scene.store, job=changed)
    assert result.output_for_node("join") == "d.x.a."
    assert result.output_for_node("mark") == {"d": "d.", "x": "x.", "a": "a."}
    assert scene.take_calls() == ["join", "letters", "mark[a]", "mark[d]", "mark[x]"]
    assert result.success
    with RunStore.open(scene.store) as store:
        state = store.state(RUN)
        orphans = state.orphans(state.graph.by_name["mark"])
        assert [str(step) for step in orphans] == ["mark[b]", "mark[c]"]
        stored = [event for _, event in store.step_events(RUN, "mark[b]")]
        assert stored  # still in the log, with its output
    collect = scene.events("CollectResolved")[-1]
    assert (collect["sealed"], collect["succeeded"]) == (3, 3)


def test_a_crash_while_a_generator_seals_anew(scene: Scene) -> None:
    """Killed at any event of such a resume, the next one comes to the same end (rules R5 and R8)."""
    changed = job_of(letters_of("dxa", version="shorter"))
    for nth in range(1, 60):
        place = Scene(scene.folder / str(nth))
        place.folder.mkdir()
        place.crash_in("join")

        def rerun(place: Scene = place, nth: int = nth) -> None:
            with armed(Failpoint(point="event.after", nth=nth)):
                place.resume(changed, on_code_change="rerun")

        ending = in_fork(rerun)
        result = place.resume(changed, on_code_change="rerun")
        assert result.output_for_node("join") == "d.x.a.", nth
        if not ending.killed:
            assert ending.code == 0
            break
    assert nth > 15


def test_comments_and_layout_do_not_count(scene: Scene) -> None:
    """A comment, a line break or other quotes are no change of the code; an edited expression is one."""

    @op
    def mark(context: OpContext, piece: str) -> str:
        note(context)
        return piece + "."

    first = mark

    @op(tags={"a": "tag"})
    def mark(context: OpContext, piece: str) -> str:  # type: ignore[no-redef]
        # What a comment says does not count,
        note(
            context,
        )

        return piece + '.'  # fmt: skip

    second = mark

    @op
    def mark(context: OpContext, piece: str) -> str:  # type: ignore[no-redef]
        note(context)
        return piece + ","

    assert inspect.getsource(first.function) != inspect.getsource(second.function)
    assert first.code == second.code
    assert mark.code != first.code

    scene.crash_in("mark[c]", job_of(mark=first))
    assert scene.plan(job_of(mark=second)).changed_code == ()
    assert scene.plan(job_of(mark=mark)).changed_code == ("mark",)
    assert scene.resume(job_of(mark=second), on_code_change="fail").success


def test_a_declared_version_stands_for_the_source(scene: Scene) -> None:
    """With `version=` the source does not count, and another version is a change though the source is the same."""
    same, other = letters_of(KEYS, version="1"), letters_of("zz", version="1")
    assert same.code == other.code
    assert letters_of(KEYS, version="2").code != same.code
    scene.crash_in("mark[b]", job_of(same))
    assert scene.plan(job_of(other)).changed_code == ()
    assert scene.plan(job_of(letters_of(KEYS, version="2"))).changed_code == ("letters",)


# The graph (rule R5)


@op
def count(found: list[str]) -> int:
    """How many."""
    return len(found)


@op
def constant(context: OpContext, piece: str, sign: object = "?") -> str:
    """A piece and a plain value."""
    note(context)
    return piece + sign


@op(name="mark")
def renamed_input(context: OpContext, part: str) -> str:
    """As `mark`, with another name of its input."""
    note(context)
    return part


@op(name="letters")
def one_letter(context: OpContext) -> str:
    """As `letters`, with a plain output."""
    note(context)
    return "a"


@op(name="mark")
def whole(context: OpContext, piece: list[str]) -> str:
    """As `mark`, of a whole list."""
    note(context)
    return "".join(piece)


def test_a_graph_that_only_grew(scene: Scene) -> None:
    """New ops beside and behind the old ones are fine; the log holds the new graph."""
    scene.crash_in("mark[c]")

    @job
    def marking_job() -> None:
        pieces = letters_of(KEYS)()
        marked = pieces.map(mark)
        join(marked.collect())
        count(marked.map(mark.alias("mark_again")).collect())

    plan = scene.plan(marking_job)
    assert plan.changes == ("graph",)
    result = scene.resume(marking_job, run_config=scene.config() | {"ops": grown_config(scene)})
    assert result.output_for_node("join") == "a.b.c.d."
    assert result.output_for_node("count") == 4
    assert scene.take_calls() == [
        *("join", "mark[c]", "mark[d]"),
        *(f"mark_again[{key}]" for key in KEYS),
    ]
    grown = scene.events("RunResumed")[-1]["graph"]
    assert [node["name"] for node in grown["nodes"]] == [
        *("letters", "mark", "join", "mark_again", "count"),
    ]


def grown_config(scene: Scene) -> dict[str, Any]:
    """The config of the ops, also of the new one."""
    known: dict[str, Any] = scene.config()["ops"]
    return known | {"mark_again": known["mark"]}


@pytest.mark.parametrize("shape", ["mapped", "two outputs"])
def test_an_op_that_never_succeeded_may_take_another_shape(tmp_path: Path, shape: str) -> None:
    """A failed step may come back mapped, or with other outputs; the log reads as before, also once more."""
    execute(reshaped("failing"), tmp_path, run_id=RUN)
    result = resume(RUN, tmp_path, job=reshaped(shape))
    assert result.success
    again = RunResult.load(RUN, tmp_path)
    if shape == "mapped":
        assert again.output_for_node("last") == {"a": "a", "b": "b"}
    else:
        assert [again.output_for_node("last", name) for name in "xy"] == [1, 2]


def reshaped(shape: str) -> JobDefinition:
    """The same job with another last op."""

    @op(out={"x": Out(), "y": Out()} if shape == "two outputs" else None)
    def last(found: Any) -> Any:
        if shape == "failing":
            raise ValueError("not yet")
        return (1, 2) if shape == "two outputs" else found

    generator = op(out=DynamicOut(str), version="1")(two_keys)

    @job
    def reshaping_job() -> None:
        keys = generator()
        if shape == "mapped":
            keys.map(last)
        else:
            last(keys.collect())

    return reshaping_job


def two_keys() -> Iterator[DynamicOutput[str]]:
    """What the generator of `reshaped` yields."""
    yield from (DynamicOutput(key, mapping_key=key) for key in "ab")


def test_ops_without_finished_work_may_change_in_the_graph(scene: Scene) -> None:
    """What has not succeeded yet may be wired anew, or leave."""
    scene.crash_in("mark[a]")

    @job
    def marking_job() -> None:
        count(letters_of(KEYS)().map(constant).collect())

    config = {"ops": {node: scene.config()["ops"]["mark"] for node in ("letters", "constant")}}
    result = scene.resume(marking_job, run_config=config)
    assert result.output_for_node("count") == 4
    assert scene.take_calls() == [f"constant[{key}]" for key in KEYS]


def gone() -> None:
    """`mark` has another name."""
    join(letters_of(KEYS)().map(mark.alias("remark")).collect())


def other_inputs() -> None:
    """`mark` has an input of another name."""
    join(letters_of(KEYS)().map(renamed_input).collect())


def other_scope() -> None:
    """`mark` is not mapped any more."""
    join([whole(letters_of(KEYS)().collect())])


def other_source() -> None:
    """`mark` reads from another op."""
    letters_of(KEYS)()
    join(letters_of(KEYS).alias("others")().map(mark).collect())


def other_outputs() -> None:
    """`letters` has a plain output."""
    join([mark(one_letter())])


@pytest.mark.parametrize(
    ("body", "misfit"),
    [
        (gone, "'mark' has succeeded and is gone"),
        (other_inputs, "'mark' has other inputs"),
        (other_scope, "'mark' is mapped under other outputs"),
        (other_source, "'mark' reads piece from elsewhere"),
        (other_source, "'mark' is mapped under other outputs"),
        (other_outputs, "'letters' has other outputs"),
    ],
)
def test_a_graph_that_does_not_fit(body: Callable[[], None], misfit: str, scene: Scene) -> None:
    """What has succeeded must still be there as it was; each misfit is listed, and nothing is written."""
    scene.crash_in("mark[c]")
    rows = event_rows(scene.store)
    changed = job(name="marking_job")(body)
    for way in (scene.plan, scene.resume):
        with pytest.raises(PlanChanged) as caught:
            way(changed)
        message = str(caught.value)
        assert misfit in message
        assert "start a new run" in message
    assert event_rows(scene.store) == rows
    assert scene.take_calls() == []
    assert scene.resume().output_for_node("join") == "a.b.c.d."


def with_constant(value: Any) -> JobDefinition:
    """A job with a plain value in its graph."""

    @job(name="marking_job")
    def body() -> None:
        join(letters_of(KEYS)().map(lambda piece: constant.alias("mark")(piece, value)).collect())

    return body


@pytest.mark.parametrize("other", ["!!", "", None, 0, ["!"]])
def test_another_constant_does_not_fit(other: Any, scene: Scene) -> None:
    """A plain value that was passed beside handles is part of the graph."""
    scene.crash_in("mark[c]", with_constant("!"))
    with pytest.raises(PlanChanged, match="'mark' reads sign from elsewhere"):
        scene.resume(with_constant(other))
    assert scene.resume(with_constant("!")).output_for_node("join") == "a!b!c!d!"


# What may be resumed (rules R1, R8)


def test_a_run_that_succeeded_is_left_alone(scene: Scene) -> None:
    """Resume says success and does nothing, with changed code, another config or another graph."""
    scene.execute()
    rows, _ = event_rows(scene.store), scene.take_calls()
    changed = job_of(mark=mark_of("!"))
    assert scene.plan().succeeded
    assert scene.plan().to_run == 0
    for result in (
        scene.resume(),
        scene.resume(changed, on_code_change="rerun"),
        scene.resume(run_config=scene.config(mark="?")),
        scene.resume(job(name="marking_job")(gone)),
        scene.resume(take_over=True),
    ):
        assert result.success
        assert result.output_for_node("join") == "a.b.c.d."
    assert event_rows(scene.store) == rows
    assert scene.take_calls() == []


def test_a_failed_run_is_resumed(scene: Scene) -> None:
    """Failed steps and what waited for them run again, nothing else."""
    failed = scene.execute(run_config=scene.config(fail="b"))
    assert failed.status == "failed"
    assert [failure.step_key for failure in failed.failures] == ["mark[b]"]
    with pytest.raises(StepNotFound):
        failed.output_for_node("join")
    scene.take_calls()
    plans = {node.node: node.run for node in scene.plan().nodes}
    assert plans["mark"] == {"failed": 1}
    assert scene.resume().status == "failed"  # the config is that of the log (rule R7)
    assert scene.take_calls() == ["mark[b]"]
    result = scene.resume(run_config=scene.config())
    assert result.output_for_node("join") == "a.b.c.d."
    assert scene.take_calls() == ["join", "mark[b]"]


def test_a_living_run_is_refused(scene: Scene) -> None:
    """An op that tries to resume its own run is told who has it."""
    refused: list[str] = []

    def try_it() -> None:
        with pytest.raises(RunAlive) as caught:
            resume(RUN, RunStore.open(scene.store), job=ORIGINAL)
        refused.append(str(caught.value))

    with armed(Failpoint(point="commit.after", nth=3, action=try_it)):
        assert scene.execute().success
    assert "is being executed by process" in refused[0]
    assert len(scene.events("RunResumed")) == 0


def test_a_resume_of_a_resume_of_a_resume(scene: Scene) -> None:
    """Each crash of a resume leaves less to do, and epochs count up (rule R8)."""
    scene.crash_in("mark[a]")
    for key in "bcd":

        def run(step: str = f"mark[{key}]") -> None:
            with armed(Failpoint(point="event.before", kind="OutputStored", step=step)):
                scene.resume()

        assert in_fork(run).killed
        before = chr(ord(key) - 1)
        assert scene.take_calls() == [f"mark[{before}]", f"mark[{key}]"]
    assert scene.resume().output_for_node("join") == "a.b.c.d."
    assert scene.take_calls() == ["join", "mark[d]"]
    assert [event["epoch"] for event in scene.events("RunResumed")] == [2, 3, 4, 5]


# Config and place (rule R7)


def test_the_config_of_the_log_is_kept(scene: Scene) -> None:
    """Without a new config a resume has that of the log; a new one is recorded and kept by later resumes."""
    scene.crash_in("mark[b]")

    def run() -> None:
        with armed(Failpoint(point="event.before", kind="OutputStored", step="mark[d]")):
            scene.resume(run_config=scene.config(mark="?"))

    assert in_fork(run).killed
    result = scene.resume()
    assert result.output_for_node("join") == "a.b?c?d?"
    first, second = scene.events("RunResumed")
    assert first["config"] == scene.config(mark="?")
    assert "config" not in second


def test_outputs_move(scene: Scene) -> None:
    """A new place for outputs is recorded; what lies at the old one is read there."""
    scene.crash_in("mark[c]")
    elsewhere = scene.folder / "elsewhere"
    plan = scene.plan(outputs=str(elsewhere))
    assert plan.changes == ("base",)
    result = scene.resume(outputs=str(elsewhere))
    assert result.output_for_node("join") == "a.b.c.d."
    moved = {path.relative_to(elsewhere / RUN).as_posix() for path in elsewhere.rglob("*.txt")}
    assert moved == {"mark/result/c.e2a2.txt", "mark/result/d.e2a1.txt", "join/result.e2a1.txt"}
    assert scene.events("RunResumed")[0]["base"] == f"{elsewhere}/{RUN}"
    loaded = RunResult.load(RUN, scene.store, job=ORIGINAL)
    assert loaded.output_for_node("mark") == {key: key + "." for key in KEYS}


# A run id of the user's choice (rule T1)


def test_execute_with_a_run_id_is_idempotent(scene: Scene) -> None:
    """The same call starts the run, resumes it after a crash, and reports success when it is done."""
    scene.crash_in("mark[c]")
    assert scene.execute().output_for_node("join") == "a.b.c.d."
    assert scene.take_calls() == ["join", "mark[c]", "mark[d]"]
    rows = event_rows(scene.store)
    for _ in range(2):
        assert scene.execute().success
    assert scene.execute(run_config=None).success
    assert scene.take_calls() == []
    assert event_rows(scene.store) == rows
    with RunStore.open(scene.store) as store:
        assert [run.run_id for run in store.runs()] == [RUN]


@pytest.mark.parametrize("crashed", [True, False])
def test_execute_with_a_run_id_refuses_another_config(crashed: bool, scene: Scene) -> None:
    """A config that differs from the log's is refused, and nothing is written."""
    if crashed:
        scene.crash_in("mark[c]")
    else:
        scene.execute()
    rows, _ = event_rows(scene.store), scene.take_calls()
    with pytest.raises(ConfigError, match=r"run 'the-run' exists with another config"):
        scene.execute(run_config=scene.config(mark="?"))
    assert event_rows(scene.store) == rows
    assert scene.take_calls() == []
