"""A rerun: selected steps run in a new run, the rest is taken from its parent by reference, or left out."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    plan_rerun,
    plan_resume,
    rerun,
    resume,
)
from execution.definition.job import JobDefinition
from execution.errors import InvalidSelection, PlanChanged, SelectionIncomplete
from runstore import (
    ConfigError,
    OutputMissing,
    RunAlive,
    RunInUse,
    RunNotFound,
    RunStore,
    StepNotFound,
)
from runstore.audit.doctor import _PARENTS
from runstore.audit.explain import explain
from runstore.audit.show import show
from runstore.log.events import (
    CollectResolved,
    OutputStored,
    ReuseSealed,
    RunStarted,
    StepReused,
    StepStarted,
)
from runstore.log.recorder import Recorder
from runstore.stored_runs import _USERS

NODES = ("fan_out", "echo", "shout", "total", "after")
EXPECTED = {
    "fan_out": {"a": "a", "b": "b", "c": "c"},
    "echo": {"a": "aa", "b": "bb", "c": "cc"},
    "shout": {"a": "AA", "b": "BB", "c": "CC"},
    "total": "AA BB CC",
    "after": "AA BB CC.",
}


class Letters:
    """A job of five ops, of which it is known which steps were called."""

    def __init__(
        self, keys: str = "abc", fails: str = "", skips: str = "", mark: str = "", more: str = ""
    ) -> None:
        self.calls: list[str] = []
        self.job = self._job(keys, fails, skips, mark, more)

    def _job(self, keys: str, fails: str, skips: str, mark: str, more: str) -> JobDefinition:
        def note(context: OpContext) -> None:
            self.calls.append(context.step_key)
            if context.step_key in fails.split():
                raise ValueError(f"no {context.step_key}")

        @op(out=DynamicOut(), version="1")
        def fan_out(context):
            note(context)
            for key in keys:
                yield DynamicOutput(key, key)

        @op(out=Out(is_required=False), version=f"1{mark}")
        def echo(context, x):
            note(context)
            if x not in skips:
                yield Output(x * 2 + mark)

        @op(version="1")
        def shout(context, x):
            note(context)
            return x.upper()

        @op(version="1")
        def total(context, xs, more=""):
            note(context)
            return " ".join(xs) + more

        @op(version="1")
        def after(context, x):
            note(context)
            return x + "."

        @job
        def letters():
            given = [more] if more else []
            after(total(fan_out().map(echo).map(shout).collect(), *given))

        return letters

    def take_calls(self) -> list[str]:
        """The step keys called since the last question."""
        calls, self.calls[:] = list(self.calls), []
        return calls


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A store of its own."""
    with RunStore.open(tmp_path / "store", level="fast") as opened:
        yield opened


@pytest.fixture
def letters(store: RunStore) -> Letters:
    """The job, run once as `first`."""
    made = Letters()
    assert execute(made.job, store, run_id="first").success
    made.take_calls()
    return made


def again(letters: Letters, store: RunStore, *select: str, **more: Any) -> RunResult:
    """Rerun `first` as `second`."""
    return rerun("first", store, select=select, job=letters.job, new_run_id="second", **more)


def values(result: RunResult) -> dict[str, Any]:
    """The value of each node that has one."""
    found = {}
    for node in NODES:
        try:
            found[node] = result.output_for_node(node)
        except StepNotFound:
            continue
    return found


# What runs, what is reused, what is left out


