"""What every executor promises: an abstract class of tests, run for each in `test_executors.py`."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution.errors import ResourceFailed
from execution.executors.base import Executor
from execution.running.brief import Brief
from execution.running.hook_runner import HookContext, HookTicket
from execution.running.inputs import Branch, Collected, Given, Stored
from execution.running.told import Ticket, Told
from runstore import RunStore
from runstore.errors import StorageFailed
from runstore.keys import format_step_key
from runstore.log.events import (
    AnyEvent,
    DynamicOutputStored,
    ErrorInfo,
    ExpansionSealed,
    HookFailed,
    HookSucceeded,
    OutputStored,
    RunStarted,
    StepFailed,
    StepSucceeded,
)
from runstore.log.state import RunState
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reference import OutputReference
from runstore.outputs.serializers import deserialize, serialize
from tests.unit.contract_jobs import contract

PATIENCE_S = 60.0
"""How long a message may take on a busy machine before it is held for missing."""


class Bench:
    """An executor that is open, and an engine's part of what there is to do with it."""

    def __init__(self, executor: Executor, folder: Path) -> None:
        self.folder = folder
        self.store = RunStore.open(folder / "store", level="fast")
        state = self.state(self.store, folder)
        self.outputs: OutputStore = self.store.outputs(state)
        self.brief = Brief.of(state, contract)
        self.executor = executor
        executor.open(self.outputs, self.brief)

    @staticmethod
    def state(store: RunStore, folder: Path = Path()) -> RunState:
        """That of a run of the job of the contract which has begun."""
        started = RunStarted(
            job=contract.reference,
            graph=contract.graph,
            config={"resources": {"pen": {"config": {"folder": str(folder)}}}},
            tags={},
            level="fast",
            base=store.base_for("r"),
            host="",
            pid=0,
            version="",
            epoch=1,
        )
        state = RunState("r")
        state.apply(1, started)
        return state

    def ticket(self, node: str, *path: str, attempt: int = 1, **arguments: Any) -> Ticket:
        """The ticket of an attempt; plain arguments are given as constants of the graph are."""
        given = {
            name: one if isinstance(one, Stored | Collected) else Given(one)
            for name, one in arguments.items()
        }
        context = self.brief.context(node, path, attempt)
        return self.brief.ticket(context, dict(given), format_step_key(node, path))

    def stored(self, seq: int, value: Any, output: tuple[str, str]) -> Stored:
        """A value as an input that another step has stored."""
        reference = self.outputs.put(serialize(value), "given", "result", (str(seq),), 1, 1)
        return Stored(seq, reference, contract.declared(*output), output)

    def collected(self, first_seq: int, values: list[Any], output: tuple[str, str]) -> Collected:
        """Values as a collect."""
        each = [self.stored(first_seq + n, value, output) for n, value in enumerate(values)]
        tree = Branch("list", [str(n) for n in range(len(values))])
        seqs, references = [one.seq for one in each], [one.reference for one in each]
        here = threading.get_ident()

        def from_the_log() -> Iterator[OutputReference]:
            assert threading.get_ident() == here, "the log is read by the engine's thread alone"
            return iter(references)

        return Collected(tree, seqs, from_the_log, contract.declared(*output), output)

    def hook(self, name: str, node: str, error: ErrorInfo | None = None, **outputs: Any) -> None:
        """Submit the call of a hook."""
        hook = next(hook for hook in contract.hooks[node] if hook.name == name)
        step = self.brief.context(node, (), 1)
        self.executor.submit(
            HookTicket(hook, HookContext(name, contract.ops[node], step, error, outputs))
        )

    def next_told(self) -> Told:
        """What is told next; an executor may say that there is nothing, or room, as often as it likes."""
        for _ in range(1000):
            told = self.executor.next_message(PATIENCE_S)
            if told is not None:
                return told
        raise AssertionError("nothing is told")

    def told(self, *tickets: Ticket) -> list[Told]:
        """Submit tickets as there is room; all that is told until each has ended."""
        left, running, found = list(tickets), 0, []
        while left or running:
            while left and self.executor.has_room:
                self.executor.submit(left.pop(0))
                running += 1
            told = self.executor.next_message(PATIENCE_S)
            if told is not None:
                found.append(told)
                running -= told.is_last
        return found

    def events(self, *tickets: Ticket) -> list[AnyEvent]:
        """The events of attempts."""
        return [event for told in self.told(*tickets) for event in told.events]

    def value(self, event: OutputStored | DynamicOutputStored) -> Any:
        """What a step stored."""
        return deserialize(self.outputs.get(event.reference), event.reference.serializer, None)

    def pen_lines(self) -> list[str]:
        """What the resource wrote down."""
        file = self.folder / "pen.txt"
        return file.read_text().splitlines() if file.exists() else []


