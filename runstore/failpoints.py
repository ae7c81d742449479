"""The places where a test may stop the world.

Lowest room of all: the log and the outputs announce each point at which a crash matters, and nobody listens unless
`runstore.testing` has armed a listener in this process.
"""

from collections.abc import Callable
from typing import Any

Listener = Callable[[str, Any], None]

_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Make `listener(point, subject)` hear every point of this process; None silences it."""
    global _listener
    _listener = listener


def reached(point: str, subject: object = None) -> None:
    """Announce a point; `subject` is the event, the events of a commit, or the path that it is about."""
    if _listener is not None:
        _listener(point, subject)


def is_armed() -> bool:
    """True when somebody listens; a write is then cut in two."""
    return _listener is not None