@pytest.mark.parametrize(
    ("select", "ran", "reused", "left_out"),
    [
        ("after", "after", 8, 0),
        ("echo[b]*", "echo[b] shout[b] total after", 5, 0),
        ("shout[a],shout[b],total+", "shout[a] shout[b] total after", 5, 0),
        ("+total*", "shout[a] shout[b] shout[c] total after", 4, 0),
        ("echo[b]", "echo[b]", 5, 3),
        ("total", "total", 7, 1),
        ("shout", "shout[a] shout[b] shout[c]", 4, 2),
        (
            "fan_out*",
            "fan_out echo[a] shout[a] echo[b] shout[b] echo[c] shout[c] total after",
            0,
            0,
        ),
    ],
)
def test_just_what_is_selected_runs(
    letters: Letters, store: RunStore, select: str, ran: str, reused: int, left_out: int
) -> None:
    """The rest is taken where nothing that it needs runs, else left out; the plan says so before."""
    plan = plan_rerun("first", store, select=select, job=letters.job)
    assert letters.take_calls() == []
    result = again(letters, store, select)
    assert result.success
    assert letters.take_calls() == ran.split()
    assert (plan.to_reuse, plan.left_out) == (reused, left_out)
    waiting = [node.node for node in plan.nodes if node.waiting]
    assert plan.to_run == sum(step.partition("[")[0] not in waiting for step in ran.split())
    assert show(store, "second").reused == reused
    if not left_out:
        assert values(result) == EXPECTED


def test_without_a_selection_everything_runs_anew(letters: Letters, store: RunStore) -> None:
    """With the parent's config and tags, and nothing of its outputs."""
    result = again(letters, store)
    assert values(result) == EXPECTED
    assert len(letters.take_calls()) == 9
    assert store.state("second").bases == ["outputs/second"]
    assert store.users_of("first") == []


def test_what_is_left_out_is_skipped_and_has_no_value(letters: Letters, store: RunStore) -> None:
    """Its inputs change and it does not run: the new run says that it was not selected, and has no value of it."""
    result = again(letters, store, "echo[b]")
    assert result.output_for_node("shout") == {"a": "AA", "c": "CC"}
    with pytest.raises(StepNotFound, match="did not succeed"):
        result.output_for_node("total")
    for step in ("shout[b]", "total", "after"):
        answer = explain(store, "second", step)
        assert answer.status == "skipped"
        assert answer.because.endswith(": not selected")


def test_a_collect_never_mixes_old_and_left_out(letters: Letters, store: RunStore) -> None:
    """A collect that is left out does not run on the clones that are there."""
    again(letters, store, "shout[b]")
    kinds = [type(event) for _, event in store.step_events("second", "total")]
    assert CollectResolved not in kinds
    assert StepStarted not in kinds


def test_clones_of_new_keys_run_too(store: RunStore) -> None:
    """What is cloned for the keys of an op that runs again runs, also where it was not selected; the plan names it."""
    old, new = Letters("abc"), Letters("ad")
    execute(old.job, store, run_id="first")
    plan = plan_rerun("first", store, select="fan_out", job=new.job)
    assert plan.unasked == ("echo", "shout")
    result = again(new, store, "fan_out")
    assert new.take_calls() == ["fan_out", "echo[a]", "shout[a]", "echo[d]", "shout[d]"]
    assert result.output_for_node("shout") == {"a": "AA", "d": "DD"}


def test_a_clone_of_a_chain_that_runs_again_in_full(letters: Letters, store: RunStore) -> None:
    """`*echo[b]` runs the op that yields the keys, and so all clones."""
    again(letters, store, "*echo[b]")
    assert letters.take_calls() == [
        "fan_out", "echo[a]", "shout[a]", "echo[b]", "shout[b]", "echo[c]", "shout[c]",
    ]  # fmt: skip


def test_a_skipped_step_is_reused_as_skipped(store: RunStore) -> None:
    """With its cause; a collect that runs gets the rest."""
    letters = Letters(skips="b")
    execute(letters.job, store, run_id="first")
    letters.take_calls()
    result = again(letters, store, "total*")
    assert letters.take_calls() == ["total", "after"]
    assert result.output_for_node("after") == "AA CC."
    assert "input 'x' was skipped" in explain(store, "second", "shout[b]").because


