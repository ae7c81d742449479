"""The engine's part of running steps on a cluster: which batch each worker has, and what became of it.

The cluster brings messages and nothing else: where a batch runs, whether a ticket is tried again, and what counts of
what a worker says, is decided here. A batch goes to one worker and never to another; what is known to be lost with its
worker is told as lost, and what that worker says later is not heard.
"""

import logging
from collections import deque
from math import inf
from queue import Empty
from time import perf_counter
from typing import NamedTuple

from execution.errors import WorkerLost
from execution.executors.cluster import (
    CANCELLED,
    Connection,
    Done,
    Failed,
    Gone,
    Joined,
    Left,
    News,
)
from execution.executors.dealing import (
    Durations,
    Waiting,
    deal,
    fits,
    kind_of,
    needs_of,
    together,
)
from execution.executors.packing import pack, unpack_told
from execution.executors.reports import Hello, Line, Report
from execution.executors.roster import LOOK_S, Member, Roster
from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket, Told
from execution.running.worker_loss import told_of_loss, told_of_timeout
from runstore.outputs.output_store import OutputStore

SILENT_S = 5.0
"""So long after its end a batch may be silent; then it is lost."""
STUCK_S = 1.0
"""A batch that has not begun by then is asked back where another worker could begin it."""
LEAVING_S = 10.0
"""How long `close` waits for resources to close."""
HELD_MOST = 1_000
"""Tickets that wait for a worker with the resources that they need."""

_log = logging.getLogger("runstore.executor")


class _Sent(NamedTuple):
    """A batch that a worker has."""

    member: Member
    entries: list[Waiting]
    left: dict[int, float]
    """Place of each ticket that has not ended -> when it was heard of last."""
    heard: list[int]
    """One element: how many reports have come."""
    since: float


