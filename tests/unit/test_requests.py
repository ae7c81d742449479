"""Requests to a service: what is tried again, how often, and what it comes to."""

import errno
import threading
from collections.abc import Callable, Iterator

import pytest

from runstore.errors import (
    ConfigError,
    OutputConflict,
    OutputMissing,
    StorageFailed,
    TransferFailed,
)
from runstore.outputs import requests
from runstore.outputs.remote import RemoteBase
from runstore.outputs.requests import IN_A_ROW, TRIES, Requests, may_pass


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Without the waits: how long they would have been."""
    asked: list[float] = []
    wait_s = requests._wait_s

    def noted(number: int) -> float:
        asked.append(wait_s(number))
        return 0.0

    monkeypatch.setattr(requests, "_wait_s", noted)
    return asked


class ClientError(Exception):
    """As botocore says what a service has answered."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


class EndpointConnectionError(Exception):
    """As botocore says that nobody answers: it is no OSError."""


EndpointConnectionError.__module__ = "botocore.exceptions"


class NoCredentialsError(Exception):
    """Of the same library, and nothing that passes."""


NoCredentialsError.__module__ = "botocore.exceptions"


def caused(error: Exception, code: str) -> Exception:
    """As s3fs translates."""
    error.__cause__ = ClientError(code)
    return error