def test_several_outputs(store: RunStore) -> None:
    """Plain outputs, an optional one that was left out, and pieces, all of one step."""

    @op(
        out={
            "n": Out(int),
            "none": Out(is_required=False),
            "parts": DynamicOut(int),
            "no": DynamicOut(),
        }
    )
    def split():
        yield Output(7, "n")
        for part in (2, 1):
            yield DynamicOutput(part, str(part), "parts")

    @op
    def add(n, part):
        return n + part

    @op
    def end(parts, sums, no):
        return [parts, sums, no]

    @job
    def several():
        n, _, parts, no = split()
        end(
            parts.collect(),
            parts.map(lambda part: add(n, part)).collect(),
            no.map(lambda x: add(n, x)).collect(),
        )

    first = execute(several, store, run_id="first")
    second = rerun("first", store, select="end", job=several)
    assert second.output_for_node("end") == first.output_for_node("end") == [[2, 1], [9, 8], []]
    assert second.output_for_node("split", "parts") == {"2": 2, "1": 1}
    third = rerun(second.run_id, store, select="add*", job=several)
    assert third.output_for_node("end") == [[2, 1], [9, 8], []]


def test_from_failure(store: RunStore) -> None:
    """What failed, what was never started, and all that needs them; what had succeeded is reused."""
    bad, good = Letters(fails="shout[b]"), Letters()
    assert not execute(bad.job, store, run_id="first").success
    plan = plan_rerun("first", store, from_failure=True, job=good.job)
    assert (plan.to_run, plan.left_out) == (3, 0)
    assert values(again(good, store, from_failure=True)) == EXPECTED
    assert good.take_calls() == ["shout[b]", "total", "after"]


def test_from_failure_of_a_generator(store: RunStore) -> None:
    """Clones that are not known yet run when they come."""
    assert not execute(Letters(fails="fan_out").job, store, run_id="first").success
    good = Letters()
    assert values(again(good, store, from_failure=True)) == EXPECTED


def test_from_failure_of_a_success_is_refused(letters: Letters, store: RunStore) -> None:
    """There is nothing to run."""
    with pytest.raises(InvalidSelection, match="no failed or unfinished step; name with --select"):
        again(letters, store, from_failure=True)


# What is refused; nothing is written then


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ("after,echo", "'after' needs 'total', which is not selected.*with '[+]after'"),
        ("total,echo[b]", r"'total' needs 'shout\[b\]'"),
        ("echo+,after", "'after' needs 'total'"),
    ],
)
def test_a_gap_is_refused(letters: Letters, store: RunStore, select: str, said: str) -> None:
    """A selected step would run on what changes and does not run: never a silent mix."""
    for ask in (again, lambda *given: plan_rerun("first", store, select=select, job=letters.job)):
        with pytest.raises(SelectionIncomplete, match=said):
            ask(letters, store, select)
    assert not store.has_run("second")


@pytest.mark.parametrize(
    ("fails", "select", "needs"),
    [
        ("shout[b]", "total", "shout[b]"),
        ("fan_out", "echo", "fan_out"),
        ("fan_out", "total", "fan_out"),
        ("total", "after", "total"),
    ],
)
def test_what_did_not_succeed_cannot_be_reused(
    store: RunStore, fails: str, select: str, needs: str
) -> None:
    """The refusal names the step that is selected, the one that it needs, and the remedy."""
    letters = Letters(fails=fails)
    execute(letters.job, store, run_id="first")
    with pytest.raises(SelectionIncomplete) as refusal:
        again(letters, store, select)
    assert f"'{select}' needs '{needs}'" in str(refusal.value)
    assert f"with '+{select}'" in str(refusal.value)


def test_an_unfinished_parent(store: RunStore) -> None:
    """What had succeeded can be reused, what had not is left out."""
    letters = Letters(fails="shout[b]")
    execute(letters.job, store, run_id="first")
    letters.take_calls()
    result = again(letters, store, "echo[a]+")
    assert letters.take_calls() == ["echo[a]", "shout[a]"]
    assert result.success
    assert result.output_for_node("shout") == {"a": "AA", "c": "CC"}


def test_a_living_parent_is_refused(letters: Letters, store: RunStore, monkeypatch: Any) -> None:
    """It still writes its log."""

    def alive(run_id: str) -> None:
        raise RunAlive(run_id)

    monkeypatch.setattr(store, "refuse_living", alive)
    with pytest.raises(RunAlive):
        again(letters, store, "total")


