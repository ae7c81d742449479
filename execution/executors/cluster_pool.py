"""The engine's part of running steps on a cluster: which workers there are, which batch each has, what became of it.

The cluster brings messages and nothing else: where a batch runs, whether a ticket is tried again, and what counts of
what a worker says, is decided here. A batch goes to one worker and never to another; what is known to be lost with its
worker is told as lost, and what that worker says later is not heard.
"""

import logging
from collections import deque
from collections.abc import Mapping
from math import inf
from queue import Empty
from time import perf_counter
from typing import NamedTuple

from execution.errors import ResourceFailed, WorkerLost
from execution.executors.cluster import Connection, Failed, Gone, Joined, Left, News
from execution.executors.dealing import (
    Durations,
    Lane,
    Waiting,
    deal,
    fits,
    kind_of,
    needs_of,
    together,
)
from execution.executors.packing import pack, unpack_told
from execution.executors.reports import Hello, Line, Report, worker_name
from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket, Told
from execution.running.worker_loss import told_of_loss, told_of_timeout
from runstore.errors import ConfigError
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reach import NotReached, look_for

LOOK_S = 0.5
"""The connection to the cluster is looked at this often."""
OTHERS_S = 5.0
"""How long the other workers may take to answer once one has, until a run begins without them."""
HELD_MOST = 1_000
"""Tickets that wait for a worker with the resources that they need."""

_log = logging.getLogger("runstore.executor")