class ExecutorContract:
    """Subclass it with an `executor`."""

    places: int
    """How many attempts this executor takes at a time."""

    @pytest.fixture
    def executor(self) -> Executor:
        """A new one, not open."""
        raise NotImplementedError

    @pytest.fixture
    def bench(self, executor: Executor, tmp_path: Path) -> Iterator[Bench]:
        """It, open."""
        made = Bench(executor, tmp_path)
        yield made
        executor.close()
        made.outputs.close()

    def test_outputs_and_end(self, bench: Bench) -> None:
        """An attempt tells its outputs and its success, once their bytes can be read."""
        one, two, ended = bench.events(bench.ticket("pair", "a", number=bench.stored(1, 6, INT)))
        assert isinstance(one, OutputStored)
        assert isinstance(two, OutputStored)
        assert (bench.value(one), bench.value(two)) == (7, "6")
        assert isinstance(ended, StepSucceeded)
        assert ended.step == "pair[a]"

    def test_the_end_of_an_attempt_says_who_ran_it(self, bench: Bench) -> None:
        """Each worker has a name of its own on one line; none has the process that drives the run."""
        tickets = [bench.ticket("whereabouts", attempt=n) for n in range(1, 9)]
        tickets.append(bench.ticket("fails", how="boom"))
        workers: dict[str, set[Any]] = {}
        for told in bench.told(*tickets):
            ended = told.events[-1]
            assert isinstance(ended, StepSucceeded | StepFailed)
            assert bool(ended.worker) is not bench.executor.is_inline
            assert ended.worker.isprintable()
            if isinstance(ended, StepSucceeded):
                stored = told.events[0]
                assert isinstance(stored, OutputStored)
                workers.setdefault(ended.worker, set()).add(tuple(bench.value(stored)))
        assert len(workers) <= self.places
        assert all(len(places) == 1 for places in workers.values())

    def test_pieces_are_told_one_by_one(self, bench: Bench) -> None:
        """Each piece of a dynamic output is told alone, readable by then, before the end, with its lines of the log."""
        told = bench.told(bench.ticket("pieces", count=50))
        assert [one.is_last for one in told] == [False] * 51 + [True]
        for number, one in enumerate(told[:50]):
            (event,) = one.events
            assert isinstance(event, DynamicOutputStored)
            assert (event.mapping_key, bench.value(event)) == (str(number), number)
            assert [line.text for line in one.messages] == [f"piece {number}"]
        rest = [type(event) for one in told[50:] for event in one.events]
        assert rest == [ExpansionSealed, StepSucceeded]

    def test_attempts_do_not_mix(self, bench: Bench) -> None:
        """Of many attempts each tells one end, and all that is its own in order."""
        tickets = [bench.ticket("pieces", attempt=n, count=n % 7) for n in range(1, 40)]
        ended = Counter[int]()
        keys: dict[int, list[str]] = {n: [] for n in range(1, 40)}
        for told in bench.told(*tickets):
            for event in told.events:
                assert isinstance(event, DynamicOutputStored | ExpansionSealed | StepSucceeded)
                assert not ended[event.attempt]
                if isinstance(event, DynamicOutputStored):
                    keys[event.attempt].append(event.mapping_key)
            ended[event.attempt] += told.is_last
        assert ended == dict.fromkeys(range(1, 40), 1)
        assert keys == {n: [str(number) for number in range(n % 7)] for n in range(1, 40)}

    def test_room(self, bench: Bench) -> None:
        """There is room for as many attempts as it has places, and again when one has ended."""
        for number in range(self.places):
            assert bench.executor.has_room
            bench.executor.submit(bench.ticket("pieces", attempt=number + 1, count=0))
        assert not bench.executor.has_room
        while not bench.next_told().is_last:
            pass
        assert bench.executor.has_room

    def test_who_is_at_work(self, bench: Bench) -> None:
        """While a step runs the executor says by whom, as its end will; in-process nothing."""
        bench.executor.submit(bench.ticket("waits", folder=str(bench.folder)))
        if bench.executor.is_inline:
            assert not bench.executor.at_work
            (bench.folder / "go").touch()
        else:
            until = time.monotonic() + PATIENCE_S
            while not ((bench.folder / "here").exists() and bench.executor.at_work):
                assert time.monotonic() < until
                assert bench.executor.next_message(0.01) is None
            (worker,) = bench.executor.at_work.items()
            (bench.folder / "go").touch()
        ended = bench.next_told().events[-1]
        assert isinstance(ended, StepSucceeded)
        assert bench.executor.is_inline or worker == ("waits", ended.worker)
        assert not bench.executor.at_work

    def test_nothing_is_told_of_nothing(self, bench: Bench) -> None:
        """Where nothing runs, a wait ends without a message."""
        assert bench.executor.next_message(0.01) is None

    def test_collect(self, bench: Bench) -> None:
        """A collect reaches an async op as a list in the order of its keys."""
        numbers = bench.collected(5, [30, 4, 8], ("more", "result"))
        stored, _ = bench.events(bench.ticket("summed", numbers=numbers))
        assert isinstance(stored, OutputStored)
        assert bench.value(stored) == 42

    def test_lost_inputs_are_told_as_such(self, bench: Bench) -> None:
        """An input whose bytes are gone is no failure of the step: the seq of the event that stored it is told."""
        gone = bench.stored(1, 6, INT)
        shutil.rmtree(bench.folder / "store" / "outputs")
        (told,) = bench.told(bench.ticket("pair", "a", number=gone))
        assert told.lost is not None
        assert told.lost.seqs == [1]
        assert not told.events

    @pytest.mark.parametrize(
        ("how", "kind", "text"),
        [
            ("boom", "ValueError", "boom"),
            ("exit", "SystemExit", "3"),
            ("panic", "tests.unit.contract_jobs.Panic", "index out of bounds"),
            (
                "unspeakable",
                "tests.unit.contract_jobs.Unspeakable",
                "(the error's own text cannot be shown)",
            ),
        ],
    )
    def test_failures(self, bench: Bench, how: str, kind: str, text: str) -> None:
        """Whatever an op raises ends its attempt alone, as text."""
        (failed,) = bench.events(bench.ticket("fails", how=how))
        assert isinstance(failed, StepFailed)
        assert (failed.error.type, failed.error.message) == (kind, text)
        assert isinstance(bench.events(bench.ticket("pieces", count=0))[-1], StepSucceeded)

    def test_a_storage_that_refuses_stops_all(self, bench: Bench) -> None:
        """What meets every step is raised, not told."""
        shutil.rmtree(bench.folder / "store", ignore_errors=True)
        (bench.folder / "store").write_text("in the way")
        bench.executor.submit(bench.ticket("pair", "a", number=6))
        with pytest.raises(StorageFailed, match="Not a directory"):
            bench.next_told()

    def test_resources_open_once_and_close(self, bench: Bench) -> None:
        """A process opens a resource when a step first needs it, once for all its workers, and closes it at the end."""
        bench.told(bench.ticket("pieces", count=1))
        assert bench.pen_lines() == []
        told = bench.told(*(bench.ticket("writes", attempt=n, number=n) for n in range(1, 9)))
        stored = [event for one in told for event in one.events if isinstance(event, OutputStored)]
        pids = sorted({bench.value(event) for event in stored})
        bench.executor.close()
        lines = bench.pen_lines()
        assert sorted(line for line in lines if line.startswith("write")) == sorted(
            f"write {n}" for n in range(1, 9)
        )
        for verb in ("open", "close"):
            assert sorted(line for line in lines if line.startswith(verb)) == sorted(
                f"{verb} {pid}" for pid in pids
            )
        bench.executor.close()
        assert bench.pen_lines() == lines

    def test_a_resource_that_does_not_open(self, bench: Bench) -> None:
        """It stops the run."""
        (bench.folder / "no-pen").touch()
        bench.executor.submit(bench.ticket("writes", number=1))
        with pytest.raises(ResourceFailed, match="'pen' could not be opened: OSError: no ink"):
            bench.next_told()

    def test_a_resource_that_does_not_close(self, bench: Bench) -> None:
        """Closing says so."""
        (bench.folder / "stuck-pen").touch()
        bench.told(bench.ticket("writes", number=1))
        with pytest.raises(ResourceFailed, match="'pen' could not be closed: OSError: does not"):
            bench.executor.close()

    def test_hooks(self, bench: Bench) -> None:
        """Hooks are called where steps run, with resources, values from storage, and the error as the log has it."""
        pieces = bench.collected(3, [9, 8], ("writes", "result"))
        bench.hook("told", "writes", result=bench.stored(8, 9, ("writes", "result")), all=pieces)
        told = bench.next_told()
        assert told.is_last
        assert tuple(told.events) == (HookSucceeded("writes", "told", 1),)
        assert [line.text for line in told.messages] == ["hook saw {'result': 9, 'all': [9, 8]}"]
        bench.hook("raising", "fails", ErrorInfo("KeyError", "k", ""))
        (failed,) = bench.next_told().events
        assert isinstance(failed, HookFailed)
        assert failed.error.message == "hook of fails: KeyError: k"

    def test_opened_again(self, bench: Bench, tmp_path: Path) -> None:
        """What was closed may be opened for another run."""
        bench.told(bench.ticket("pieces", count=1))
        bench.executor.close()
        (tmp_path / "again").mkdir()
        again = Bench(bench.executor, tmp_path / "again")
        assert isinstance(again.events(again.ticket("pieces", count=1))[-1], StepSucceeded)


INT = ("pieces", "result")

NewExecutor = Callable[[], Executor]
