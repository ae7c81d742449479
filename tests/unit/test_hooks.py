"""3.9: hooks are told of each step's outcome once it is on disk, at least once; what they raise changes nothing."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from execution import (
    DynamicOut,
    DynamicOutput,
    HookContext,
    Out,
    Output,
    RetryPolicy,
    build_op_context,
    execute,
    failure_hook,
    graph,
    job,
    op,
    resource,
    resume,
    success_hook,
)
from execution.cli.main import cli
from execution.definition.hooks import HookDefinition
from execution.definition.job import JobDefinition
from execution.errors import DefinitionError, StepError
from runstore import RunStore
from runstore.audit import explain, messages, show
from runstore.errors import LogDamaged
from runstore.log import recorder
from runstore.log.events import (
    AnyEvent,
    ErrorInfo,
    HookFailed,
    HooksDue,
    HookSucceeded,
    StepFailed,
    StepSucceeded,
)
from runstore.testing import Failpoint, armed, in_fork, record_points
from tests.unit.logs import Fold, fan_out, start

Told = list[tuple[str, str]]


def telling(told: Told, outcome: str = "success", name: str = "notes") -> HookDefinition:
    """A hook that notes its name and the step it is told of."""
    make = success_hook if outcome == "success" else failure_hook
    return make(name=name)(lambda context: told.append((name, context.step_key)))


@op(out=DynamicOut())
def letters() -> Iterator[DynamicOutput[str]]:
    """Two pieces."""
    yield DynamicOutput("a", "a")
    yield DynamicOutput("b", "b")


@op
def capital(letter: str) -> str:
    """Fails for b."""
    if letter == "b":
        raise ValueError("no b")
    return letter.upper()


@op
def plain(letter: str) -> str:
    """Never fails."""
    return letter


def kinds(store: Path, *wanted: type[AnyEvent], run_id: str = "r") -> list[AnyEvent]:
    """The events of some kinds of a run."""
    with RunStore.open(store) as opened:
        return [event for _, event in opened.events(run_id) if isinstance(event, wanted)]


def test_hooks_of_a_job_are_told_of_every_step(tmp_path: Path) -> None:
    """Each clone by itself; success and failure hooks of what they are named for; the run ends as it would."""
    told: Told = []
    hooks = {telling(told), telling(told, "failure", "alarm")}

    @job(hooks=hooks)
    def told_of() -> None:
        letters().map(capital)

    assert execute(told_of, tmp_path, run_id="r").status == "failed"
    assert told == [("notes", "letters"), ("notes", "capital[a]"), ("alarm", "capital[b]")]
    due = kinds(tmp_path, HooksDue)
    assert [(event.step, event.hooks) for event in due if isinstance(event, HooksDue)] == [
        ("letters", ("notes",)),
        ("capital[a]", ("notes",)),
        ("capital[b]", ("alarm",)),
    ]
    assert len(kinds(tmp_path, HookSucceeded)) == 3


def test_hooks_of_a_node_are_told_of_its_steps_alone() -> None:
    """`.with_hooks` before the call, beside an alias, tags and a policy, in any order; more than once adds."""
    told: Told = []
    first, second = telling(told, name="first"), telling(told, name="second")
    everywhere = telling(told, name="everywhere")

    @job
    def some() -> None:
        pieces = letters.with_hooks({first}).alias("pieces")()
        pieces.map(plain.alias("same").tag({"a": "b"}).with_hooks({second}).with_hooks({first}))
        plain("x")

    assert some.execute_in_process().success
    assert told == [
        ("first", "pieces"),
        ("first", "same[a]"),
        ("second", "same[a]"),
        ("first", "same[b]"),
        ("second", "same[b]"),
    ]
    told.clear()
    assert some.with_hooks({everywhere}).execute_in_process().success
    assert len([name for name, _ in told if name == "everywhere"]) == 4


def test_hooks_of_a_graph_are_told_of_each_step_of_its_nodes() -> None:
    """Also of nested clones, whose values the hook reads; the hooks of its own nodes stay; a job of it keeps them."""
    told: Told = []
    values: dict[str, Any] = {}

    @success_hook
    def reads(context: HookContext) -> None:
        values[context.step_key] = context.op_output_values

    @op(out=DynamicOut())
    def sizes(letter: str) -> Iterator[DynamicOutput[int]]:
        yield DynamicOutput(1, f"{letter}1")

    @op
    def sized(size: int) -> int:
        return size

    @graph
    def resized(letter: str) -> None:
        sizes(letter).map(sized.with_hooks({telling(told)}))

    @job
    def nested() -> None:
        letters().map(resized.with_hooks({reads}).alias("g"))

    assert nested.execute_in_process().success
    assert told == [("notes", "g.sized[a][a1]"), ("notes", "g.sized[b][b1]")]
    assert values == {
        "g.sizes[a]": {"result": {"a1": 1}},
        "g.sizes[b]": {"result": {"b1": 1}},
        "g.sized[a][a1]": {"result": 1},
        "g.sized[b][b1]": {"result": 1},
    }
    values.clear()
    alone = resized.with_hooks({reads}).to_job(input_values={"letter": "x"})
    assert alone.execute_in_process().success
    assert values == {"sizes": {"result": {"x1": 1}}, "sized[x1]": {"result": 1}}


def test_a_hook_decorates_a_job() -> None:
    """`@notes` above `@job` is `with_hooks`, as in the authoring model."""
    told: Told = []
    notes = telling(told)

    @notes
    @job
    def decorated() -> None:
        plain("x")

    assert isinstance(decorated, JobDefinition)
    assert decorated.execute_in_process().success
    assert told == [("notes", "plain")]


def test_a_failing_hook_is_recorded_and_changes_nothing(tmp_path: Path) -> None:
    """The other hooks are called, the step stays as it ended, the run succeeds; the log and `explain` say it."""
    told: Told = []

    @success_hook
    def breaks(context: HookContext) -> None:
        if context.mapping_key == "a":
            sys.exit("no route")
        if context.mapping_key == "b":
            raise BaseException("no route")
        raise ConnectionError("no route")

    @job(hooks={breaks, telling(told)})
    def two() -> None:
        letters().map(plain)

    assert execute(two, tmp_path, run_id="r").success
    assert told == [("notes", "letters"), ("notes", "plain[a]"), ("notes", "plain[b]")]
    failed = [event for event in kinds(tmp_path, HookFailed) if isinstance(event, HookFailed)]
    assert [(event.step, event.hook, event.error.type) for event in failed] == [
        ("letters", "breaks", "ConnectionError"),
        ("plain[a]", "breaks", "SystemExit"),
        ("plain[b]", "breaks", "BaseException"),
    ]
    with RunStore.open(tmp_path) as store:
        (report,) = show(store, "r").hook_failures
        assert (report.hook, report.count, report.step) == ("breaks", 3, "letters")
        facts = [fact.text for fact in explain(store, "r", "plain[b]").facts]
    assert "hook breaks failed: BaseException: no route" in facts


def test_a_hook_sees_the_outcome_on_disk(tmp_path: Path) -> None:
    """When it is called, another reader of the store finds the step's outcome; nothing goes out on less."""
    seen: list[bool] = []

    @success_hook
    def looks(context: HookContext) -> None:
        done = kinds(tmp_path, StepSucceeded)
        seen.append(
            context.step_key in {event.step for event in done if isinstance(event, StepSucceeded)}
        )

    @failure_hook(name="looks_too")
    def looks_at_failure(context: HookContext) -> None:
        seen.append(bool(kinds(tmp_path, StepFailed)))

    @job(hooks={looks, looks_at_failure})
    def watched() -> None:
        letters().map(capital)

    execute(watched, tmp_path, run_id="r")
    assert seen == [True] * 3


