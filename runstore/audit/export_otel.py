"""A run as OpenTelemetry spans, replayed with their real times: the run, its epochs, and each attempt below its epoch.

The one room that knows the SDK. Ids are derived from the run and the seq of the event that a span begins with, so that
a run that is exported twice is the same trace.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator
from typing import Any

from runstore.audit.rows import raw_rows, taken_as_valid
from runstore.errors import ConfigError
from runstore.log.codec import decode
from runstore.log.events import (
    AnyEvent,
    HousekeepingBegun,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from runstore.store import RunStore


def replay_spans(store: RunStore, run: str, processor: Any) -> int:
    """Give the spans of a run to a span processor of the SDK, and return how many there were.

    Raises RunNotFound, LogDamaged; ConfigError where the SDK is missing.
    """
    sdk = _sdk()
    run_id = store.resolve(run)
    replay = _Replay(run_id, sdk, processor)
    with taken_as_valid(store, run_id):
        for seq, body in raw_rows(store, run_id):
            replay.look(seq, decode(body, run_id, seq))
        replay.close()
    processor.force_flush()
    return replay.count


def otel_lines(store: RunStore, run: str = "last") -> Iterator[str]:
    """The spans as lines of JSON, in the order in which they ended."""
    _sdk()
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    replay_spans(store, run, SimpleSpanProcessor(spans))
    for span in spans.get_finished_spans():
        yield span.to_json(indent=None)


def _sdk() -> Any:
    try:
        import opentelemetry.sdk.trace  # imported late, at its one door: an optional extra
    except ImportError:
        raise ConfigError(
            "OpenTelemetry needs opentelemetry-sdk; install runstore[otel], or export as jsonl"
        ) from None
    return opentelemetry.sdk.trace


class _Replay:
    def __init__(self, run_id: str, sdk: Any, processor: Any) -> None:
        from opentelemetry.sdk.resources import Resource

        self.count = 0
        self._run_id, self._ids = run_id, _Ids(run_id)
        resource = Resource({"service.name": "runstore", "runstore.run_id": run_id})
        provider = sdk.TracerProvider(id_generator=self._ids, resource=resource)
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("runstore")
        self._run: Any = None
        self._epoch: Any = None
        self._is_housekeeping = False
        self._fault = "died"
        """How the run ended, as far as is known: without a last word it died."""
        self._steps: dict[str, Any] = {}
        self._last = dt.datetime.min.replace(tzinfo=dt.UTC)

    def look(self, seq: int, event: AnyEvent) -> None:
        """See one event."""
        match event:
            case RunStarted():
                self._run = self._begin(seq, f"run {event.graph.name}", event, None, job=event.job)
                self._epoch = self._begin(-1, "epoch 1", event, self._run, host=event.host)
            case RunResumed():
                self._close_epoch("died")
                self._fault = "died"
                self._epoch = self._begin(
                    seq, f"epoch {event.epoch}", event, self._run, host=event.host
                )
            case HousekeepingBegun():
                self._close_epoch("died")
                name = f"epoch {event.epoch}, {event.purpose}"
                self._epoch, self._is_housekeeping = self._begin(seq, name, event, self._run), True
            case StepStarted():
                self._steps[event.step] = self._begin(
                    seq, event.step.partition("[")[0], event, self._epoch,
                    step=event.step, attempt=event.attempt, code=event.code,
                )  # fmt: skip
            case StepSucceeded() if event.step in self._steps:
                self._end(_named(self._steps.pop(event.step), event), event.time)
            case StepFailed() | StepRetried():
                span = _named(self._steps.pop(event.step), event)
                told = {
                    "exception.type": event.error.type,
                    "exception.message": event.error.message,
                }
                told["exception.stacktrace"] = event.error.traceback
                span.add_event("exception", told, timestamp=_ns(event.time))
                self._end(span, event.time, f"{event.error.type}: {event.error.message}")
            case RunSucceeded() | RunFailed() | RunCancelled():
                self._fault = "" if isinstance(event, RunSucceeded) else type(event).__name__
                self._last = event.time
                self._close_epoch(self._fault)
        self._last = event.time

    def close(self) -> None:
        """End what has no end in the log, where it was last heard of."""
        self._close_epoch("died")
        if self._run is not None:
            self._end(self._run, self._last, self._fault)

    def _close_epoch(self, fault: str) -> None:
        for step in list(self._steps):
            self._end(self._steps.pop(step), self._last, "interrupted")
        if self._epoch is not None:
            self._end(self._epoch, self._last, "" if self._is_housekeeping else fault)
            self._epoch, self._is_housekeeping = None, False

    def _begin(self, seq: int, name: str, event: AnyEvent, parent: Any, **told: Any) -> Any:
        from opentelemetry.trace import set_span_in_context

        self._ids.next = seq
        given = {f"runstore.{key}": value for key, value in told.items() if value != ""}
        context = set_span_in_context(parent) if parent is not None else None
        self.count += 1
        return self._tracer.start_span(
            name,
            context,
            attributes={**given, "runstore.seq": abs(seq)},
            start_time=_ns(event.time),
        )

    def _end(self, span: Any, time: dt.datetime, fault: str = "") -> None:
        from opentelemetry.trace import Status, StatusCode

        span.set_status(Status(StatusCode.ERROR, fault) if fault else Status(StatusCode.OK))
        span.end(_ns(time))


class _Ids:
    """Ids that follow from the run and the seq of an event."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.next = 0

    def generate_trace_id(self) -> int:
        """Of the run."""
        return int.from_bytes(self._digest("")[:16], "big")

    def generate_span_id(self) -> int:
        """Of the span that begins at `next`."""
        return int.from_bytes(self._digest(str(self.next))[:8], "big")

    def is_trace_id_random(self) -> bool:
        """It follows from the run."""
        return False

    def _digest(self, what: str) -> bytes:
        return hashlib.sha256(f"runstore {self._run_id} {what}".encode()).digest()


def _named(span: Any, event: StepSucceeded | StepFailed | StepRetried) -> Any:
    """The span of an attempt, with who ran it, which its end tells."""
    if event.worker:
        span.set_attribute("runstore.worker", event.worker)
    return span


def _ns(time: dt.datetime) -> int:
    return int(time.timestamp()) * 1_000_000_000 + time.microsecond * 1_000
