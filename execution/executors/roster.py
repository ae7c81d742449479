"""The workers of a cluster that run steps of this run: introduced, found fit, lost, and asked to close what is open.

A worker is fit once it has loaded the job and has shown that it reaches the outputs; before that it gets no ticket.
"""

import logging
from collections.abc import Callable, Mapping
from queue import Empty
from time import perf_counter

from execution.errors import WorkerLost
from execution.executors.cluster import Connection, Gone, Left
from execution.executors.dealing import Lane, fits
from execution.executors.packing import unpack_told
from execution.executors.reports import Hello, worker_name
from runstore.errors import ConfigError
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reach import NotReached, look_for

LOOK_S = 0.5
"""The connection to the cluster is looked at this often."""
ASIDE_S = 10.0
"""So long a worker that did not come to begin a batch gets no other; it has work of others, or is paused."""
OTHERS_S = 5.0
"""How long the other workers may take to answer once one has, until a run begins without them."""

_log = logging.getLogger("runstore.executor")


class Member:
    """A worker that was introduced."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.free = hello.threads
        self.spare = dict(hello.resources)
        self.batches: set[int] = set()
        self.is_ending = False
        """It gets no ticket any more."""

    @property
    def worker(self) -> str:
        """What the log calls it."""
        return worker_name(self.hello.name)

    def __str__(self) -> str:
        return f"Dask worker {self.hello.name} at {self.hello.address}"


class Roster:
    """All of them."""

    def __init__(self, connection: Connection, outputs: OutputStore) -> None:
        self._connection = connection
        self._outputs = outputs
        self.members: dict[str, Member] = {}
        self._asked: set[str] = set()
        """Workers that are being introduced."""
        self._unfit: dict[str, Exception] = {}
        self._aside: dict[str, float] = {}
        """Address of a member that gets nothing for now -> until when."""
        self._later: dict[str, float] = {}
        """Address of a worker that is introduced anew unless it goes -> when."""
        self._again: set[str] = set()
        """Workers that were introduced anew, and have run nothing since."""
        self._threads = 0

    def welcome(self, within_s: float, hear: Callable[[float], None]) -> None:
        """Introduce the workers that there are. Returns when all have answered, or those that did within a while.

        `hear`: waits for news, so many seconds, and brings them here. Raises what makes a worker unfit, and WorkerLost
        where none answers.
        """
        until = perf_counter() + within_s
        while True:
            # Asked again with each answer: news of those that join come only from when the cluster has heard of us.
            for address in self._connection.addresses():
                self.introduce(address)
            if perf_counter() >= until or (self.members and not self._asked):
                break
            self.call()
            hear(max(0.01, min(LOOK_S, until - perf_counter())))
            for error in self._unfit.values():
                raise error
            if self.members:  # the others may be busy for others, and are met when they answer
                until = min(until, perf_counter() + OTHERS_S)
        if not self.members:
            raise WorkerLost(
                f"no worker of the Dask cluster answers within {within_s:g} s; start one (`dask worker ADDRESS`), then "
                "`runstore resume`"
            )

    def call(self) -> None:
        """Let the cluster know that steps wait, where no worker is here or on its way."""
        if not self.members and not self._asked:
            self._connection.call()

    def introduce(self, address: str) -> None:
        """Have a worker introduced, unless it is known."""
        self._later.pop(address, None)
        if address not in self._asked and address not in self.members:
            self._asked.add(address)
            self._connection.introduce(address)

    def introduce_later(self, address: str) -> None:
        """Have it introduced after a while, if it is there still."""
        self._later[address] = perf_counter() + ASIDE_S

    def introduce_again(self, address: str) -> None:
        """Have a worker introduced anew that has lost what it had open: at once, unless it loses that each time."""
        if address in self._again:
            _log.warning(
                "worker %s loses each time what it has open; it is left alone for a while", address
            )
            self.introduce_later(address)
        else:
            self._again.add(address)
            self.introduce(address)

    def has_told(self, member: Member) -> None:
        """A worker has run something."""
        self._again.discard(member.hello.address)

    def introduce_due(self) -> None:
        """Introduce those whose time has come."""
        now = perf_counter()
        for address in [address for address, at in self._later.items() if at <= now]:
            self.introduce(address)

    def meet(self, hello: Hello) -> Exception | None:
        """Take a worker in; why it is unfit, if it is."""
        try:
            if hello.stops:
                unpack_told(hello.stops, "")  # raises what it holds
            self._check_reach(hello)
        except Exception as error:
            return error
        self._asked.discard(hello.address)
        if hello.address in self.members:
            return None  # it has answered before
        self.members[hello.address] = Member(hello)
        self._threads += hello.threads
        return None

    def refuse(self, address: str, error: Exception, *, is_running: bool) -> None:
        """Do without a worker that is unfit; raises the error where steps would wait for ever."""
        self._asked.discard(address)
        self._unfit[address] = error
        if is_running and not self.members and not self._asked:
            raise error
        if is_running:
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

    def lose(self, gone: Gone) -> Member | None:
        """Forget a worker that is gone; it, if it was fit."""
        self._connection.drop(gone.address)
        self._asked.discard(gone.address)
        self._later.pop(gone.address, None)
        self._unfit.pop(gone.address, None)
        member = self.members.pop(gone.address, None)
        if member is not None:
            self._threads -= member.hello.threads
            self._aside.pop(gone.address, None)
            if not self.members:
                _log.warning("the last worker %s; steps wait for another", gone.how)
        return member

    @property
    def lanes(self) -> int:
        """Threads of all members, but for those that get nothing for now."""
        if not self._aside:
            return self._threads
        return self._threads - sum(self.members[address].free for address in self._aside)

    def set_aside(self, member: Member) -> None:
        """Give a worker nothing for a while."""
        if self.members.get(member.hello.address) is member:
            self._aside[member.hello.address] = perf_counter() + ASIDE_S

    def free_lanes(self) -> list[Lane]:
        """A lane for each thread that has nothing to do."""
        now = perf_counter()
        for address in [address for address, until in self._aside.items() if until <= now]:
            del self._aside[address]
        return [
            Lane(address, member.spare)
            for address, member in self.members.items()
            if not member.is_ending and address not in self._aside
            for _ in range(member.free)
        ]

    def offers(self, needs: Mapping[str, float]) -> bool:
        """True where a worker has these resources, though perhaps not to spare."""
        return any(fits(needs, member.hello.resources) for member in self.members.values())

    def dismiss(self, within_s: float) -> None:
        """Have the workers close what they have open, but for those at work. Raises ResourceFailed."""
        leaving = {
            address
            for address, one in self.members.items()
            if not one.batches and not one.is_ending
        }
        for address in leaving:
            self._connection.leave(address, self.members[address].hello.token)
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
        if (
            leaving
        ):  # it may take long; what is open there is closed when they find that nobody holds it
            _log.warning(
                "%d workers have not said within %g s that they closed the resources of the run",
                len(leaving),
                within_s,
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
