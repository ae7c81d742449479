"""The process of a worker: it loads the job once, then runs what it is sent, one ticket after the other.

It lives no longer than its executor: a thread listens on the socket, and when the other end is gone, so is the process,
whatever it is doing, and what it has started. Ctrl-C is the executor's business.
"""

import os
import pickle
import signal
import socket
import threading
from contextlib import closing
from queue import SimpleQueue
from typing import Any, NamedTuple

from execution.definition.job import JobDefinition
from execution.definition.loading import load_files, load_job, loaded_files
from execution.errors import WorkerLost
from execution.executors.base import messages_of, waited
from execution.executors.frames import Frames, send
from execution.executors.packing import pack_stop, pack_told, unpack
from execution.executors.script_formats import packed_formats, take_up
from execution.running.brief import Brief
from execution.running.worker import Worker
from runstore.errors import ExtraMissing
from runstore.log.graph import Graph
from runstore.outputs.formats.pickled import CloudPickle
from runstore.outputs.output_store import OutputStore, Whereabouts
from runstore.store import reopen_outputs

READY = b"ready"
"""The first message of a worker: it has loaded the job."""
CLOSE, CLOSED = b"", b""
"""The last message in each direction; what closing has to say beside comes before."""


class Opening(NamedTuple):
    """The first message to a worker: what it needs besides tickets."""

    whereabouts: Whereabouts
    reference: str
    """Of the job; empty where `pickled` holds it."""
    pickled: bytes
    files: list[str]
    """What has to be loaded before the pickle."""
    graph: Graph
    config: dict[str, Any]
    tags: dict[str, str]
    run_id: str
    epoch: int
    formats: dict[str, bytes]
    """That may have been registered by the script alone."""


def opening(whereabouts: Whereabouts, brief: Brief) -> bytes:
    """The first message to a worker. A job that no module or file has under its name goes as a pickle of its code."""
    job, reference, pickled = brief.job, brief.job.reference, b""
    if not reference:
        for op in job.ops.values():  # what another process cannot look up in the sources again
            _ = (op.code, op.declared, op.input_types, op.nothing_outputs)
        try:
            pickled = CloudPickle().encode(job, None)
        except ExtraMissing:
            raise
        except Exception as error:
            raise WorkerLost(
                f"job {job.name!r} cannot be sent to another process: {type(error).__name__}: {error}; "
                "define it in a module or file, under its name"
            ) from error
    return pickle.dumps(
        tuple(
            Opening(
                whereabouts,
                reference,
                pickled,
                loaded_files() if pickled else [],
                brief.graph,
                dict(brief.config),
                dict(brief.tags),
                brief.run_id,
                brief.epoch,
                packed_formats(),
            )
        ),
        protocol=5,
    )


def worker_name(pid: int) -> str:
    """What the log calls the worker in this process."""
    return f"process {pid}"


def main(number: int) -> None:
    """Run what comes through the socket of this file number until it is closed."""
    os.set_inheritable(number, False)  # what an op starts must not keep the socket open
    # Not SIG_IGN, which programs that an op starts would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    connection = socket.socket(fileno=number)
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    try:
        outputs, brief = _opened(inbox.get())
    except BaseException as error:
        send(connection, pack_stop(error))
        inbox.get()
        return
    send(connection, READY)
    with closing(outputs):
        _serve(connection, inbox, outputs, brief)
        send(connection, CLOSED)


def _listen(connection: socket.socket, inbox: "SimpleQueue[bytes]") -> None:
    frames = Frames()
    while (messages := frames.receive(connection)) is not None:
        for message in messages:
            inbox.put(message)
    # The executor is gone: so are this process and all that its ops have started.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _opened(message: bytes) -> tuple[OutputStore, Brief]:
    given = Opening(*pickle.loads(message))
    job: JobDefinition
    if given.reference:
        job = load_job(given.reference)
    else:
        load_files(given.files)
        job = CloudPickle().decode(given.pickled, None)
    take_up(given.formats)
    brief = Brief(job, given.graph, given.config, given.tags, given.run_id, given.epoch)
    return reopen_outputs(given.whereabouts), brief


def _serve(
    connection: socket.socket, inbox: "SimpleQueue[bytes]", outputs: OutputStore, brief: Brief
) -> None:
    worker = Worker(brief.resources(), worker_name(os.getpid()))
    while (message := inbox.get()) != CLOSE:
        try:
            ticket = unpack(message, inbox.get, brief)
            for told in waited(messages_of(ticket, outputs, worker), outputs):
                send(connection, pack_told(told))
        except BaseException as error:
            send(connection, pack_stop(error))
    try:
        worker.close()
    except BaseException as error:
        send(connection, pack_stop(error))
