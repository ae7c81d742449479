"""What is open in this process and of no use in a fork of it, where each of its requests is refused.

Threads do not come through a fork. A pool would wait for ever for its own, a filesystem for the one that speaks to its
service, and connections would be shared with the parent. So a fork refuses at once and in words. Who forks and leaves
outputs alone notices nothing, and nothing looks at a pid where nobody forks.
"""

import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from runstore.errors import StorageFailed


class _Guard(NamedTuple):
    requests: Sequence[str]
    ends: Sequence[str]
    address: str
    pid: int


_open: "weakref.WeakKeyDictionary[object, _Guard]" = weakref.WeakKeyDictionary()
_of_parents: list[object] = []
"""What came through a fork: to forget it would close it, and wait for threads that are not there."""


def guard(one: object, *, requests: Sequence[str], ends: Sequence[str], address: str) -> None:
    """Let the methods `requests` of an object raise StorageFailed in a fork of this process, and `ends` do nothing."""
    _open[one] = _Guard(requests, ends, address, os.getpid())


def _refuse_all() -> None:
    for one, guarded in _open.items():
        _of_parents.append(one)
        for name in guarded.requests:
            setattr(one, name, _refusal(guarded))
        for name in guarded.ends:
            setattr(one, name, _nothing)


def _refusal(guarded: _Guard) -> Any:
    def refused(*_: Any, **__: Any) -> NoReturn:
        raise StorageFailed(
            f"the outputs at {guarded.address} belong to process {guarded.pid}, which opened them, and cannot be used "
            f"in its fork {os.getpid()}; open a store of its own in each process, or hand values to the one that forked"
        )

    return refused


def _nothing() -> None:
    return


os.register_at_fork(after_in_child=_refuse_all)