def test_what_the_context_of_a_hook_says(tmp_path: Path) -> None:
    """The step, its op, config and tags; its values from storage; what it raised; a log and resources."""
    seen: dict[str, Any] = {}

    @op(
        out={"one": Out(), "many": DynamicOut(), "none": Out(is_required=False)},
        tags={"team": "a"},
    )
    def several() -> Iterator[Output[int] | DynamicOutput[int]]:
        yield Output(1, "one")
        yield DynamicOutput(2, "x", "many")
        yield DynamicOutput(3, "y", "many")

    @success_hook(required_resource_keys={"db"})
    def looks(context: HookContext) -> None:
        context.log.info("looked")
        seen[context.step_key] = (
            context.op_output_values,
            context.op.name,
            context.op_config,
            context.tags,
            context.resources.db,
            context.op_exception,
            (context.run_id, context.job_name, context.hook_name, context.attempt),
        )

    @failure_hook
    def alarm(context: HookContext) -> None:
        seen[context.step_key] = (context.op_exception, context.op_output_values)

    @job(hooks={looks, alarm}, resource_defs={"db": "the db"}, tags={"job": "t"})
    def shown() -> None:
        several()
        letters().map(capital)

    config = {"ops": {"several": {"config": {"limit": 1}}}}
    execute(shown, tmp_path, run_id="r", run_config=config)
    assert seen["several"] == (
        {"one": 1, "many": {"x": 2, "y": 3}},
        "several",
        {"limit": 1},
        {"job": "t", "team": "a"},
        "the db",
        None,
        ("r", "shown", "looks", 1),
    )
    error, values = seen["capital[b]"]
    assert isinstance(error, ValueError)
    assert values == {}
    with RunStore.open(tmp_path) as store:
        lines = [(one.step, one.logger, one.text) for one in messages(store)]
    assert ("several", "runstore.op.hook.looks", "looked") in lines


