"""What the engine's side makes of news from a cluster, whatever comes and in whatever order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest
from msgspec import structs

from execution.executors import batches, roster
from execution.executors.cluster import CANCELLED, Done, Failed, Gone, Joined, News
from execution.executors.cluster_pool import ClusterPool
from execution.executors.packing import pack_told
from execution.executors.reports import Hello, Line, Report, no_session
from execution.executors.threads import threads
from execution.running.told import Told
from runstore.log.events import StepFailed, StepRetried, StepSucceeded
from runstore.outputs.reach import leave
from tests.unit.executor_contract import Bench


class Script:
    """A Connection: what is asked for is noted, and answered by the test."""

    def __init__(self) -> None:
        self.inbox: SimpleQueue[News] = SimpleQueue()
        self.there: list[str] = []
        self.introduced: list[str] = []
        self.sent: list[tuple[str, int, int]] = []
        """Address, number and size of each batch."""
        self.called: list[str] = []
        self.asked_back: list[int] = []

    def addresses(self) -> list[str]:
        return self.there

    def call(self) -> None:
        self.called.append("any")

    def introduce(self, address: str) -> None:
        self.introduced.append(address)
        self.inbox.put(hello(address))

    def send(
        self,
        address: str,
        batch: int,
        tickets: Sequence[Sequence[bytes]],
        needs: Mapping[str, float],
    ) -> None:
        self.sent.append((address, batch, len(tickets)))

    def ask_back(self, address: str, token: str, batch: int) -> None:
        self.asked_back.append(batch)

    def drop(self, address: str) -> None: ...

    def forget(self, batch: int) -> None: ...

    def restart(self, address: str) -> None: ...

    def leave(self, address: str, token: str) -> None: ...

    def check(self) -> None: ...

    def close(self) -> None: ...


def hello(address: str) -> Hello:
    """That of a worker with one thread."""
    return Hello(address, "token", address, "host", 1, left="left")


def ends(batch: int, number: int, places: Sequence[int], *, is_end: bool = True) -> Report:
    """A report of attempts that have succeeded."""
    lines = [
        Line(place, pack_told(Told("pieces", [StepSucceeded("pieces", 0.001)])), 0.001)
        for place in places
    ]
    return Report(batch, number, lines, is_end=is_end)


class Pool:
    """A pool with the workers `a` and `b`, and an engine's part."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(threads(1), folder)
        leave(self.bench.outputs, "left")
        self.script = Script()
        self.script.there = ["a", "b"]
        self.pool = ClusterPool(self.script, self.bench.outputs, self.bench.brief)
        self.pool.welcome(10)
        self.attempts = 0

    def submit(self, count: int, losses: int = 0) -> None:
        """Tickets of one node."""
        for _ in range(count):
            self.attempts += 1
            ticket = self.bench.ticket("pieces", attempt=self.attempts, count=0)
            self.pool.submit(structs.replace(ticket, losses=losses))

    def hear(self, *news: News) -> list[Told]:
        """Bring news; all that is told then."""
        for one in news:
            self.script.inbox.put(one)
        found = []
        while (told := self.pool.next_message(0.0)) is not None:
            found.append(told)
        return found

    def learn(self) -> None:
        """Let it be known that the steps are short."""
        self.submit(1)
        self.hear()
        (_, batch, _) = self.script.sent.pop()
        assert len(self.hear(ends(batch, 0, [0]))) == 1


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """One."""
    return Pool(tmp_path)


def test_what_is_lost_is_told_once(pool: Pool) -> None:
    """All tickets of a lost worker's batch that had not ended are told as lost; what it says later is not heard."""
    pool.learn()
    pool.submit(6)
    assert pool.hear() == []
    assert sorted(size for _, _, size in pool.script.sent) == [3, 3]
    (address, batch, _), (_, other, _) = pool.script.sent
    told = pool.hear(ends(batch, 0, [0], is_end=False), Gone(address, "is gone"))
    assert [type(one.events[-1]) for one in told] == [StepSucceeded, StepRetried, StepRetried]
    assert len(pool.hear(ends(batch, 1, [1, 2]), ends(other, 0, [0, 1, 2]))) == 3
    assert pool.pool.next_message(0.0) is None


def test_a_gap_in_reports_is_a_loss(pool: Pool) -> None:
    """Nobody knows what was in a report that has not come."""
    pool.submit(1)
    pool.hear()
    (_, batch, _) = pool.script.sent[0]
    (told,) = pool.hear(ends(batch, 1, [0]))
    assert isinstance(told.events[-1], StepRetried)


def test_what_is_given_back_goes_out_again(pool: Pool) -> None:
    """It is not lost, keeps its turn, and goes to whoever is free."""
    pool.learn()
    pool.submit(4)
    pool.hear()
    (_, first, _), (_, second, _) = pool.script.sent
    assert pool.hear(Report(first, 0, [], back_from=1)) == []
    told = pool.hear(ends(second, 0, [0, 1]))
    assert len(told) == 2
    assert pool.script.sent[2:] == [(pool.script.sent[1][0], second + 1, 1)]


def test_what_was_lost_goes_alone(pool: Pool) -> None:
    """A step over which a worker was lost may be the reason for it; after three it has failed."""
    pool.learn()
    pool.submit(2, losses=3)
    pool.submit(2)
    pool.hear()
    assert sorted(size for _, _, size in pool.script.sent) == [1, 1]
    address, _, _ = pool.script.sent[0]
    (told,) = pool.hear(Gone(address, "is gone"))
    assert isinstance(told.events[-1], StepFailed)


