"""A run as OpenLineage events: START and COMPLETE, FAIL or ABORT, of the run and of each op, with datasets by URI.

The one room that knows openlineage-python. Ids are derived from the run's id and its start, so that the same run gives
the same events every time.
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from runstore.audit.stored import counted
from runstore.errors import ConfigError
from runstore.log.events import (
    STORES,
    AnyEvent,
    ErrorInfo,
    RunCancelled,
    RunFailed,
    RunSucceeded,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from runstore.log.graph import Node
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reference import OutputReference
from runstore.outputs.urls import scheme_of
from runstore.store import RunStore

PRODUCER = "urn:runstore"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, PRODUCER)


class _OpTime(NamedTuple):
    first: dt.datetime
    last: dt.datetime


def openlineage_events(store: RunStore, run: str = "last") -> Iterator[Any]:
    """`RunEvent`s of openlineage-python, oldest first.

    Raises RunNotFound; ConfigError where the package is missing.
    """
    _client()
    run_id = store.resolve(run)
    reading = _Reading()
    state = store.state(run_id, reading.look)
    yield from sorted(_Events(store, state, reading).all(), key=lambda event: event.eventTime)


def export_openlineage(store: RunStore, run: str, path: Path) -> None:
    """Write the events into a file, through the client's file transport.

    Raises ConfigError where the file exists, OSError where it cannot be written.
    """
    client = _client()
    if path.exists():
        raise ConfigError(f"{path} exists, and events are appended; name another file")
    from openlineage.client.transport.file import FileConfig, FileTransport

    events = list(openlineage_events(store, run))
    path.touch()  # what is in the way is told as it is: the transport has a RuntimeError for all of it
    config = FileConfig(log_file_path=str(path), append=True)
    to_file = client.OpenLineageClient(transport=FileTransport(config))
    for event in events:
        to_file.emit(event)


def openlineage_lines(store: RunStore, run: str = "last") -> Iterator[str]:
    """The events as lines of JSON."""
    events = openlineage_events(store, run)
    first = next(events)
    from openlineage.client.serde import Serde

    yield Serde.to_json(first)
    for event in events:
        yield Serde.to_json(event)


def _client() -> Any:
    try:
        import openlineage.client  # imported late, at its one door: an optional extra
    except ImportError:
        raise ConfigError(
            "OpenLineage needs openlineage-python; install runstore[openlineage], or export as jsonl"
        ) from None
    return openlineage.client


class _Reading:
    """What one reading of the log collects: the times of each op, its first failure, and the references."""

    def __init__(self) -> None:
        self.times: dict[str, _OpTime] = {}
        self.errors: dict[str, ErrorInfo] = {}
        self.references: dict[int, OutputReference] = {}
        self.ended_at: dt.datetime | None = None
        """Of the run's last end; housekeeping may come after it."""

    def look(self, seq: int, event: AnyEvent) -> None:
        """See one event."""
        if isinstance(event, StepStarted | StepSucceeded | StepFailed):
            op = event.step.partition("[")[0]
            first = self.times[op].first if op in self.times else event.time
            self.times[op] = _OpTime(first, event.time)
        if isinstance(event, RunSucceeded | RunFailed | RunCancelled):
            self.ended_at = event.time
        if isinstance(event, StepFailed):
            self.errors.setdefault(event.step.partition("[")[0], event.error)
        if isinstance(event, STORES):
            self.references[seq] = event.reference