def test_a_retried_failure_is_no_outcome() -> None:
    """Hooks hear of a step when it will not be tried again."""
    told: Told = []
    tries: list[int] = []

    @op(retry_policy=RetryPolicy(max_retries=1))
    def flaky() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("once")
        return 1

    @job(hooks={telling(told), telling(told, "failure", "alarm")})
    def again() -> None:
        flaky()

    assert again.execute_in_process().success
    assert (len(tries), told) == (2, [("notes", "flaky")])


def test_skipped_and_reused_steps_call_no_hook(tmp_path: Path) -> None:
    """A hook is told of attempts: a resume does not tell again what was told before."""
    told: Told = []
    fails = [True]

    @op(out=Out(is_required=False))
    def nothing() -> Iterator[Output[int]]:
        yield from ()

    @op
    def last(x: int, y: str) -> str:
        return y

    @op
    def breaks() -> int:
        if fails:
            raise ValueError
        return 1

    @job(hooks={telling(told)})
    def skipping() -> None:
        last(nothing(), "x")
        breaks()

    assert execute(skipping, tmp_path, run_id="r").status == "failed"
    assert told == [("notes", "nothing")]
    fails.clear()
    assert resume("r", tmp_path, job=skipping).success
    assert told == [("notes", "nothing"), ("notes", "breaks")]


def test_an_async_hook_runs_on_the_loop() -> None:
    """As async ops do."""
    told: list[str] = []

    @success_hook
    async def later(context: HookContext) -> None:
        await asyncio.sleep(0)
        told.append(context.step_key)

    @job(hooks={later})
    def one() -> None:
        plain("x")

    assert one.execute_in_process().success
    assert told == ["plain"]


