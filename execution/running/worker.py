"""What a worker has besides the ticket of an attempt: made when an op first needs it, closed with the executor."""

from execution.running.event_loop import EventLoop


class Worker:
    """One place where ops run, one at a time."""

    def __init__(self) -> None:
        self.loop = EventLoop()

    def close(self) -> None:
        """Give everything back."""
        self.loop.close()
