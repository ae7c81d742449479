"""A server in a process of its own, that ends when whoever started it does, however that ends."""

import http.client
import os
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
REGION = "us-east-1"
START_S = 60.0
"""A loaded machine may need long to start a server; nobody waits longer than it takes."""
_LEASH = 'exec 3<&0; (cat <&3 >/dev/null; kill -9 0) & exec "$@" 3<&- </dev/null'
"""Shell: become the server, and leave behind a watcher that kills the whole process group when standard input ends,
which is when the last process that holds its other end is gone. Works for any server, on any POSIX system."""


class ObjectStore(ABC):
    """An S3 server. It is up, and its bucket made, once `start` returns; it may be killed, and come back."""

    key = "canary-key-of-tests"
    secret = "canary-secret-of-tests"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.bucket = f"outputs-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self) -> list[str]:
        """What to start, listening on HOST and `self.port`."""

    @abstractmethod
    def _environment(self) -> Mapping[str, str]:
        """What the server reads from its environment."""

    @abstractmethod
    def make_bucket(self, name: str) -> str:
        """Make a bucket of that name; returns it."""

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://{HOST}:{self.port}"

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """What leads a client here (or to the endpoint given) and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Settings of whoever runs the tests must not reach them.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": HOST,
        }

    def fresh_bucket(self) -> str:
        """A bucket that nobody else knows."""
        return self.make_bucket(f"bucket-{secrets.token_hex(6)}")

    # Up and down

    def start(self) -> Self:
        """Start on a port that is free; returns when the server answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._launch()
        self.make_bucket(self.bucket)
        return self

    def _launch(self) -> None:
        port, deadline = self.port, time.monotonic() + START_S
        while True:
            self.port = port or _free_port()
            self._process = self._spawn()
            if self._is_answering_before(deadline):
                return
            self.kill()
            # Another process may have taken the free port in between; then the next one is tried.
            if time.monotonic() > deadline:
                log = self._log.read_text(errors="replace")[-3000:]
                raise RuntimeError(
                    f"{type(self).__name__} does not answer at {self.endpoint}:\n{log}"
                )

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                ["sh", "-c", _LEASH, "sh", *self._command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), **self._environment()},
                start_new_session=True,  # a process group, to be killed as one
            )

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _is_answering_before(self, deadline: float) -> bool:
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < deadline:
            if _answers(self.port):
                return self._process.poll() is None  # not another one, on a port that was taken
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        """End it as an operator does, with SIGTERM, and wait for that."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.send_signal(how)
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            process.stdin.close()  # the watcher ends too

    def restart(self) -> None:
        """Start again on the same port, with what has survived."""
        self.stop()
        self._launch()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def put_unsigned(port: int, path: str, body: bytes = b"") -> None:
    """PUT by whoever needs no credentials at this server."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("PUT", path, body)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True