def test_workers_that_join(pool: Pool) -> None:
    """There is room for as many more tickets; where none is left, for one, which waits."""
    for name in ("a", "b"):
        pool.hear(Gone(name, "has left"))
    assert pool.pool.has_room
    pool.submit(1)
    assert not pool.pool.has_room
    assert pool.hear() == []
    assert pool.script.sent == []
    pool.hear(Joined("c"))
    pool.hear()
    assert pool.script.introduced == ["a", "b", "c"]
    assert [(address, size) for address, _, size in pool.script.sent] == [("c", 1)]


def test_what_does_not_begin_goes_elsewhere(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has other work is asked once for what it has not begun, and set aside; it is no loss."""
    monkeypatch.setattr(batches, "STUCK_S", 0.0)
    pool.submit(1)
    pool.hear()
    ((address, batch, _),) = pool.script.sent
    pool.hear()
    assert pool.script.asked_back == [batch]
    assert pool.hear(Report(batch, 0, [], back_from=0, is_end=True)) == []
    pool.hear()
    (_, (other, again, _)) = pool.script.sent
    assert other != address
    assert not pool.pool.has_room  # the one that is set aside has none
    (told,) = pool.hear(ends(again, 0, [0]))
    assert isinstance(told.events[-1], StepSucceeded)


def test_what_has_begun_is_left_where_it_is(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes; and so is what no other worker could begin."""
    monkeypatch.setattr(batches, "STUCK_S", 0.0)
    pool.submit(2)
    pool.hear()
    pool.hear()
    (_, first, _), (_, second, _) = pool.script.sent
    assert pool.script.asked_back == []
    pool.hear(Report(second, 0, [Line(0)]))
    pool.hear(ends(first, 0, [0]))
    pool.hear()
    assert pool.script.asked_back == []


def test_a_restart_of_the_cluster_costs_one_loss(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose batch was cancelled is about to go, and gets no other; where it stays, it is introduced anew."""
    pool.submit(1)
    pool.hear()
    ((address, batch, _),) = pool.script.sent
    pool.hear(Gone("b" if address == "a" else "a", "is gone"))
    (told,) = pool.hear(Failed(batch, CANCELLED))
    assert isinstance(told.events[-1], StepRetried)
    pool.submit(1)
    assert pool.hear() == []
    assert len(pool.script.sent) == 1
    pool.hear(Gone(address, "is gone"), Joined(address))
    pool.hear()
    (_, (_, again, _)) = pool.script.sent
    monkeypatch.setattr(roster, "ASIDE_S", 0.0)
    pool.submit(1)
    pool.hear(Failed(again, CANCELLED))
    pool.hear()
    assert pool.script.introduced[2:] == [address, address]


def test_steps_that_wait_call_for_a_worker(pool: Pool) -> None:
    """A cluster that grows as it is needed has to know; where a worker is there, or nothing waits, it is left alone."""
    pool.submit(3)
    pool.hear()
    assert pool.script.called == []
    for name in ("a", "b"):
        pool.hear(Gone(name, "has left"))
    assert pool.script.called
    calls = len(pool.script.called)
    pool.hear(Joined("c"))
    pool.hear()
    assert len(pool.script.called) == calls


def test_a_batch_without_a_session_goes_out_again(pool: Pool) -> None:
    """Nothing of it has begun: it is no loss, and its worker is introduced anew."""
    pool.submit(1)
    pool.hear()
    (address, batch, _) = pool.script.sent[0]
    assert pool.hear(no_session(batch)) == []
    pool.hear()
    assert pool.script.introduced == ["a", "b", address]
    ((_, again, _),) = pool.script.sent[1:]
    (told,) = pool.hear(ends(again, 0, [0]))
    assert isinstance(told.events[-1], StepSucceeded)


def test_a_worker_that_never_keeps_its_session_is_not_introduced_without_end(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once at once, then after a while; one that has run something is trusted again."""
    now = [0.0]
    monkeypatch.setattr(roster, "perf_counter", lambda: now[0])

    def vanish() -> list[str]:
        """The session of the last batch's worker is gone; who was introduced by then."""
        pool.hear()
        pool.hear(no_session(pool.script.sent[-1][1]))
        pool.hear()
        return pool.script.introduced

    pool.hear(Gone("b", "has left"))
    pool.submit(2)
    assert vanish() == ["a", "b", "a"]
    assert vanish() == ["a", "b", "a"]
    now[0] += roster.ASIDE_S
    pool.hear()
    pool.hear()
    assert pool.script.introduced == ["a", "b", "a", "a"]
    assert len(pool.hear(ends(pool.script.sent[-1][1], 0, [0]))) == 1
    assert vanish() == ["a", "b", "a", "a", "a"]


def test_a_batch_that_ends_without_a_word_is_lost(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker may still be heard for a while; then nobody waits for it any more."""
    pool.submit(2)
    pool.hear()
    (_, first, _), (_, second, _) = pool.script.sent
    assert pool.hear(Done(first)) == []
    assert len(pool.hear(ends(first, 0, [0]))) == 1
    monkeypatch.setattr(batches, "SILENT_S", 0.0)
    (told,) = pool.hear(Done(second))
    assert isinstance(told.events[-1], StepRetried)


def test_a_worker_that_answers_twice_is_one(pool: Pool) -> None:
    """A second answer gives it no second place."""
    pool.hear(hello("a"), hello("a"))
    pool.submit(1)
    pool.submit(1)
    assert not pool.pool.has_room