class ClusterPool:
    """The tickets of one epoch, and who has them in hand."""

    def __init__(self, connection: Connection, outputs: OutputStore, brief: Brief) -> None:
        self._connection = connection
        self._brief = brief
        self._roster = Roster(connection, outputs)
        self._waiting: deque[Waiting] = deque()
        self._held: list[Waiting] = []
        """Those that no worker has the resources for."""
        self._sent: dict[int, _Sent] = {}
        self._silent: dict[int, float] = {}
        """Batch that has ended without saying so -> when it is not waited for any more."""
        self._timed: dict[int, float] = {}
        """Batch -> when its one ticket has taken too long."""
        self._asked_back: set[int] = set()
        self._number = 0
        self._running = 0
        self._depth = 1
        """How many tickets like the last one go to a thread at a time."""
        self._told: deque[Told] = deque()
        self.at_work: dict[str, str] = {}
        """Step key -> worker; changed by one operation at a time, so that another thread may take a copy."""
        self._durations = Durations()
        self._needs = {node.name: needs_of(node.name, brief) for node in brief.graph.nodes}

    def welcome(self, within_s: float) -> None:
        """Meet the workers that there are; raises what makes one unfit, and WorkerLost where none answers."""
        self._roster.welcome(within_s, self._hear)

    # Tickets

    @property
    def has_room(self) -> bool:
        """True while a place is free, or will be soon enough to have the next ticket at hand."""
        if len(self._held) >= HELD_MOST:
            return False
        ahead = 2 if self._depth > 1 else 1
        return self._running - len(self._held) < max(1, self._roster.lanes * self._depth * ahead)

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
        return len(self._waiting) >= self._roster.lanes * self._depth

    def _patience_s(self, timeout_s: float | None) -> float:
        left_s = min(self._timed.values(), default=inf) - perf_counter()
        return max(0.0, min(LOOK_S, left_s, inf if timeout_s is None else timeout_s))

    def _send(self) -> None:
        lanes = self._roster.free_lanes()
        if self._waiting:
            self._roster.call()
        if not self._waiting or not lanes:
            return
        for lane in deal(self._waiting, lanes, self._durations):
            self._send_batch(self._roster.members[lane.address], lane.batch)
        self._hold()

    def _send_batch(self, member: Member, entries: list[Waiting]) -> None:
        self._number += 1
        now = perf_counter()
        left = dict.fromkeys(range(len(entries)), now)
        self._sent[self._number] = _Sent(member, entries, left, [0], now)
        member.batches.add(self._number)
        member.free -= 1
        tickets = [list(pack(entry.ticket, self._brief)) for entry in entries]
        self._connection.send(member.hello.address, self._number, tickets, entries[0].needs)

    def _hold(self) -> None:
        """Set aside what no worker could ever run, so that it does not take the room of others."""
        stuck, rest = list[Waiting](), deque[Waiting]()
        for one in self._waiting:
            is_stuck = bool(one.needs) and not self._roster.offers(one.needs)
            (stuck if is_stuck else rest).append(one)
        if stuck:
            _log.warning("no worker offers %s: %d steps wait", dict(stuck[0].needs), len(stuck))
            self._held += stuck
            self._waiting = rest

    # News

    def _hear(self, timeout_s: float) -> None:
        try:
            self._take(self._connection.inbox.get(timeout=timeout_s))
        except Empty:
            self._connection.check()
        self._stop_overdue()
        self._ask_back()
        self._roster.introduce_due()

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
                self._roster.introduce(news.address)
            case Gone():
                self._lose(news)
            case Failed(why=reason) if reason == CANCELLED:
                self._cancelled(news.what)
            case Failed(what=int() as number):
                self._connection.check()
                self._lost(number, f"could not run it: {news.why}")
            case Failed(what=str() as address):
                fault = f"worker {address} cannot run steps: {news.why}; it needs what this process has: "
                unfit = WorkerLost(f"{fault}runstore, the job, the packages of both")
                self._roster.refuse(address, unfit, is_running=bool(self._running))
            case Done():
                if news.batch in self._sent:
                    self._silent.setdefault(news.batch, perf_counter() + SILENT_S)
            case Left():
                pass  # it comes while nothing runs any more

    def _meet(self, hello: Hello) -> None:
        unfit = self._roster.meet(hello)
        if unfit is not None:
            self._roster.refuse(hello.address, unfit, is_running=bool(self._running))
            return
        self._waiting.extendleft(reversed(self._held))  # it may have what they need
        self._held.clear()

    def _without_session(self, number: int) -> None:
        """Its worker has nothing of this run any more: nothing has begun, and it is introduced anew."""
        sent = self._sent[number]
        self._forget(number)
        for place in reversed(sent.left):
            self._waiting.appendleft(sent.entries[place])
        address = sent.member.hello.address
        if self._roster.members.get(address) is sent.member:
            self._lose(Gone(address, "has lost what it had open"))
            self._roster.introduce_again(address)

    def _cancelled(self, what: str | int) -> None:
        """Its worker is about to be restarted, and would take what it gets now with it."""
        self._connection.check()
        if isinstance(what, int):
            if what not in self._sent:
                return
            member = self._sent[what].member
            what = member.hello.address
            if self._roster.members.get(what) is not member:
                return
        self._lose(Gone(what, "could not run it: cancelled"))
        self._roster.introduce_later(what)

    def _lose(self, gone: Gone) -> None:
        member = self._roster.lose(gone)
        if member is not None:
            for number in sorted(member.batches):
                self._lost(number, gone.how)

    def _reported(self, report: Report) -> None:
        sent = self._sent.get(report.batch)
        if sent is None:
            return  # given up before
        if report.has_no_session:
            self._without_session(report.batch)
            return
        if report.number != sent.heard[0]:
            self._lost(report.batch, "has told something that did not arrive")
            return
        sent.heard[0] += 1
        if report.lines:
            self._roster.has_told(sent.member)
        for line in report.lines:
            self._read_line(report.batch, sent, line)
        if report.back_from == 0:
            self._roster.set_aside(sent.member)
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
        self._silent.pop(number, None)
        self._asked_back.discard(number)
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
        for number in [number for number, at in self._silent.items() if at <= now]:
            self._lost(number, "has ended it without a word")
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

    def _ask_back(self) -> None:
        """Have batches given back that wait behind the work of others while another worker is free."""
        before = perf_counter() - STUCK_S
        stuck = [
            number
            for number, sent in self._sent.items()
            if not sent.heard[0] and sent.since <= before and number not in self._asked_back
        ]
        lanes = self._roster.free_lanes() if stuck else []
        for number in stuck:
            member, needs = self._sent[number].member, self._sent[number].entries[0].needs
            address, token = member.hello.address, member.hello.token
            if any(lane.address != address and fits(needs, lane.spare) for lane in lanes):
                self._asked_back.add(number)
                self._connection.ask_back(address, token, number)

    # Ending

    def close(self) -> None:
        """Have the workers close what they have open, and part with the cluster; raises ResourceFailed where a worker
        could not.
        """
        try:
            for number in list(self._sent):
                self._connection.forget(number)
            if self._brief.job.resources:
                self._roster.dismiss(LEAVING_S)
        finally:
            self._connection.close()


def _step_key(ticket: Ticket | HookTicket) -> str:
    return ticket.context.step_key if isinstance(ticket, HookTicket) else ticket.step_key
