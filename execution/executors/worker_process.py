"""The process of a worker: it loads the job once, then runs what it is sent, one ticket after the other.

It lives no longer than its executor: a thread listens on the socket, and when the other end is gone, so is the process,
whatever it is doing, and what it has started. Ctrl-C is the executor's business.
"""

import os
import signal
import socket
import threading
from contextlib import closing
from queue import SimpleQueue

from execution.executors.base import messages_of, waited
from execution.executors.frames import Frames, send
from execution.executors.opening import opened
from execution.executors.packing import pack_stop, pack_told, unpack
from execution.running.brief import Brief
from execution.running.worker import Worker
from runstore.outputs.output_store import OutputStore

READY = b"ready"
"""The first message of a worker: it has loaded the job."""
CLOSE, CLOSED = b"", b""
"""The last message in each direction; what closing has to say beside comes before."""


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
        outputs, brief = opened(inbox.get())
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
