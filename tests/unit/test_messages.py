"""3.5: what ops log stands in the table `messages`, in the commit of the events of its step."""

import json
import logging
import pickle
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    build_op_context,
    execute,
    job,
    op,
    resume,
)
from execution.cli.main import cli
from execution.definition.job import JobDefinition
from execution.running.step_log import KEPT, MAX_TEXT, StepLog
from runstore import RunStore
from runstore.audit import messages
from runstore.log import recorder
from runstore.log.events import StepStarted, StepSucceeded
from runstore.testing import Failpoint, armed, in_fork


@op(out=DynamicOut())
def letters(context: OpContext) -> Iterator[DynamicOutput[str]]:
    """Logs before each piece, and after the last."""
    for letter in "ab":
        context.log.info("yielding %s", letter)
        yield DynamicOutput(letter, letter)
    context.log.debug("nobody asked for this")
    context.log.warning("no more")


@op
def capital(context: OpContext, letter: str) -> str:
    """Logs one line."""
    context.log.info("at work on %s", letter, extra={"size": 1})
    return letter.upper()


@op
def silent(letters: list[str]) -> str:
    """Logs nothing."""
    return "".join(letters)


@job
def logging_job() -> None:
    """Logs in a generator and in clones."""
    silent(letters().map(capital).collect())


LINES = [
    ("letters", 20, "yielding a"),
    ("letters", 20, "yielding b"),
    ("letters", 30, "no more"),
    ("capital[a]", 20, "at work on a"),
    ("capital[b]", 20, "at work on b"),
]


def lines(store: Path, **which: Any) -> list[tuple[str, int, str]]:
    """(step, level, text) of the messages of the last run."""
    with RunStore.open(store) as opened:
        return [(one.step, one.level, one.text) for one in messages(opened, **which)]


def logged(body: Callable[[StepLog], Any]) -> JobDefinition:
    """A job of one op, `talks`, that does something with its logger."""

    @op
    def talks(context: OpContext) -> int:
        body(context.log)
        return 1

    @job
    def talking() -> None:
        talks()

    return talking


def test_lines_are_stored_in_order_with_their_step(tmp_path: Path) -> None:
    """INFO and above, with step, attempt, epoch, logger and a time in UTC; numbered from 1."""
    assert execute(logging_job, tmp_path).success
    assert lines(tmp_path) == LINES
    with RunStore.open(tmp_path) as store:
        found = list(messages(store))
    assert [one.number for one in found] == [1, 2, 3, 4, 5]
    assert {(one.attempt, one.epoch, one.logger) for one in found} == {(1, 1, "runstore.op")}
    assert all(one.time.utcoffset() is not None for one in found)


def test_lines_may_be_asked_for_by_step_and_level(tmp_path: Path) -> None:
    """A step key names one step, the name of an op all its clones."""
    execute(logging_job, tmp_path)
    assert lines(tmp_path, step="capital[b]") == LINES[4:]
    assert lines(tmp_path, step="capital") == LINES[3:]
    assert lines(tmp_path, level=logging.WARNING) == [LINES[2]]
    assert lines(tmp_path, after=3) == LINES[3:]


def test_a_failed_attempt_keeps_its_lines(tmp_path: Path) -> None:
    """With the traceback that was logged; the next attempt's stand behind them, with its number and epoch."""

    @op
    def flaky(context: OpContext) -> int:
        try:
            int("no number")
        except ValueError:
            context.log.exception("attempt %d", context.attempt)
        if context.attempt == 1:
            raise ValueError("once")
        return 1

    @job
    def once_more() -> None:
        flaky()

    assert execute(once_more, tmp_path, run_id="r").status == "failed"
    assert resume("r", tmp_path, job=once_more).success
    with RunStore.open(tmp_path) as store:
        first, second = messages(store)
    assert (first.attempt, first.epoch, second.attempt, second.epoch) == (1, 1, 2, 2)
    assert first.text.startswith("attempt 1\nTraceback")
    assert "invalid literal" in second.text


