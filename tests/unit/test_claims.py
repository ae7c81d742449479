"""Claims tell who is alive: by the process itself on this machine, by its heartbeat elsewhere."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from runstore.log.claims import TIME_TO_LIVE_S, Claim, Claims, boot_id, process_started
from runstore.log.database import Database


@pytest.fixture
def database() -> Iterator[Database]:
    """A log in memory."""
    database = Database.in_memory()
    yield database
    database.close()


def mine(**changes: object) -> Claim:
    """A claim of this process."""
    claim = Claim(1, 1, "here", boot_id(), os.getpid(), process_started(os.getpid()), time.time())
    return msgspec.structs.replace(claim, **changes)


def test_a_claim_is_taken_and_given_back(database: Database) -> None:
    """A claim names epoch and process; whoever has a newer epoch is not disturbed by an older one's release."""
    claims = Claims(database)
    assert claims.find(1) is None
    with database.transaction(full=False) as connection:
        claims.take(connection, 1, 1)
        claims.take(connection, 2, 1)
    found = claims.find(1)
    assert found is not None
    assert (found.run, found.epoch, found.pid, found.boot) == (1, 1, os.getpid(), boot_id())
    assert found.is_alive()
    with database.transaction(full=False) as connection:
        claims.take(connection, 1, 2)
        claims.release(connection, 1, 1)
    assert claims.find(1) is not None
    with database.transaction(full=False) as connection:
        claims.release(connection, 1, 2)
    assert claims.find(1) is None
    assert claims.find(2) is not None


def test_a_beat_is_of_one_epoch(database: Database) -> None:
    """A sign of life counts for the epoch that gives it, and not for the one that took over."""
    claims = Claims(database)
    with database.transaction(full=False) as connection:
        claims.take(connection, 1, 2)
        connection.execute("UPDATE claims SET heartbeat = 5")
        claims.beat(connection, 1, 1)
    assert claims.find(1).heartbeat == 5  # type: ignore[union-attr]
    with database.transaction(full=False) as connection:
        claims.beat(connection, 1, 2)
    assert claims.find(1).age_s < 60  # type: ignore[union-attr]


def test_a_cancel_is_seen_until_the_next_epoch(database: Database) -> None:
    """A request to cancel is on the claim, and a new epoch begins without it."""
    claims = Claims(database)
    with database.transaction(full=False) as connection:
        claims.take(connection, 1, 1)
        claims.request_cancel(connection, 1)
    assert claims.find(1).cancel_requested == 1  # type: ignore[union-attr]
    with database.transaction(full=False) as connection:
        claims.take(connection, 1, 2)
    assert claims.find(1).cancel_requested == 0  # type: ignore[union-attr]


def test_a_process_of_this_machine_is_looked_at() -> None:
    """On this boot a process is alive as long as it is there, whatever its heartbeat, and dead when it is not."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    claim = mine(pid=child.pid, pid_started=process_started(child.pid), heartbeat=0.0)
    assert claim.is_alive()
    child.kill()
    time.sleep(0.05)
    assert not claim.is_alive(), "a zombie is not alive"
    child.wait()
    assert not claim.is_alive()


def test_a_pid_that_was_given_again_is_another_process() -> None:
    """The same pid with another start time is not the executor that claimed."""
    assert mine().is_alive()
    assert not mine(pid_started="1").is_alive()
    assert process_started(2**22 + 1) == ""
    assert not mine(pid=2**22 + 1).is_alive()


def test_a_process_elsewhere_is_judged_by_its_heartbeat() -> None:
    """On another machine, boot or pid namespace only the heartbeat tells."""
    assert mine(boot="elsewhere").is_alive()
    assert not mine(pid_started="", heartbeat=0.0).is_alive(), (
        "nor where the start of a process is not told"
    )
    assert not mine(boot="elsewhere", heartbeat=time.time() - TIME_TO_LIVE_S - 1).is_alive()


def test_a_claim_is_shown_with_host_pid_and_age() -> None:
    """R1: what refuses a resume names host, pid and age."""
    claim = mine(host="node7", heartbeat=time.time() - 12)
    assert str(claim) == f"process {os.getpid()} on node7, last heard of 12 s ago"
    assert mine(heartbeat=time.time() + 100).age_s == 0