def test_a_resource_of_a_hook_that_cannot_be_opened_fails_the_hook(tmp_path: Path) -> None:
    """No step needs it, so the run goes on."""

    @resource
    def broken() -> None:
        raise ConnectionError("no route")

    @success_hook(required_resource_keys={"slack"})
    def tells(context: HookContext) -> None:
        raise AssertionError("not reached")

    @job(hooks={tells}, resource_defs={"slack": broken})
    def one() -> None:
        plain("x")

    assert execute(one, tmp_path, run_id="r").success
    (failed,) = kinds(tmp_path, HookFailed)
    assert isinstance(failed, HookFailed)
    assert "resource 'slack' could not be opened" in failed.error.message


def appending(file: Path) -> JobDefinition:
    """A job whose hooks write a line into a file, with a clone that fails as long as there is no `fixed` beside."""

    def note(context: HookContext) -> None:
        with file.open("a") as opened:
            kind = type(context.op_exception).__name__
            opened.write(f"{context.hook_name} {context.step_key} {context.attempt} {kind}\n")

    @op(version="1")
    def fragile(letter: str) -> str:
        if letter == "b" and not file.with_name("fixed").exists():
            raise ValueError("no b")
        return letter

    @job(hooks={success_hook(name="good")(note), failure_hook(name="bad")(note)})
    def noted() -> None:
        letters().map(fragile)

    return noted