def test_a_graph_that_does_not_fit_what_is_reused(letters: Letters, store: RunStore) -> None:
    """As a resume refuses it (rule R5); what is selected may have changed."""
    letters.job = Letters(more=" !").job
    with pytest.raises(PlanChanged, match=r"'total' has other inputs.*Select these ops too"):
        again(letters, store, "after")
    assert not store.has_run("second")
    assert again(letters, store, "total*").output_for_node("after") == "AA BB CC !."


def test_changed_code_is_reused_with_a_warning(letters: Letters, store: RunStore) -> None:
    """As a resume does (rule R5): the plan names the ops that were not selected and have changed."""
    changed = Letters(mark="!")
    assert plan_rerun("first", store, select="total", job=changed.job).changed_code == ("echo",)
    assert plan_rerun("first", store, select="echo*", job=changed.job).changed_code == ()
    assert again(changed, store, "after").output_for_node("total") == "AA BB CC"


def test_config_and_tags(store: RunStore) -> None:
    """The parent's, unless others are given."""

    @op
    def configured(context):
        return [context.op_config, dict(context.tags)]

    @job
    def one():
        configured()

    def config(n: int) -> dict[str, Any]:
        return {"ops": {"configured": {"config": {"n": n}}}}

    execute(one, store, run_id="first", run_config=config(1), tags={"team": "x"})
    same = rerun("first", store, select="configured", job=one)
    assert same.output_for_node("configured") == [{"n": 1}, {"team": "x"}]
    other = rerun("first", store, job=one, run_config=config(2), tags={})
    assert other.output_for_node("configured") == [{"n": 2}, {}]
    assert plan_rerun("first", store, job=one, run_config=config(2)).changes == ("config",)


# The log of the new run


def test_nothing_is_copied(letters: Letters, store: RunStore) -> None:
    """The new run's folder holds what it made; the references of the rest are those of the parent."""
    again(letters, store, "total*")
    assert store.directory is not None
    made = sorted(path.name for path in (store.directory / "outputs/second").rglob("*.json"))
    assert made == ["result.json", "result.json"]
    stored = {
        run: [event for _, event in store.events(run) if isinstance(event, OutputStored)]
        for run in ("first", "second")
    }
    by_step = {event.step: event.reference for event in stored["first"]}
    for event in stored["second"]:
        own = event.step in ("total", "after")
        assert event.reference.base == own
        assert own or event.reference == by_step[event.step]


def test_the_log_says_where_everything_came_from(letters: Letters, store: RunStore) -> None:
    """The first event names the parent; each step that is taken the event there; one event that it is all."""
    again(letters, store, "total*")
    events = dict(store.events("second"))
    started = events[1]
    assert isinstance(started, RunStarted)
    assert started.parent is not None
    assert (started.parent.run, started.parent.select) == ("first", ("total*",))
    assert started.parent.bases == ("outputs/first",)
    assert started.parent.seq == store.run("first").events
    for seq, event in events.items():
        if isinstance(event, StepReused):
            origin = store.event("first", event.parent_seq)
            assert origin.step == event.step  # type: ignore[union-attr]
            shown = explain(store, "second", event.step)
            assert f"reused from run first, seq {event.parent_seq}" in shown.because
            assert next(fact.seq for fact in shown.facts) == seq
    (sealed,) = [event for event in events.values() if isinstance(event, ReuseSealed)]
    assert (sealed.reused, sealed.left_out) == (7, 0)


def test_the_log_alone_gives_the_state(letters: Letters, store: RunStore) -> None:
    """Also when nothing of the parent but its bytes is left."""
    again(letters, store, "after")
    _forget_log(store, "first")
    assert values(RunResult.load("second", store)) == EXPECTED
    third = rerun("second", store, select="shout[b]*", job=letters.job)
    assert values(third) == EXPECTED


