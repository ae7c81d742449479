"""The way to the workers of a Dask cluster, and back. The one door to dask and distributed.

Dask brings batches of tickets to workers, and what they report back: by its events, which go from a worker to the
scheduler and on to the engine over connections that both have opened, in order. What Dask does beside is turned off or
not used: each batch is bound to one worker, so that it is run there or nowhere, no result is ever fetched, and what a
lost worker means is decided by the engine's side (`cluster_pool`).
"""

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from execution.errors import WorkerLost
from execution.executors import dask_worker
from execution.executors.cluster import Done, Failed, Gone, Joined, Left, News
from execution.executors.dask_worker import topic_of
from execution.executors.reports import decode_hello, decode_report
from runstore.errors import ConfigError
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reach import leave, left_in, take_away
from runstore.version import __version__

if TYPE_CHECKING:
    from distributed import Client

ANSWER_S = 30.0
"""How long a scheduler, or the first worker, may take to answer."""
EVERYTHING = "all"
"""The topic of the scheduler's own events."""


class DaskCluster:
    """The way to a cluster, for one epoch: a Connection."""

    def __init__(self, place: Any, message: bytes, outputs: OutputStore) -> None:
        self.inbox: SimpleQueue[News] = SimpleQueue()
        self._place = place
        self._message = message
        self._outputs = outputs
        self._id = uuid.uuid4().hex
        self._topic = topic_of(self._id)
        self._client: Client | None = None
        self._link: Any = None
        """The connection that the client had at first: a new one has lost messages."""
        self._own: Any = None
        self._sessions: dict[str, Any] = {}
        self._introductions: dict[str, int] = {}
        """Address -> the number of its last introduction."""
        self._reached: list[int] = []
        """The bases in which this process has left an object."""
        self._left: list[str] = []
        """The names of the objects that workers have left."""
        self._batches: dict[int, Any] = {}
        self._called: Any = None
        """A task that any worker may run; an adaptive cluster without workers begins one for it."""

    # Coming and going

    def connect(self) -> None:
        """Find the scheduler, or begin one; leave an object for the workers to find."""
        from distributed import Client, LocalCluster

        leave(self._outputs, self._id)
        self._reached = left_in(self._outputs, self._id)
        place = self._place
        if isinstance(place, int):
            place = self._own = LocalCluster(
                n_workers=place,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                preload=[dask_worker.__name__],
            )
        address = getattr(place, "scheduler_address", place)
        try:
            self._client = Client(
                address,
                security=getattr(place, "security", None),
                set_as_default=False,
                timeout=ANSWER_S,
                name="runstore",
            )
        except TypeError as error:  # of the certificates: there are none
            raise ConfigError(
                f"the Dask scheduler at {address} wants TLS, for which this process has no certificates: {error}; "
                "name them in Dask's configuration (distributed.comm.tls), or give a cluster object, which has them"
            ) from error
        except (OSError, ValueError) as error:
            raise WorkerLost(
                f"no Dask scheduler answers at {address}: {error}; start one (`dask scheduler`), or see to the "
                "address, then `runstore resume`"
            ) from error
        self._link = self._client.scheduler_comm
        self._client.subscribe_topic(EVERYTHING, self._on_event_of_cluster)
        self._client.subscribe_topic(self._topic, self._on_event)

    def addresses(self) -> list[str]:
        """Of the workers that there are."""
        assert self._client is not None
        try:
            return list(self._client.nthreads())
        except OSError:
            self.check()
            return []

    def check(self) -> None:
        """Raise WorkerLost where the scheduler is gone, or was out of reach for a while: then messages are lost."""
        client = self._client
        if client is None or client.status != "running" or client.scheduler_comm is not self._link:
            raise WorkerLost(
                "the connection to the Dask scheduler is lost, and with it what its workers had to tell; the run "
                "stops. See to the scheduler, or start another, then `runstore resume`"
            )

    def close(self) -> None:
        """Leave nothing behind."""
        client, self._client = self._client, None
        for name in (self._id, *self._left):
            take_away(self._outputs, name)
        called = () if self._called is None else (self._called,)
        for future in (*self._batches.values(), *self._sessions.values(), *called):
            with suppress(Exception):
                future.release()
        self._called = None
        self._batches.clear()
        self._sessions.clear()
        if client is not None:
            with _quiet(), suppress(Exception):
                client.unsubscribe_topic(EVERYTHING)
                client.unsubscribe_topic(self._topic)
                client.close(timeout=2)
        own, self._own = self._own, None
        if own is not None:
            with suppress(Exception):
                own.close(timeout=5)

    # To the workers

    def call(self) -> None:
        """Have something wait for a worker: batches do not, each is bound to one."""
        assert self._client is not None
        if self._called is None or self._called.done():
            key = f"runstore-call-{uuid.uuid4().hex}"
            self._called = self._client.submit(int, key=key, pure=False)

    def introduce(self, address: str) -> None:
        """Have a worker begin a session; it is kept there for as long as its future is held here."""
        called, self._called = self._called, None
        if called is not None:
            called.release()
        self.drop(address)
        number = self._introductions.get(address, 0) + 1
        self._introductions[address] = number
        arguments = (self._message, self._id, self._reached, __version__, number)
        future = self._submit(dask_worker.begin, *arguments, address=address)
        self._sessions[address] = future
        future.add_done_callback(lambda done: self._on_begun(done, address, number))

    def drop(self, address: str) -> None:
        """Nobody speaks to this worker any more."""
        future = self._sessions.pop(address, None)
        if future is not None:
            self._introductions[address] += 1  # what its introduction still brings is not heard
            future.release()  # else Dask would begin it again when the address is back

    def send(
        self,
        address: str,
        batch: int,
        tickets: Sequence[Sequence[bytes]],
        needs: Mapping[str, float],
    ) -> None:
        """Have a worker run a batch."""
        session = self._sessions.get(address)
        if session is None:
            return  # it is gone, as is said next
        arguments = (session, batch, tickets, self._id)
        future = self._submit(dask_worker.run, *arguments, address=address, needs=needs)
        self._batches[batch] = future
        future.add_done_callback(lambda done: self._on_done(done, batch))

    def _submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        address: str,
        needs: Mapping[str, float] | None = None,
    ) -> Any:
        assert self._client is not None
        return self._client.submit(
            _in_worker,
            function,
            *arguments,
            key=f"runstore-{function.__name__}-{uuid.uuid4().hex}",
            workers=[address],  # there or nowhere: Dask tries nothing again
            allow_other_workers=False,
            retries=0,
            pure=False,
            resources=dict(needs) if needs else None,
        )

    def forget(self, batch: int) -> None:
        """Dask may forget it too."""
        future = self._batches.pop(batch, None)
        if future is not None:
            future.release()  # one that has not ended is wanted by nobody, also when the address is back

    def ask_back(self, address: str, token: str, batch: int) -> None:
        """Have a worker give a batch back, if it has not begun it."""
        self._ask(address, dask_worker.give_back, token, batch, self._id)

    def _ask(self, address: str, function: Callable[..., None], *arguments: Any) -> None:
        """Have a worker do something at once: a task might wait there behind the work of others."""
        client = self._client

        def ask() -> None:
            with suppress(Exception):  # who does not answer is gone, or as good as that
                assert client is not None
                client.run(function, *arguments, workers=[address], on_error="ignore")

        Thread(target=ask, daemon=True).start()

    def restart(self, address: str) -> None:
        """Have a worker's process ended, and another begun."""
        client = self._client

        def restart() -> None:
            with suppress(Exception):
                assert client is not None
                client.restart_workers([address], timeout=ANSWER_S, raise_for_error=False)

        Thread(target=restart, daemon=True).start()

    def leave(self, address: str, token: str) -> None:
        """Have a worker end its session."""
        self._ask(address, dask_worker.end, token, self._id)

    # From the workers; called by a thread of the client

    def _on_event(self, event: tuple[float, Any]) -> None:
        run, kind, message = event[1]
        if run != self._id:
            return  # of another run, by the same topic
        if kind == "hello":
            hello = decode_hello(message)
            self._left.append(hello.left)
            if hello.introduction == self._introductions.get(hello.address):
                self.inbox.put(hello)
        elif kind == "left":
            left = decode_hello(message)
            self.inbox.put(Left(left.address, left.stops))
        else:
            self.inbox.put(decode_report(message))

    def _on_event_of_cluster(self, event: tuple[float, Any]) -> None:
        message = event[1]
        action = message.get("action") if isinstance(message, dict) else None
        if action == "add-worker":
            self.inbox.put(Joined(message["worker"]))
        elif action == "remove-worker":
            how = "has left" if message.get("expected") else "is gone"
            self.inbox.put(Gone(message["worker"], how))

    def _on_begun(self, future: Any, address: str, introduction: int) -> None:
        if introduction == self._introductions.get(address):
            self._on_done(future, address)

    def _on_done(self, future: Any, what: str | int) -> None:
        why = future.status
        if self._client is None:
            return  # nobody wants to know
        if why == "finished":
            if isinstance(what, int):
                self.inbox.put(Done(what))
            return
        if why == "error":
            error = future.exception()
            why = f"{type(error).__name__}: {error}"
        self.inbox.put(Failed(what, why))


@contextmanager
def _quiet() -> Iterator[None]:
    """A client that is closed while it looks for its scheduler logs a traceback; that it was lost is said already."""
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _in_worker(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a task is: a function of `dask_worker`, told in which worker it runs."""
    from distributed import get_worker

    return function(get_worker(), *arguments)