class _Member:
    """A worker that was introduced."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.free = hello.threads
        self.spare = dict(hello.resources)
        self.batches: set[int] = set()
        self.is_ending = False

    @property
    def worker(self) -> str:
        """What the log calls it."""
        return worker_name(self.hello.name)

    def __str__(self) -> str:
        return f"Dask worker {self.hello.name} at {self.hello.address}"


class _Sent(NamedTuple):
    """A batch that a worker has."""

    member: _Member
    entries: list[Waiting]
    left: dict[int, float]
    """Place of each ticket that has not ended -> when it was heard of last."""
    heard: list[int]
    """One element: how many reports have come."""


class ClusterPool:
    """The workers of one epoch and what they have in hand."""

    def __init__(self, connection: Connection, outputs: OutputStore, brief: Brief) -> None:
        self._connection = connection
        self._outputs = outputs
        self._brief = brief
        self._members: dict[str, _Member] = {}
        self._asked: set[str] = set()
        """Workers that are being introduced."""
        self._unfit: dict[str, Exception] = {}
        self._waiting: deque[Waiting] = deque()
        self._held: list[Waiting] = []
        """Those that no worker has the resources for."""
        self._sent: dict[int, _Sent] = {}
        self._timed: dict[int, float] = {}
        """Batch -> when its one ticket has taken too long."""
        self._number = 0
        self._running = 0
        self._lanes = 0
        """Threads of all members."""
        self._depth = 1
        """How many tickets like the last one go to a thread at a time."""
        self._told: deque[Told] = deque()
        self.at_work: dict[str, str] = {}
        """Step key -> worker; changed by one operation at a time, so that another thread may take a copy."""
        self._durations = Durations()
        self._needs = {node.name: needs_of(node.name, brief) for node in brief.graph.nodes}

    # Workers

    def welcome(self, within_s: float) -> None:
        """Introduce the workers that there are. Returns when all have answered, or those that did within a while.

        Raises what makes a worker unfit, and WorkerLost where none answers.
        """
        until = perf_counter() + within_s
        while True:
            # Asked again with each answer: news of those that join come only from when the cluster has heard of us.
            for address in self._connection.addresses():
                self._introduce(address)
            if perf_counter() >= until or (self._members and not self._asked):
                break
            self._hear(max(0.01, min(LOOK_S, until - perf_counter())))
            for error in self._unfit.values():
                raise error
            if self._members:  # the others may be busy for others, and are met when they answer
                until = min(until, perf_counter() + OTHERS_S)
        if not self._members:
            raise WorkerLost(
                f"no worker of the Dask cluster answers within {within_s:g} s; start one (`dask worker ADDRESS`), then "
                "`runstore resume`"
            )

    def _introduce(self, address: str) -> None:
        if address not in self._asked and address not in self._members:
            self._asked.add(address)
            self._connection.introduce(address)

    def _meet(self, hello: Hello) -> None:
        self._asked.discard(hello.address)
        try:
            if hello.stops:
                unpack_told(hello.stops, "")  # raises what it holds
            self._check_reach(hello)
        except Exception as error:
            self._refuse(hello.address, error)
            return
        member = _Member(hello)
        self._members[hello.address] = member
        self._lanes += member.free
        self._waiting.extendleft(reversed(self._held))
        self._held.clear()

    def _refuse(self, address: str, error: Exception) -> None:
        self._asked.discard(address)
        self._unfit[address] = error
        if self._running and not self._members and not self._asked:
            raise error
        if self._running:
            _log.warning("worker %s runs no steps of this run: %s", address, error)

    def _check_reach(self, hello: Hello) -> None:
        fault = hello.unreached
        try:
            if not fault:
                look_for(self._outputs, hello.left)
        except NotReached as error:
            fault = f"this process does not find what the worker has written: {error}"
        if fault:
            raise ConfigError(
                f"worker {hello.name} at {hello.address} on {hello.host} and this process do not share the place of "
                f"the outputs: {fault}. Put outputs where all workers reach them (--outputs on a shared disk, s3://…)"
            )

    def _lose(self, gone: Gone) -> None:
        self._asked.discard(gone.address)
        self._unfit.pop(gone.address, None)
        member = self._members.pop(gone.address, None)
        if member is None:
            return
        self._lanes -= member.hello.threads
        for number in sorted(member.batches):
            self._lost(number, gone.how)
        if not self._members:
            _log.warning("the last worker %s; steps wait for another", gone.how)

    # Tickets

    @property
    def has_room(self) -> bool:
        """True while a place is free, or will be soon enough to have the next ticket at hand."""
        if len(self._held) >= HELD_MOST:
            return False
        ahead = 2 if self._depth > 1 else 1
        return self._running - len(self._held) < max(1, self._lanes * self._depth * ahead)

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """Take a ticket in."""
        needs = {} if isinstance(ticket, HookTicket) else self._needs[ticket.context.node]
        self._running += 1
        self._waiting.append(Waiting(ticket, needs))
        self._depth = 1 if needs else together(self._durations, ticket)

    def next_message(self, timeout_s: float | None) -> Told | None:
        """What is told next; None where nothing is in time, or where there may be room again."""
        self._read()
        if not self._told or self._is_worth_sending():
            self._send()
        if not self._told and self._running:
            self._hear(self._patience_s(timeout_s))
            self._read()
        if not self._told:
            return None
        told = self._told.popleft()
        self._running -= told.is_last
        return told

    def _is_worth_sending(self) -> bool:
        return len(self._waiting) >= self._lanes * self._depth

    def _patience_s(self, timeout_s: float | None) -> float:
        left_s = min(self._timed.values(), default=inf) - perf_counter()
        return max(0.0, min(LOOK_S, left_s, inf if timeout_s is None else timeout_s))

    def _send(self) -> None:
        lanes = [
            Lane(address, member.spare)
            for address, member in self._members.items()
            if not member.is_ending
            for _ in range(member.free)
        ]
        if not self._waiting or not lanes:
            return
        for lane in deal(self._waiting, lanes, self._durations):
            self._send_batch(self._members[lane.address], lane.batch)
        self._hold()

    def _send_batch(self, member: _Member, entries: list[Waiting]) -> None:
        self._number += 1
        now = perf_counter()
        left = dict.fromkeys(range(len(entries)), now)
        self._sent[self._number] = _Sent(member, entries, left, [0])
        member.batches.add(self._number)
        member.free -= 1
        tickets = [list(pack(entry.ticket, self._brief)) for entry in entries]
        self._connection.send(member.hello.address, self._number, tickets, entries[0].needs)

    def _hold(self) -> None:
        """Set aside what no worker could ever run, so that it does not take the room of others."""
        stuck = [one for one in self._waiting if one.needs and not self._is_offered(one.needs)]
        if stuck:
            _log.warning("no worker offers %s: %d steps wait", dict(stuck[0].needs), len(stuck))
            self._held += stuck
            self._waiting = deque(one for one in self._waiting if one not in stuck)

    def _is_offered(self, needs: Mapping[str, float]) -> bool:
        return any(fits(needs, member.hello.resources) for member in self._members.values())

    # News

    def _hear(self, timeout_s: float) -> None:
        try:
            self._take(self._connection.inbox.get(timeout=timeout_s))
        except Empty:
            self._connection.check()
        self._stop_overdue()

    def _read(self) -> None:
        """What has come already."""
        try:
            while True:
                self._take(self._connection.inbox.get_nowait())
        except Empty:
            pass

    def _take(self, news: News) -> None:
        match news:
            case Report():
                self._reported(news)
            case Hello():
                self._meet(news)
            case Joined():
                self._introduce(news.address)
            case Gone():
                self._lose(news)
            case Failed(what=int() as number):
                self._connection.check()
                self._lost(number, f"could not run it: {news.why}")
            case Failed(what=str() as address):
                fault = f"worker {address} cannot run steps: {news.why}; it needs what this process has: "
                self._refuse(address, WorkerLost(f"{fault}runstore, the job, the packages of both"))
            case Left():
                pass  # it comes while nothing runs any more

    def _reported(self, report: Report) -> None:
        sent = self._sent.get(report.batch)
        if sent is None:
            return  # given up before
        if report.number != sent.heard[0]:
            self._lost(report.batch, "has told something that did not arrive")
            return
        sent.heard[0] += 1
        for line in report.lines:
            self._read_line(report.batch, sent, line)
        if report.back_from >= 0:
            back = [place for place in sent.left if place >= report.back_from]
            for place in back:
                del sent.left[place]
            self._waiting.extendleft(sent.entries[place] for place in reversed(back))
        if report.is_end:
            if sent.left:
                self._lost(report.batch, "has not run it")
            else:
                self._forget(report.batch)

    def _read_line(self, number: int, sent: _Sent, line: Line) -> None:
        ticket = sent.entries[line.place].ticket
        step_key = _step_key(ticket)
        if not line.message:
            self.at_work[step_key] = sent.member.worker
            sent.left[line.place] = perf_counter()
            if isinstance(ticket, Ticket) and ticket.op.timeout_s and sent.member.hello.has_nanny:
                self._timed[number] = perf_counter() + ticket.op.timeout_s
            return
        told = unpack_told(line.message, step_key)
        if told.is_last:
            self.at_work.pop(step_key, None)
            del sent.left[line.place]
            self._durations.learn(kind_of(ticket), line.took_s)
            self._timed.pop(number, None)
        self._told.append(told)

    def _forget(self, number: int) -> None:
        sent = self._sent.pop(number)
        self._timed.pop(number, None)
        member = sent.member
        member.batches.discard(number)
        member.free += 1
        for name, amount in sent.entries[0].needs.items():
            member.spare[name] += amount
        self._connection.forget(number)

    def _lost(self, number: int, how: str) -> None:
        """Tell the end of what a batch has not ended, in its worker's stead."""
        sent = self._sent.get(number)
        if sent is None:
            return
        self._forget(number)
        now = perf_counter()
        for place, since in sent.left.items():
            ticket = sent.entries[place].ticket
            self.at_work.pop(_step_key(ticket), None)
            took_s, fact = round(now - since, 6), f"its {sent.member} {how}"
            self._told.append(told_of_loss(ticket, fact, took_s, sent.member.worker))

    def _stop_overdue(self) -> None:
        now = perf_counter()
        for number in [number for number, at in self._timed.items() if at <= now]:
            sent = self._sent[number]
            self._forget(number)
            (since,) = sent.left.values()
            ticket = sent.entries[0].ticket
            assert isinstance(ticket, Ticket)
            self.at_work.pop(ticket.step_key, None)
            took_s, worker = round(now - since, 6), sent.member.worker
            self._told.append(told_of_timeout(ticket, took_s, worker, "its worker was restarted"))
            sent.member.is_ending = True  # gets nothing any more; what else it has is lost with it
            self._connection.restart(sent.member.hello.address)

    # Ending

    def close(self, within_s: float) -> None:
        """Have the workers close what they have open; raises ResourceFailed where one could not."""
        for number in list(self._sent):
            self._connection.forget(number)
        leaving = {
            address
            for address, one in self._members.items()
            if not one.batches and not one.is_ending
        }
        if not self._brief.job.resources:
            return
        for address in leaving:
            self._connection.leave(address)
        self._wait_for(leaving, within_s)

    def _wait_for(self, leaving: set[str], within_s: float) -> None:
        until = perf_counter() + within_s
        failed: BaseException | None = None
        while leaving and perf_counter() < until:
            try:
                news = self._connection.inbox.get(timeout=max(0.01, until - perf_counter()))
            except Empty:
                break
            if isinstance(news, Left):
                leaving.discard(news.address)
                failed = failed or _raised(news.stops)
            elif isinstance(news, Gone):
                leaving.discard(news.address)
        if leaving and failed is None:
            failed = ResourceFailed(
                f"the resources of {len(leaving)} workers were not closed within {within_s:g} s; the run stops. "
                "Correct the cause, then `runstore resume`"
            )
        if failed is not None:
            raise failed


def _raised(stops: bytes) -> BaseException | None:
    try:
        if stops:
            unpack_told(stops, "")
    except BaseException as error:
        return error
    return None


def _step_key(ticket: Ticket | HookTicket) -> str:
    return ticket.context.step_key if isinstance(ticket, HookTicket) else ticket.step_key