def test_a_rerun_of_a_rerun(letters: Letters, store: RunStore) -> None:
    """References lead to where the bytes were first stored, over any number of generations."""
    again(letters, store, "shout[b]*")
    third = rerun("second", store, select="after", job=letters.job, new_run_id="third")
    assert values(third) == EXPECTED
    assert store.state("third").bases == ["outputs/first", "outputs/second", "outputs/third"]
    assert store.users_of("first") == ["second", "third"]
    assert store.users_of("second") == ["third"]


def test_a_parent_whose_outputs_moved(letters: Letters, store: RunStore, tmp_path: Path) -> None:
    """Several bases of a parent are all declared, and new outputs go to the new run's own."""
    bad = Letters(fails="total")
    execute(bad.job, store, run_id="moved")
    resume("moved", store, job=letters.job, outputs=str(tmp_path / "elsewhere"))
    result = rerun("moved", store, select="after", job=letters.job, new_run_id="second")
    assert values(result) == EXPECTED
    bases = ["outputs/moved", f"{tmp_path}/elsewhere/moved", "outputs/second"]
    assert store.state("second").bases == bases


def test_in_memory(letters: Letters) -> None:
    """A store in memory has reruns too."""
    store = RunStore.in_memory()
    execute(letters.job, store, run_id="first")
    assert plan_rerun("first", store, select="after", job=letters.job).to_run == 1
    assert values(again(letters, store, "after")) == EXPECTED


def _forget_log(store: RunStore, run_id: str) -> None:
    """Delete a run's log and leave its outputs."""
    assert store.directory is not None
    kept = shutil.copytree(store.directory / "outputs", store.directory / "kept")
    store.remove(run_id, force=True)
    shutil.rmtree(store.directory / "outputs")
    kept.rename(store.directory / "outputs")


# Going on with it


def test_a_rerun_is_idempotent_by_its_id(letters: Letters, store: RunStore) -> None:
    """It starts, resumes or reports; another rerun, or another run, of that id is refused."""
    again(letters, store, "total*")
    letters.take_calls()
    assert values(again(letters, store, "total*")) == EXPECTED
    assert letters.take_calls() == []
    with pytest.raises(ConfigError, match="is a rerun of 'first' with another selection"):
        again(letters, store, "after")
    with pytest.raises(ConfigError, match="'first' exists and is no rerun"):
        rerun("second", store, job=letters.job, new_run_id="first")


def test_a_failed_rerun_resumes_as_any_run(letters: Letters, store: RunStore) -> None:
    """Just what it lacks runs; what was left out stays so (rule R8)."""
    bad = Letters(fails="shout[b]")
    assert again(bad, store, "shout[b]+").status == "failed"
    assert bad.take_calls() == ["shout[b]"]
    plan = plan_resume("second", store, job=letters.job)
    assert (plan.to_run, plan.to_reuse) == (2, 7)
    assert resume("second", store, job=letters.job).success
    assert letters.take_calls() == ["shout[b]", "total"]


def test_a_resume_that_reruns_changed_code_takes_in_what_was_left_out(
    letters: Letters, store: RunStore
) -> None:
    """All that is downstream of a changed op runs then (rule R5): nothing old stays beside it."""
    assert again(Letters(fails="shout[b]"), store, "echo[a],shout[b]").status == "failed"
    changed = Letters(mark="!")
    result = resume("second", store, job=changed.job, on_code_change="rerun")
    assert "fan_out" not in changed.calls
    assert result.output_for_node("after") == "AA! BB! CC!."


class Killed(BaseException):
    """The process is gone."""


def _cut(letters: Letters, store: RunStore, monkeypatch: Any, *select: str) -> None:
    """Rerun, and stop while half of what is reused has been taken."""
    commit, commits = Recorder.commit, []

    def commit_twice(self: Recorder, **given: Any) -> None:
        commit(self, **given)
        commits.append(self.state.seq)
        if len(commits) == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("execution.running.adoption.COMMIT_EVENTS", 4)
        patch.setattr(Recorder, "commit", commit_twice)
        with pytest.raises(Killed):
            again(letters, store, *select)
    assert store.state("second").is_taking