class _Events:
    def __init__(self, store: RunStore, state: RunState, reading: _Reading) -> None:
        from openlineage.client import event_v2, facet_v2

        self._types, self._facets = event_v2, facet_v2
        self._state, self._reading = state, reading
        self._outputs = store.outputs(state)
        assert state.started is not None
        self._started = state.started
        self._run = uuid.uuid5(_NAMESPACE, f"{state.run_id} {state.started.time.isoformat()}")
        self._datasets = _datasets(self._outputs, state, reading.references)

    def all(self) -> Iterator[Any]:
        """Those of the run, then those of each op that has run."""
        yield self._event("START", self._started.time, self._run, "")
        ended = self._state.ended
        if ended is not None:
            assert self._reading.ended_at is not None
            yield self._event(_end_of(ended), self._reading.ended_at, self._run, "")
        for progress in Remaining(self._state).nodes():
            node = self._state.graph.by_name[progress.node]
            times = self._reading.times.get(node.name)
            if times is None:
                continue
            run = uuid.uuid5(self._run, node.name)
            inputs = [
                self._types.InputDataset(*self._datasets[source.node, source.output][:2])
                for source in node.sources()
                if (source.node, source.output) in self._datasets
            ]
            yield self._event("START", times.first, run, node.name, inputs=inputs)
            if progress.states.get("failed"):
                yield self._event("FAIL", times.last, run, node.name, inputs=inputs)
            elif progress.is_done:
                outputs = list(self._stored(node))
                yield self._event(
                    "COMPLETE", times.last, run, node.name, inputs=inputs, outputs=outputs
                )

    def _event(self, kind: str, time: dt.datetime, run: uuid.UUID, op: str, **datasets: Any) -> Any:
        types = self._types
        facets: dict[str, Any] = {}
        name = self._state.graph.name
        if op:
            facets["parent"] = self._facets.parent_run.ParentRunFacet(
                run=self._facets.parent_run.Run(runId=str(self._run)),
                job=self._facets.parent_run.Job(namespace="runstore", name=name),
                producer=PRODUCER,
            )
        error = self._reading.errors.get(op)
        if kind == "FAIL" and error is not None:
            facets["errorMessage"] = self._facets.error_message_run.ErrorMessageRunFacet(
                message=f"{error.type}: {error.message}",
                programmingLanguage="Python",
                stackTrace=error.traceback,
                producer=PRODUCER,
            )
        return types.RunEvent(
            eventType=types.RunState[kind],
            eventTime=time.isoformat(),
            run=types.Run(runId=str(run), facets=facets),
            job=types.Job(namespace="runstore", name=f"{name}.{op}" if op else name),
            producer=PRODUCER,
            **datasets,
        )

    def _stored(self, node: Node) -> Iterator[Any]:
        for output in node.outputs:
            found = self._datasets.get((node.name, output.name))
            if found is not None:
                namespace, name, files, size = found
                facet = self._facets.output_statistics_output_dataset
                statistics = facet.OutputStatisticsOutputDatasetFacet(
                    fileCount=files, size=size, producer=PRODUCER
                )
                yield self._types.OutputDataset(
                    namespace, name, outputFacets={"outputStatistics": statistics}
                )


Datasets = dict[tuple[str, str], tuple[str, str, int, int]]
"""(op, output) -> namespace, name, number of stored outputs, bytes."""


def _datasets(
    outputs: OutputStore, state: RunState, references: dict[int, OutputReference]
) -> Datasets:
    """One for each output of an op: its file where there is one, else the folder that the values lie in."""
    stored: dict[tuple[str, str], list[OutputReference]] = {}
    for step, output, _, seq in counted(state):
        stored.setdefault((step.partition("[")[0], output), []).append(references[seq])
    found: Datasets = {}
    for place, held in stored.items():
        path = held[0].path if len(held) == 1 else _common([one.path for one in held])
        address = outputs.address(OutputReference(path, 0, "", "", base=held[-1].base))
        size = sum(one.size_bytes for one in held)
        found[place] = (*_named(address.rstrip("/")), len(held), size)
    return found


def _common(paths: list[str]) -> str:
    """The folder that all of some paths lie in."""
    first, last = min(paths).split("/"), max(paths).split("/")
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first[:-1], last[:-1], strict=False))
    return "/".join(part for part, _ in same)


def _named(address: str) -> tuple[str, str]:
    """Namespace and name, as OpenLineage has them for files and for objects in a bucket."""
    scheme = scheme_of(address)
    if scheme == "file":
        return "file", address.removeprefix("file://")
    bucket, _, name = address.partition("://")[2].partition("/")
    return f"{scheme}://{bucket}", name


def _end_of(event: RunSucceeded | RunFailed | RunCancelled) -> str:
    return {RunSucceeded: "COMPLETE", RunFailed: "FAIL", RunCancelled: "ABORT"}[type(event)]
