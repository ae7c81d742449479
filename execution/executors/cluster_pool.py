"""The engine's part of running steps on a cluster: which worker gets what, and what became of it.

The cluster brings messages and nothing else: where a batch runs, whether a ticket is tried again, and what counts of
what a worker says, is decided here. A batch goes to one worker and never to another; what is known to be lost with its
worker is told as lost, and what that worker says later is not heard.
"""

import logging
from collections import deque
from collections.abc import Iterable
from math import inf
from queue import Empty
from time import perf_counter

from execution.errors import WorkerLost
from execution.executors.batches import Batch, Batches
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

LEAVING_S = 10.0
"""How long `close` waits for resources to close."""
HELD_MOST = 1_000
"""Tickets that wait for a worker with the resources that they need."""

_log = logging.getLogger("runstore.executor")


class ClusterPool:
    """The tickets of one epoch, and who has them in hand."""

    def __init__(self, connection: Connection, outputs: OutputStore, brief: Brief) -> None:
        self._connection = connection
        self._brief = brief
        self._roster = Roster(connection, outputs)
        self._waiting: deque[Waiting] = deque()
        self._held: list[Waiting] = []
        """Those that no worker has the resources for."""
        self._batches = Batches()
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
        left_s = self._batches.time_left_s()
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
        number = self._batches.sent(member, entries)
        tickets = [list(pack(entry.ticket, self._brief)) for entry in entries]
        self._connection.send(member.hello.address, number, tickets, entries[0].needs)

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
                self._batches.told_done(news.batch)
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
        batch = self._forget(number)
        self._take_back(batch, batch.left)
        address = batch.member.hello.address
        if self._roster.members.get(address) is batch.member:
            self._lose(Gone(address, "has lost what it had open"))
            self._roster.introduce_again(address)

    def _take_back(self, batch: Batch, places: Iterable[int]) -> None:
        """Tickets that have not begun come first again."""
        self._waiting.extendleft(batch.entries[place] for place in reversed(list(places)))

    def _cancelled(self, what: str | int) -> None:
        """Its worker is about to be restarted, and would take what it gets now with it."""
        self._connection.check()
        if isinstance(what, int):
            batch = self._batches.find(what)
            if batch is None:
                return
            what = batch.member.hello.address
            if self._roster.members.get(what) is not batch.member:
                return
        self._lose(Gone(what, "could not run it: cancelled"))
        self._roster.introduce_later(what)

    def _lose(self, gone: Gone) -> None:
        member = self._roster.lose(gone)
        if member is not None:
            for number in sorted(member.batches):
                self._lost(number, gone.how)

    def _reported(self, report: Report) -> None:
        batch = self._batches.find(report.batch)
        if batch is None:
            return  # given up before
        if report.has_no_session:
            self._without_session(report.batch)
            return
        if report.number != batch.heard:
            self._lost(report.batch, "has told something that did not arrive")
            return
        batch.heard += 1
        if report.lines:
            self._roster.has_told(batch.member)
        for line in report.lines:
            self._read_line(report.batch, batch, line)
        if report.back_from == 0:
            self._roster.set_aside(batch.member)
        if report.back_from >= 0:
            back = [place for place in batch.left if place >= report.back_from]
            for place in back:
                del batch.left[place]
            self._take_back(batch, back)
        if report.is_end:
            if batch.left:
                self._lost(report.batch, "has not run it")
            else:
                self._forget(report.batch)

    def _read_line(self, number: int, batch: Batch, line: Line) -> None:
        ticket = batch.ticket(line.place)
        step_key = _step_key(ticket)
        if not line.message:
            self.at_work[step_key] = batch.member.worker
            self._batches.begun(number, line.place)
            return
        told = unpack_told(line.message, step_key)
        if told.is_last:
            self.at_work.pop(step_key, None)
            self._durations.learn(kind_of(ticket), line.took_s)
            self._batches.ended(number, line.place)
        self._told.append(told)

    def _forget(self, number: int) -> Batch:
        self._connection.forget(number)
        return self._batches.forget(number)

    def _lost(self, number: int, how: str) -> None:
        """Tell the end of what a batch has not ended, in its worker's stead."""
        if self._batches.find(number) is None:
            return
        batch = self._forget(number)
        now = perf_counter()
        for place, since in batch.left.items():
            ticket = batch.ticket(place)
            self.at_work.pop(_step_key(ticket), None)
            took_s, fact = round(now - since, 6), f"its {batch.member} {how}"
            self._told.append(told_of_loss(ticket, fact, took_s, batch.member.worker))

    def _stop_overdue(self) -> None:
        for number in self._batches.silent():
            self._lost(number, "has ended it without a word")
        for number in self._batches.overdue():
            batch = self._forget(number)
            (since,) = batch.left.values()
            ticket, member = batch.ticket(0), batch.member
            assert isinstance(ticket, Ticket)
            self.at_work.pop(ticket.step_key, None)
            took_s = round(perf_counter() - since, 6)
            self._told.append(
                told_of_timeout(ticket, took_s, member.worker, "its worker was restarted")
            )
            member.is_ending = True  # gets nothing any more; what else it has is lost with it
            self._connection.restart(member.hello.address)

    def _ask_back(self) -> None:
        """Have batches given back that wait behind the work of others while another worker is free."""
        stuck = self._batches.stuck()
        lanes = self._roster.free_lanes() if stuck else []
        for number, batch in stuck:
            hello, needs = batch.member.hello, batch.entries[0].needs
            if any(lane.address != hello.address and fits(needs, lane.spare) for lane in lanes):
                batch.is_asked_back = True
                self._connection.ask_back(hello.address, hello.token, number)

    # Ending

    def close(self) -> None:
        """Have the workers close what they have open, and part with the cluster; raises ResourceFailed where a worker
        could not.
        """
        try:
            for number in list(self._batches):
                self._connection.forget(number)
            if self._brief.job.resources:
                self._roster.dismiss(LEAVING_S)
        finally:
            self._connection.close()


def _step_key(ticket: Ticket | HookTicket) -> str:
    return ticket.context.step_key if isinstance(ticket, HookTicket) else ticket.step_key