@pytest.mark.parametrize("commit", [1, 2, 3, 4])
def test_a_kill_leaves_messages_and_events_of_the_same_commits(
    tmp_path: Path, commit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL before a commit: the lines of every committed success are there, and no other."""
    monkeypatch.setattr(recorder, "GROUP_S", 60.0)  # no commit in the middle of the generator

    def run() -> None:
        with armed(Failpoint(point="commit.before", nth=commit + 1)):
            execute(logging_job, tmp_path, run_id="r")

    assert in_fork(run).killed
    with RunStore.open(tmp_path) as store:
        done = {event.step for _, event in store.events("r") if isinstance(event, StepSucceeded)}
    told = lines(tmp_path)
    assert {step for step, _, _ in told} == done
    assert told == [line for line in LINES if line[0] in done]


def test_a_kill_in_a_step_costs_its_own_lines_alone(tmp_path: Path) -> None:
    """SIGKILL while the third step runs: what the finished ones logged is there, half a step's is not."""

    def run() -> None:
        with armed(Failpoint(point="output.partial", step=None, nth=4)):
            execute(logging_job, tmp_path, run_id="r")

    assert in_fork(run).killed
    with RunStore.open(tmp_path) as store:
        started = [event.step for _, event in store.events("r") if isinstance(event, StepStarted)]
    assert started == ["letters", "capital[a]", "capital[b]"]
    assert lines(tmp_path) == LINES[:4]
    assert resume("r", tmp_path, job=logging_job).success
    assert lines(tmp_path) == LINES


def test_a_step_that_logs_without_end_is_bounded(tmp_path: Path) -> None:
    """The first and the last lines are kept, and one says how many were left out between; long lines are cut."""

    def talk(log: StepLog) -> None:
        for number in range(5_000):
            log.info("line %d", number)
        log.info("x" * 100_000)

    assert execute(logged(talk), tmp_path).success
    found = lines(tmp_path)
    assert len(found) == KEPT + 1
    assert found[0][2] == "line 0"
    assert found[KEPT // 2] == ("talks", 30, found[KEPT // 2][2])
    assert found[KEPT // 2][2].startswith("4,001 lines left out")
    assert found[-2][2] == "line 4999"
    assert len(found[-1][2]) < MAX_TEXT + 100


def test_a_generator_tells_its_lines_as_it_goes(tmp_path: Path) -> None:
    """They are committed with its pieces, long before it ends."""
    seen: list[int] = []

    @op(out=DynamicOut())
    def slow(context: OpContext) -> Iterator[DynamicOutput[int]]:
        for number in range(2_100):
            context.log.info("piece %d", number)
            yield DynamicOutput(number, number)
        seen.append(len(lines(tmp_path)))

    @job
    def fan() -> None:
        slow()

    assert execute(fan, tmp_path, run_id="r").success
    assert seen[0] >= 1_000
    assert len(lines(tmp_path)) == 2_100


class Nameless:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("%d of %d", 1), "(a message that cannot be shown: TypeError)"),
        (("%s", Nameless()), "(a message that cannot be shown: RuntimeError)"),
        (("lone \ud800 and \0",), "lone \\ud800 and \\x00"),
        (("100 %",), "100 %"),
    ],
)
def test_no_line_fails_a_step(tmp_path: Path, arguments: tuple[Any, ...], text: str) -> None:
    """Wrong arguments, a `__str__` that raises and what no database stores become text."""
    assert execute(logged(lambda log: log.info(*arguments)), tmp_path).success
    assert lines(tmp_path) == [("talks", 20, text)]


def test_users_handlers_see_the_lines_with_run_and_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As of any logger: their level decides, `extra` and the place in the source are kept."""
    with caplog.at_level(logging.INFO, logger="runstore.op"):
        execute(logging_job, tmp_path, run_id="r")
    record = caplog.records[-1]
    assert (record.name, record.getMessage()) == ("runstore.op.capital[b]", "at work on b")
    assert vars(record)["run_id"] == "r"
    assert vars(record)["step_key"] == "capital[b]"
    assert (vars(record)["size"], record.funcName) == (1, "capital")


def test_debug_is_stored_where_it_is_enabled(tmp_path: Path) -> None:
    """The level of the logger `runstore.op` opens the table to DEBUG; above INFO it closes nothing."""
    logger = logging.getLogger("runstore.op")
    try:
        for level, count in ((logging.DEBUG, 6), (logging.ERROR, 5)):
            logger.setLevel(level)
            execute(logging_job, tmp_path)
            assert len(lines(tmp_path)) == count
    finally:
        logger.setLevel(logging.NOTSET)


def test_a_child_and_a_thread_log_for_the_same_step(tmp_path: Path) -> None:
    """`getChild` gives a longer name; an op's own threads may use the logger."""

    def talk(log: StepLog) -> None:
        log.getChild("sql").info("from a child")
        thread = threading.Thread(target=log.info, args=("from a thread",))
        thread.start()
        thread.join()

    execute(logged(talk), tmp_path)
    with RunStore.open(tmp_path) as store:
        assert [(one.logger, one.text) for one in messages(store)] == [
            ("runstore.op.sql", "from a child"),
            ("runstore.op", "from a thread"),
        ]