def test_a_rerun_that_was_cut_while_it_took(
    letters: Letters, store: RunStore, monkeypatch: Any
) -> None:
    """A resume takes the rest from the parent's log, as it was when the rerun began."""
    _cut(letters, store, monkeypatch, "total*")
    assert plan_resume("second", store, job=letters.job).to_run == 2
    assert store.state("second").is_taking
    result = resume("second", store, job=letters.job)
    assert values(result) == EXPECTED
    assert letters.take_calls() == ["total", "after"]
    (sealed,) = [event for _, event in store.events("second") if isinstance(event, ReuseSealed)]
    assert (sealed.reused, sealed.left_out) == (7, 0)


def test_a_rerun_that_was_cut_and_has_lost_its_parent(
    letters: Letters, store: RunStore, monkeypatch: Any
) -> None:
    """It cannot know what was selected to be reused: refused, with the remedy."""
    _cut(letters, store, monkeypatch, "total*")
    store.remove("first", force=True)
    with pytest.raises(
        RunNotFound, match=r"was killed while it took .* 'first'.*`runstore rm second`"
    ):
        resume("second", store, job=letters.job)
    assert letters.take_calls() == []


# Bytes of the parent


def _lose(store: RunStore, path: str) -> None:
    assert store.directory is not None
    (store.directory / "outputs" / path).unlink()


def test_lost_bytes_of_the_parent_are_made_again(letters: Letters, store: RunStore) -> None:
    """By the step that had made them, in the new run and its folder (rule R6); the plan says so."""
    _lose(store, "first/shout/result/b.json")
    plan = plan_rerun("first", store, select="total*", job=letters.job)
    assert plan.lost == ("shout[b]",)
    assert plan.to_run == 3
    assert values(again(letters, store, "total*")) == EXPECTED
    assert letters.take_calls() == ["shout[b]", "total", "after"]


def test_lost_bytes_are_made_again_at_a_resume(letters: Letters, store: RunStore) -> None:
    """Also what that step needs, as far as it is lost."""
    bad = Letters(fails="total")
    again(bad, store, "total*")
    _lose(store, "first/shout/result/b.json")
    _lose(store, "first/echo/result/b.json")
    _lose(store, "first/fan_out/result/b.json")
    assert values(resume("second", store, job=letters.job)) == EXPECTED
    assert letters.take_calls() == ["fan_out", "echo[b]", "shout[b]", "total", "after"]


def test_a_parent_in_use_is_not_deleted(letters: Letters, store: RunStore) -> None:
    """The refusal names the reruns; when they are gone, or by force, it goes."""
    again(letters, store, "after")
    with pytest.raises(RunInUse, match=r"used by second, .* delete these runs first, or .*--force"):
        store.remove("first")
    assert values(RunResult.load("first", store)) == EXPECTED
    store.remove("second")
    assert values(RunResult.load("first", store)) == EXPECTED
    store.remove("first")
    assert store.runs() == []


def test_a_parent_deleted_by_force(letters: Letters, store: RunStore) -> None:
    """The rerun says which bytes are missing; what it made itself is there."""
    again(letters, store, "after")
    store.remove("first", force=True)
    result = RunResult.load("second", store)
    assert result.output_for_node("after") == EXPECTED["after"]
    with pytest.raises(OutputMissing, match="outputs/first/total"):
        result.output_for_node("total")


def test_finding_the_reruns_of_a_run_reads_no_whole_log(store: RunStore, letters: Letters) -> None:
    """It looks at the first event of each run, also where the runs are long."""
    again(letters, store, "after")
    for question, given in ((_USERS, ("[]",)), (_PARENTS, ())):
        plan = store._reading().query(f"EXPLAIN QUERY PLAN {question}", given).fetchall()
        steps = [str(row[3]) for row in plan]
        assert any(step.startswith("SEARCH events USING INTEGER PRIMARY KEY") for step in steps)
        assert not any("BLOOM" in step or "SCAN events" in step for step in steps)