PASSING = [
    OSError(errno.EBUSY, "Please reduce your request rate."),
    OSError(errno.EIO, "internal error"),
    TimeoutError("slow"),
    ConnectionResetError("reset"),
    EndpointConnectionError("Could not connect"),
    OSError("no errno"),
    caused(OSError(errno.EINVAL, "The digest did not match"), "BadDigest"),
]
LASTING = [
    PermissionError("Access Denied"),
    OSError(errno.EINVAL, "Invalid argument"),
    OSError(errno.ENOSPC, "No space left"),
    NoCredentialsError("Unable to locate credentials"),
    ValueError("a defect"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(error: Exception, waits: list[float]) -> None:
    """Throttling, time-outs, resets and errors of the service are tried again, with growing waits, till they pass."""
    answers: Iterator[Exception | int] = iter([error, error, 7])

    def request() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert may_pass(error)
    assert Requests().ask("x://a", request) == 7
    assert 0 < waits[0] < waits[1] * 2


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_lasts_is_not_tried_again(error: Exception, waits: list[float]) -> None:
    """A refusal stops the run at once, in one line that names address and remedy."""
    with pytest.raises(StorageFailed, match=r"^x://a: .*`runstore resume`$") as caught:
        Requests().ask("x://a", raising(error))
    assert not isinstance(caught.value, TransferFailed)
    assert not waits


def raising(error: Exception) -> Callable[[], None]:
    """A request that always fails."""

    def request() -> None:
        raise error

    return request


def test_the_last_try_is_a_failed_transfer(waits: list[float]) -> None:
    """After seven tries an attempt fails, not the run; the waits grow to some seconds."""
    with pytest.raises(TransferFailed, match=f"reset, after {TRIES} tries"):
        Requests().ask("x://a", raising(ConnectionResetError("reset")))
    assert len(waits) == TRIES
    assert 3 < sum(waits[:-1]) < 7


class Clock:
    """Passes only while a request waits for an answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        monkeypatch.setattr(requests, "monotonic", lambda: self.now_s)

    def silent(self, timeout_s: float) -> Callable[[], None]:
        """A request that nobody answers."""

        def request() -> None:
            self.now_s += timeout_s
            raise TimeoutError("no answer")

        return request


@pytest.mark.parametrize(("timeout_s", "tries"), [(20.0, 3), (0.5, TRIES), (90.0, 1)])
def test_silence_is_given_up_in_time(
    timeout_s: float, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No try begins after the time to give up: what is silent costs that, and one time-out more at most."""
    clock = Clock(monkeypatch)
    with pytest.raises(StorageFailed):
        Requests(60.0).ask("x://a", clock.silent(timeout_s))
    assert clock.now_s == 1_000.0 + tries * timeout_s


def test_a_service_that_answers_nothing_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says for how long it was asked, that nothing was answered, and what to set where it is only slow."""
    clock = Clock(monkeypatch)
    service = Requests(50.0)
    service.ask("x://b", lambda: None)
    with pytest.raises(StorageFailed, match=r"^x://a: no answer; given up after 60 s") as caught:
        service.ask("x://a", clock.silent(20.0))
    assert "no other request was answered" in str(caught.value)
    assert "give_up_after_s (now 50) in [tool.runstore.storage]" in str(caught.value)
    assert not isinstance(caught.value, TransferFailed)


def test_where_others_get_through_one_transfer_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the attempt fails, and not the run."""
    clock = Clock(monkeypatch)
    service, silent = Requests(50.0), clock.silent(20.0)

    def request() -> None:
        service.ask("x://b", lambda: None)
        silent()

    with pytest.raises(TransferFailed, match=r"given up after 60 s.*give_up_after_s"):
        service.ask("x://a", request)


@pytest.mark.parametrize("value", [0, -1, "60", True, float("nan")])
def test_a_time_to_give_up_is_a_number_of_seconds(value: object) -> None:
    """Anything else is refused where the place is opened, and named."""
    with pytest.raises(ConfigError, match="give_up_after_s = "):
        RemoteBase("memory://seconds", {"give_up_after_s": value})


def test_waits_are_jittered(waits: list[float]) -> None:
    """Clients that were refused together do not come back together."""
    for _ in range(5):
        with pytest.raises(TransferFailed):
            Requests().ask("x://a", raising(TimeoutError()))
    assert len(set(waits[::TRIES])) > 1


def test_a_service_that_is_down_stops_the_run() -> None:
    """When so many requests in a row have failed for good as can be in flight, no further step is tried."""
    service = Requests()
    for _ in range(IN_A_ROW - 1):
        with pytest.raises(TransferFailed):
            service.ask("x://a", raising(TimeoutError()))
    with pytest.raises(StorageFailed, match=f"{IN_A_ROW} requests in a row have failed") as caught:
        service.ask("x://a", raising(TimeoutError()))
    assert not isinstance(caught.value, TransferFailed)


@pytest.mark.parametrize("answer", [None, FileNotFoundError(), FileExistsError()])
def test_one_answer_ends_the_row(answer: Exception | None) -> None:
    """A service that has answered is there, also where the answer was no."""
    service = Requests()
    for _ in range(2 * IN_A_ROW):
        with pytest.raises(TransferFailed):
            service.ask("x://a", raising(TimeoutError()))
        if answer is None:
            service.ask("x://a", lambda: None)
        else:
            with pytest.raises(type(answer)):
                service.ask("x://a", raising(answer))


def test_closing_ends_the_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops does not wait for a service that is down."""
    monkeypatch.setattr(requests, "_wait_s", lambda number: 30.0)
    service, tried = Requests(), threading.Event()

    def request() -> None:
        tried.set()
        raise TimeoutError

    ended: list[Exception] = []

    def ask() -> None:
        try:
            service.ask("x://a", request)
        except TransferFailed as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert tried.wait(10)
    service.close()
    thread.join(10)
    assert len(ended) == 1


class Forgetful(RemoteBase):
    """A service that stores, and whose answer to that is lost."""

    lost = 1

    def _put(self, path: str, data: bytes, sha256: str) -> None:
        super()._put(path, data, sha256)
        if self.lost:
            self.lost -= 1
            raise ConnectionResetError("the answer was lost")


def test_a_repeated_request_may_meet_its_own_success() -> None:
    """What is there already is the same bytes: no conflict."""
    base = Forgetful("memory://forgetful-1")
    base.write("op/a.bin", b"abc", "")
    assert base.read("op/a.bin") == b"abc"


def test_other_bytes_at_an_address_are_a_conflict() -> None:
    """Another run of the same id has its outputs there: nothing is overwritten, and the message says what to do."""
    base = RemoteBase("memory://conflict-1")
    base.write("op/a.bin", b"abc", "")
    with pytest.raises(OutputConflict, match=r"another run of the same id .*--run-id"):
        base.write("op/a.bin", b"abd", "")
    assert base.read("op/a.bin") == b"abc"


def test_ranges() -> None:
    """A range gives its bytes, fewer where the object ends before, and none of an object that is not there."""
    base = RemoteBase("memory://ranges-1")
    base.write("op/a.bin", b"abcdef", "")
    assert base.read("op/a.bin", 2, 3) == b"cde"
    assert base.read("op/a.bin", 4, 10) == b"ef"
    assert base.read("op/a.bin", 4, 0) == b""
    with pytest.raises(OutputMissing):
        base.read("op/b.bin", 0, 3)
