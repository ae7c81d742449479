"""What the worker of a Dask cluster does for a run: begin a session, run batches in it, end it.

Each function is a task of Dask, and gets the worker that it runs in. It gives back nothing that is ever fetched; what
there is to say goes by the worker's own connection to its scheduler.
"""

import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from execution.executors.packing import pack_stop
from execution.executors.reports import Hello, encode, no_session, worker_name
from execution.executors.session import Session
from runstore.errors import ConfigError, RunStoreError
from runstore.outputs.reach import NotReached, leave, look_for
from runstore.version import __version__

LOOK_S = 2.0
"""A worker looks so often whether Dask holds the handles of its sessions still."""
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


_sessions: dict[str, Session] = {}
"""Token -> session; not among the values that Dask holds, which it may write to disk, copy or move as it likes."""


class Handle(NamedTuple):
    """What Dask holds of a session: it lives as long as Dask holds this, wherever Dask puts it."""

    token: str


def _look_after(worker: Any, key: str, token: str) -> None:
    """Close a session whose handle is gone: the engine has released it, or is gone itself."""
    if key in worker.data:
        worker.loop.call_later(LOOK_S, _look_after, worker, key, token)
        return
    session = _sessions.pop(token, None)
    if session is not None:
        session.close_late()


class DaskPost:
    """From a thread of a worker to the engine, by the worker's connection to its scheduler."""

    def __init__(self, worker: Any, run: str, *, is_task: bool = True) -> None:
        self._worker = worker
        self._run = run
        self._topic = topic_of(run)
        self._key = worker.get_current_task() if is_task else ""

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


def begin(
    worker: Any, message: bytes, run: str, bases: list[int], version: str, introduction: int
) -> Handle:
    """Begin a session, and introduce this worker."""
    post = DaskPost(worker, run)
    name = f"{run}.{uuid.uuid4().hex}"
    hello: dict[str, Any] = {"address": worker.address, "token": "", "left": name}
    hello |= {"introduction": introduction}
    hello |= {"name": str(worker.name), "host": _host(worker)}
    try:
        _check_version(version)
        session = Session(message, worker.state.nthreads, worker_name(hello["name"]))
        _sessions[session.token] = session
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
    key, token = worker.get_current_task(), hello["token"]
    if token:
        worker.loop.add_callback(
            lambda: worker.loop.call_later(LOOK_S, _look_after, worker, key, token)
        )
    return Handle(token)


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
    handle: Handle,
    batch: int,
    tickets: Sequence[Sequence[bytes]],
    run_token: str,
) -> None:
    """Run a batch; in the process that it was meant for, and in no later one of the same address."""
    session, post = _sessions.get(handle.token), DaskPost(worker, run_token)
    if session is None:
        post.send(encode(no_session(batch)))
    else:
        session.run(batch, tickets, post)


def give_back(token: str, batch: int, run: str, dask_worker: Any) -> None:
    """Give back a batch that waits behind the work of others. No task, which would wait there too: Dask calls it in the
    loop of the worker, and knows the last parameter by its name.
    """
    post = DaskPost(dask_worker, run, is_task=False)
    session = _sessions.get(token)
    if session is None:
        post.send(encode(no_session(batch)))
    else:
        session.give_back(batch, post)


def end(token: str, run: str, dask_worker: Any) -> None:
    """End a session, and say so; no task, as `give_back`, and in a thread, since the loop of the worker must go on."""
    post = DaskPost(dask_worker, run, is_task=False)
    arguments = (token, dask_worker.address, post)
    threading.Thread(target=_end, args=arguments, daemon=True).start()


def _end(token: str, address: str, post: DaskPost) -> None:
    stops = b""
    session = _sessions.pop(token, None)
    try:
        if session is not None:
            session.close()
    except BaseException as error:
        stops = pack_stop(error)
    post.send(encode(Hello(address, "", stops=stops)), "left")
