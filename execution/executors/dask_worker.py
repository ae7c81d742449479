"""What the worker of a Dask cluster does for a run: begin a session, run batches in it, end it.

Each function is a task of Dask, and gets the worker that it runs in. It gives back nothing that is ever fetched; what
there is to say goes by the worker's own connection to its scheduler.
"""

import os
import socket
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from execution.executors.packing import pack_stop
from execution.executors.reports import Hello, encode, worker_name
from execution.executors.session import Session
from runstore.errors import ConfigError, RunStoreError
from runstore.outputs.reach import NotReached, leave, look_for
from runstore.version import __version__

TOPICS = 16
"""A scheduler keeps the last 1,000 events of each topic for as long as it lives; so runs share a few of them."""


def topic_of(token: str) -> str:
    """The topic by which the events of a run travel; `token`: that of its executor."""
    return f"runstore-{int(token, 16) % TOPICS}"


def dask_setup(worker: Any) -> None:
    """Called by Dask in each worker process of a cluster of ours, as it is named in `preload`: Ctrl-C, which a terminal
    sends to the group of the executor, is not for workers, whose steps may end in peace.
    """
    os.setpgid(0, 0)


class DaskPost:
    """From a thread of a worker to the engine, by the worker's connection to its scheduler."""

    def __init__(self, worker: Any, run: str) -> None:
        self._worker = worker
        self._run = run
        self._topic = topic_of(run)
        self._key = worker.get_current_task()

    def send(self, message: bytes, kind: str = "report") -> None:
        """By the loop of the worker, whoever calls: so that messages stay in order."""
        event = (self._run, kind, message)
        self._worker.loop.add_callback(self._worker.log_event, self._topic, event)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """By the loop of the worker."""
        loop = self._worker.loop
        loop.add_callback(lambda: loop.call_later(seconds, call))

    def is_heard(self) -> bool:
        """False where the scheduler has taken the task back: the engine has, or is gone."""
        task = self._worker.state.tasks.get(self._key)
        return task is not None and task.state in ("executing", "long-running")


def begin(worker: Any, message: bytes, run: str, bases: list[int], version: str) -> Session | None:
    """Begin a session, and introduce this worker."""
    post = DaskPost(worker, run)
    name = f"{run}.{uuid.uuid4().hex}"
    hello: dict[str, Any] = {"address": worker.address, "token": "", "left": name}
    hello |= {"name": str(worker.name), "host": _host(worker)}
    session = None
    try:
        _check_version(version)
        session = Session(message, worker.state.nthreads, worker_name(hello["name"]))
        hello |= {"token": session.token, "threads": worker.state.nthreads}
        hello |= {"resources": dict(worker.state.total_resources)}
        hello |= {
            "has_nanny": worker.nanny is not None,
            "unreached": _unreached(session, run, bases),
        }
        if not hello["unreached"]:
            leave(session.outputs, name)
    except BaseException as error:
        hello["stops"] = pack_stop(error)
    post.send(encode(Hello(**hello)), "hello")
    return session


def _host(worker: Any) -> str:
    return f"{socket.gethostname()}, process {os.getpid()}"


def _check_version(version: str) -> None:
    if version != __version__:
        raise ConfigError(
            f"the worker has runstore {__version__}, and this process {version}; install the same for both"
        )


def _unreached(session: Session, name: str, bases: list[int]) -> str:
    """Why this worker does not reach the outputs; empty where it does."""
    try:
        look_for(session.outputs, name, bases)
    except (NotReached, RunStoreError) as error:
        return f"the worker does not find what this process has written: {error}"
    return ""


def run(
    worker: Any,
    session: Session | None,
    token: str,
    batch: int,
    tickets: Sequence[Sequence[bytes]],
    run_token: str,
) -> None:
    """Run a batch; in the process that it was meant for, and in no later one of the same address."""
    if session is not None and session.token == token:
        session.run(batch, tickets, DaskPost(worker, run_token))


def end(worker: Any, session: Session, run: str) -> None:
    """End a session, and say so."""
    post, stops = DaskPost(worker, run), b""
    try:
        session.close()
    except BaseException as error:
        stops = pack_stop(error)
    post.send(encode(Hello(worker.address, "", stops=stops)), "left")