def test_a_job_that_logs_nothing_has_no_statement_for_it(tmp_path: Path) -> None:
    """The table is not touched by a commit without lines."""

    @op
    def quiet(context: OpContext) -> int:
        return context.attempt

    @job
    def still() -> None:
        quiet()

    statements: list[str] = []
    with RunStore.open(tmp_path) as store:
        store._writing(create=True)._connection.set_trace_callback(statements.append)
        assert execute(still, store).success
    assert any("INSERT INTO events" in text for text in statements)
    assert not any("messages" in text for text in statements)


def test_messages_leave_with_their_run_and_may_be_pruned_before(tmp_path: Path) -> None:
    """`rm` deletes them; a run whose messages somebody deleted is the same run."""
    for run_id in ("one", "two"):
        execute(logging_job, tmp_path, run_id=run_id)
    with RunStore.open(tmp_path) as store:
        store.remove("one")
    connection = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    assert connection.execute("SELECT DISTINCT run FROM messages").fetchall() == [(2,)]
    connection.execute("DELETE FROM messages")
    connection.close()
    assert lines(tmp_path) == []
    with RunStore.open(tmp_path) as store:
        assert store.run("two").status == "succeeded"


def test_the_context_travels_without_its_log() -> None:
    """Its fields are data; a copy in another process makes a logger of its own."""
    context = build_op_context(mapping_key="a")
    context.log.info("here")
    copy = pickle.loads(pickle.dumps(context))
    assert copy == context
    assert "log" not in vars(copy)


def test_the_idempotency_key_is_that_of_the_step(tmp_path: Path) -> None:
    """The same for every attempt and through resumes, another for each step and run."""
    seen: list[tuple[str, str]] = []

    @op(out=DynamicOut())
    def two() -> Iterator[DynamicOutput[str]]:
        yield DynamicOutput("a", "a")
        yield DynamicOutput("b", "b")

    @op
    def pays(context: OpContext, x: str) -> str:
        seen.append((context.step_key, context.idempotency_key))
        if context.run_id == "r" and context.attempt == 1:
            raise ValueError("no")
        return x

    @job
    def payments() -> None:
        two().map(pays)

    execute(payments, tmp_path, run_id="r")
    resume("r", tmp_path, job=payments)
    by_step: dict[str, set[str]] = {}
    for step, key in seen:
        by_step.setdefault(step, set()).add(key)
    assert [len(keys) for keys in by_step.values()] == [1, 1]
    first, second = (min(keys) for keys in by_step.values())
    assert first != second
    assert len(first) == 32
    execute(payments, tmp_path, run_id="other")
    assert seen[-1][1] not in (first, second)


def test_what_the_context_says_of_tags_and_keys() -> None:
    """Methods of the authoring model beside the attributes."""
    context = build_op_context(mapping_key="k", tags={"team": "clocks"})
    assert context.get_mapping_key() == "k"
    assert (context.has_tag("team"), context.has_tag("x")) == (True, False)
    assert (context.get_tag("team"), context.get_tag("x")) == ("clocks", None)


def test_the_command_prints_them(tmp_path: Path) -> None:
    """A line each, or JSON; by step, by level; `--follow` ends with the run."""
    execute(logging_job, tmp_path, run_id="r")

    def out(*words: str) -> list[str]:
        result = CliRunner().invoke(cli, ["messages", *words, "--store", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    assert out()[0].split()[1:] == ["INFO", "letters", "yielding", "a"]
    assert len(out("r", "--follow")) == 5
    assert [line.split("  ")[-1] for line in out("--level", "warning")] == ["no more"]
    found = [json.loads(line) for line in out("--step", "capital", "--json")]
    assert [(one["step"], one["text"]) for one in found] == [
        ("capital[a]", "at work on a"),
        ("capital[b]", "at work on b"),
    ]