def test_hooks_are_called_at_least_once_wherever_a_run_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at every event and commit; after a resume each outcome in the log was told, in the end or again."""
    monkeypatch.setattr(recorder, "GROUP_S", 60.0)  # no commit that only the clock asks for
    file = tmp_path / "none" / "told"
    file.parent.mkdir()
    points = len(record_points(lambda: execute(appending(file), tmp_path / "none" / "store")))
    assert points > 30
    for nth in range(1, points + 1):
        folder = tmp_path / str(nth)
        folder.mkdir()
        file, store = folder / "told", folder / "store"

        def run(nth: int = nth, file: Path = file, store: Path = store) -> None:
            with armed(Failpoint(nth=nth)):
                execute(appending(file), store, run_id="r")

        assert in_fork(run).killed
        (folder / "fixed").touch()
        assert execute(appending(file), store, run_id="r").success, nth
        ended = kinds(store, StepSucceeded, StepFailed)
        with RunStore.open(store) as opened:
            assert opened.state("r").hooks_due == {}
        told = {tuple(line.split()[:3]) for line in file.read_text().splitlines()}
        wanted = {
            ("good" if isinstance(event, StepSucceeded) else "bad", event.step, str(event.attempt))
            for event in ended
            if isinstance(event, StepSucceeded | StepFailed)
        }
        assert wanted <= told, nth


def test_after_a_crash_the_exception_is_rebuilt(tmp_path: Path) -> None:
    """A failure that is told by a resume has its type and message, and the traceback as a note."""
    seen: list[BaseException | None] = []

    @failure_hook
    def alarm(context: HookContext) -> None:
        seen.append(context.op_exception)

    @op
    def breaks() -> None:
        if not seen:
            raise ValueError("no route")

    @job(hooks={alarm})
    def one() -> None:
        breaks()

    def run() -> None:
        with armed(Failpoint(point="commit.after", nth=3)):
            execute(one, tmp_path, run_id="r")

    assert in_fork(run).killed
    assert kinds(tmp_path, HookFailed, HookSucceeded) == []
    resume("r", tmp_path, job=one)
    assert isinstance(seen[0], StepError)
    assert str(seen[0]) == "ValueError: no route"
    assert "Traceback" in seen[0].__notes__[0]


def test_a_job_without_hooks_has_no_event_and_no_commit_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one with hooks on one node pays for that node alone."""
    monkeypatch.setattr(recorder, "GROUP_S", 60.0)  # no commit that only the clock asks for

    def commits(hooks: Any) -> int:
        @job
        def chain() -> None:
            letters().map(plain.with_hooks(hooks) if hooks else plain)

        points = record_points(lambda: execute(chain, tmp_path / str(bool(hooks)), run_id="r"))
        return sum(point.name == "commit.before" for point in points)

    assert commits({telling([])}) == commits(None) + 2  # the outcome of each of two clones
    assert kinds(tmp_path / "False", HooksDue, HookSucceeded) == []


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: plain.with_hooks(telling([])), ["op 'plain'", "write a set of hooks"]),
        (lambda: plain.with_hooks({len}), ["op 'plain'", "is no hook", "@success_hook"]),
        (
            lambda: plain.with_hooks({telling([]), telling([])}),
            ["op 'plain'", "two hooks named 'notes'"],
        ),
        (lambda: success_hook(name="a b")(len), ["hook name 'a b'"]),
        (lambda: failure_hook(tags={})(len), ["@failure_hook has no argument tags"]),
        (
            lambda: job(hooks={success_hook(required_resource_keys={"db"})(_tells)})(_body),
            ["job '_body'", "hook '_tells' of op 'plain'", "requires resource 'db'"],
        ),
    ],
)
def test_what_cannot_be_is_found_at_definition(make: Callable[[], Any], parts: list[str]) -> None:
    """What is no hook, a name twice, a resource that the job does not have."""
    with pytest.raises(DefinitionError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def _tells(context: HookContext) -> None:
    """A hook's function."""


def _body() -> None:
    plain("x")


def test_a_hook_is_called_as_the_function_that_it_is() -> None:
    """For unit tests, with any context."""
    seen: list[Any] = []
    hook = success_hook(name="notes")(lambda context: seen.append(context.run_id))
    hook(build_op_context(run_id="test"))
    assert seen == ["test"]


ERROR = ErrorInfo("ValueError", "no", "")


@pytest.mark.parametrize(
    "events",
    [
        [HooksDue("fan_out", ("x",), 2)],
        [*fan_out("a"), start("echo[a]"), HooksDue("echo[a]", ("x",), 2)],
        [*fan_out("a"), HooksDue("fan_out", ("x",), 2, attempt=2)],
        [*fan_out("a"), HooksDue("fan_out", ("x",), 2), HooksDue("fan_out", ("x",), 2)],
        [*fan_out("a"), HookSucceeded("fan_out", "x")],
        [*fan_out("a"), HooksDue("fan_out", ("x",), 2), HookFailed("fan_out", "y", ERROR)],
        [
            *fan_out("a"),
            HooksDue("fan_out", ("x",), 2),
            HookSucceeded("fan_out", "x"),
            HookSucceeded("fan_out", "x"),
        ],
    ],
)
def test_a_log_whose_hooks_do_not_fit_is_damaged(events: list[AnyEvent]) -> None:
    """V14: hooks become due once, after the outcome of the step's last attempt, and end once each."""
    fold = Fold()
    fold(*events[:-1])
    with pytest.raises(
        LogDamaged, match=r"which has not just ended|which is not due|is of attempt"
    ):
        fold(events[-1])


HOOKED = """
from execution import job, op, success_hook

@success_hook
def tell(context):
    context.log.warning("telling")
    raise ConnectionError("no route")

@op
def one() -> int:
    return 1

@job(hooks={tell})
def hooked():
    one()
"""


def test_the_command_says_which_hooks_have_failed(tmp_path: Path) -> None:
    """`run` warns at the end and exits 0; `show` and `log` name hook, step and error."""
    file, store = tmp_path / "jobs.py", ["--store", str(tmp_path / "store")]
    file.write_text(HOOKED)
    ran = CliRunner().invoke(cli, ["run", f"{file}:hooked", *store])
    assert ran.exit_code == 0, ran.output
    line = "hook tell failed for one (seq 6): ConnectionError: no route"
    assert f"warning: {line}" in ran.output
    assert line in CliRunner().invoke(cli, ["show", *store]).output
    log = CliRunner().invoke(cli, ["log", *store]).output.splitlines()
    assert [row.split()[2:] for row in log[4:6]] == [
        ["HooksDue", "one", "attempt", "1,", "tell"],
        ["HookFailed", "one", "tell,", "ConnectionError:", "no", "route"],
    ]
