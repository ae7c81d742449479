"""What a cluster is asked for, and what it tells: messages and nothing else, whatever brings them."""

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from execution.executors.reports import Hello, Report


class Joined(NamedTuple):
    """The cluster has a new worker."""

    address: str


class Gone(NamedTuple):
    """The cluster has lost a worker."""

    address: str
    how: str


class Failed(NamedTuple):
    """The cluster could not do what it was asked for: to introduce a worker, to run a batch."""

    what: str | int
    """The address of the worker, or the number of the batch."""
    why: str


CANCELLED = "cancelled"
"""Why something failed that somebody has cancelled: most often the whole cluster is being restarted."""


class Done(NamedTuple):
    """A batch has ended, as the cluster sees it: what its worker has said of it is here, or will be in a moment."""

    batch: int


class Left(NamedTuple):
    """A worker has closed what it had open."""

    address: str
    stops: bytes


News = Joined | Gone | Done | Failed | Left | Hello | Report


class Connection(Protocol):
    """The way to a cluster; news from it come in a queue."""

    inbox: "SimpleQueue[News]"

    def addresses(self) -> list[str]:
        """Of the workers that there are; Joined follows for later ones."""

    def call(self) -> None:
        """Let a cluster that grows as it is needed know that steps wait for a worker; until one is introduced."""

    def introduce(self, address: str) -> None:
        """Have a worker load the job and open the outputs; Hello, Failed or Gone follows."""

    def send(
        self,
        address: str,
        batch: int,
        tickets: Sequence[Sequence[bytes]],
        needs: Mapping[str, float],
    ) -> None:
        """Have a worker that was introduced run a batch; Reports follow, or Failed, or Gone."""

    def ask_back(self, address: str, token: str, batch: int) -> None:
        """Have a worker give a batch back, if it has not begun it; then a Report follows that does so."""

    def drop(self, address: str) -> None:
        """Nobody speaks to this worker any more."""

    def forget(self, batch: int) -> None:
        """Nobody waits for this batch any more."""

    def restart(self, address: str) -> None:
        """Have a worker's nanny end its process; Gone follows."""

    def leave(self, address: str, token: str) -> None:
        """Have a worker close what it has open, whatever else it is busy with; Left or Gone follows."""

    def check(self) -> None:
        """Raise WorkerLost where the cluster itself is gone."""

    def close(self) -> None:
        """Leave nothing behind."""
