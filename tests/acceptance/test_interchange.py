"""A run as OpenLineage events and as OpenTelemetry spans, held against what its ops noted outside of the log."""

import datetime as dt
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from execution.cli.main import cli
from runstore import RunStore
from runstore.audit import timeline
from runstore.audit.export_openlineage import openlineage_lines
from runstore.audit.export_otel import otel_lines
from runstore.errors import ConfigError
from runstore.log.events import HousekeepingBegun, RunEnded
from tests.acceptance.audited import FAILED, KILLED, MESSAGE, RUN, TREE, Audited
from tests.acceptance.pages import ROOT


@pytest.fixture
def store(audited: Audited) -> Iterator[RunStore]:
    """The store of the run, to read."""
    with RunStore.open(audited.store, must_exist=True) as found:
        yield found


def exported(audited: Audited, form: str, *more: str) -> list[dict[str, Any]]:
    """The lines that the command gives."""
    words = ["export", RUN, "--format", form, "--store", str(audited.store), *more]
    ended = click.testing.CliRunner().invoke(cli, words)
    assert ended.exit_code == 0, ended.output
    return [json.loads(line) for line in ended.stdout.splitlines()]


# OpenLineage


def test_openlineage_of_a_run_and_its_ops(audited: Audited) -> None:
    """One START and one COMPLETE each, the ops with the run as their parent, in the order of their times."""
    pytest.importorskip("openlineage.client")
    events = exported(audited, "openlineage")
    found = Counter((event["job"]["name"], event["eventType"]) for event in events)
    ops = ["regions", "cities", "length", "add", "report"]
    jobs = ["count_cities", *(f"count_cities.{op}" for op in ops)]
    assert found == {(job, kind): 1 for job in jobs for kind in ("START", "COMPLETE")}
    times = [event["eventTime"] for event in events]
    assert times == sorted(times)
    run = events[0]["run"]["runId"]
    for event in events:
        if event["job"]["name"] != "count_cities":
            assert event["run"]["facets"]["parent"]["run"]["runId"] == run
    assert exported(audited, "openlineage") == events


def test_openlineage_datasets_lead_from_op_to_op(audited: Audited) -> None:
    """What an op reads is what another has given, by the address where it lies."""
    pytest.importorskip("openlineage.client")
    ends = {
        event["job"]["name"].partition(".")[2]: event
        for event in exported(audited, "openlineage")
        if event["eventType"] == "COMPLETE"
    }
    given = {op: [one["name"] for one in event["outputs"]] for op, event in ends.items()}
    read = {op: [one["name"] for one in event["inputs"]] for op, event in ends.items()}
    for op, source in [
        ("cities", "regions"),
        ("length", "cities"),
        ("add", "length"),
        ("report", "add"),
    ]:
        assert read[op] == given[source]
    (report,) = given["report"]
    assert json.loads(Path(report).read_text()) is not None
    statistics = ends["length"]["outputs"][0]["outputFacets"]["outputStatistics"]
    assert statistics["fileCount"] == sum(map(len, TREE.values()))


def test_openlineage_through_the_file_transport(audited: Audited, tmp_path: Path) -> None:
    """The file holds the same events, with the client's tag; one that exists is not appended to."""
    pytest.importorskip("openlineage.client")
    file = tmp_path / "events.json"
    assert exported(audited, "openlineage", "--out", str(file)) == []
    written = [json.loads(line) for line in file.read_text().splitlines()]
    for event in written:
        event["run"]["facets"].pop("tags", None)
    assert written == exported(audited, "openlineage")
    from runstore.audit.export_openlineage import export_openlineage

    with (
        RunStore.open(audited.store, must_exist=True) as store,
        pytest.raises(ConfigError, match="exists"),
    ):
        export_openlineage(store, RUN, file)


# OpenTelemetry


def test_spans_of_a_run_its_epochs_and_attempts(audited: Audited, store: RunStore) -> None:
    """One for the run, three for its epochs, one for each call of an op; in one trace, each below its epoch."""
    pytest.importorskip("opentelemetry.sdk")
    spans = exported(audited, "otel")
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    by_id = {span["context"]["span_id"]: span for span in spans}
    assert len(by_id) == len(spans)
    steps = [span for span in spans if "runstore.step" in span["attributes"]]
    assert Counter(span["attributes"]["runstore.step"] for span in steps) == audited.attempts()
    assert len(spans) == 1 + 3 + len(steps)
    for span in steps:
        epoch = by_id[span["parent_id"]]
        seq = span["attributes"]["runstore.seq"]
        assert epoch["name"] == f"epoch {store.event(RUN, seq).epoch}"
        assert span["start_time"] == instant(store.event(RUN, seq).time)
        assert epoch["start_time"] <= span["start_time"] <= span["end_time"] <= epoch["end_time"]


def test_spans_tell_what_went_wrong(audited: Audited) -> None:
    """The killed attempt is interrupted, the failed one has the op's exception, the epochs their ends."""
    pytest.importorskip("opentelemetry.sdk")
    spans = exported(audited, "otel")

    def of(*keys: str) -> list[dict[str, Any]]:
        step = Audited.step(*keys)
        return [span for span in spans if span["attributes"].get("runstore.step") == step]

    assert [span["status"].get("description") for span in of(*KILLED)] == ["interrupted", None]
    failed, mended = of(*FAILED)
    (event,) = failed["events"]
    assert event["attributes"]["exception.message"] == MESSAGE
    assert mended["status"]["status_code"] == "OK"
    ends = {
        span["name"]: span["status"].get("description")
        for span in spans
        if span["name"].startswith("epoch")
    }
    assert ends == {"epoch 1": "died", "epoch 2": "RunFailed", "epoch 3": None}


def instant(time: dt.datetime) -> str:
    """A time as the SDK writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# Housekeeping


@pytest.fixture
def tidied(tmp_path: Path) -> Iterator[RunStore]:
    """A run of format 1 whose outputs were moved and deleted after its end."""
    shutil.copytree(ROOT / "fixtures" / "stores" / "v1", tmp_path / "store")
    with RunStore.open(tmp_path / "store", must_exist=True) as found:
        yield found


def test_housekeeping_is_no_part_of_the_work(tidied: RunStore) -> None:
    """Epochs in which no step runs are shown as such; the run ended when it ended."""
    ends = [event.time for _, event in tidied.events("tidied") if isinstance(event, RunEnded)]
    begun = [event for _, event in tidied.events("tidied") if isinstance(event, HousekeepingBegun)]
    assert begun
    drawn = timeline(tidied, "tidied")
    kept = [one for one in drawn.epochs if one.ended == "housekeeping"]
    assert [one.epoch for one in kept] == [event.epoch for event in begun]
    assert all(bar.ended <= ends[-1] for line in drawn.lines for bar in line.bars)
    pytest.importorskip("openlineage.client")
    pytest.importorskip("opentelemetry.sdk")
    events = [json.loads(line) for line in openlineage_lines(tidied, "tidied")]
    (end,) = [
        one for one in events if one["job"]["name"] == "offsets" and one["eventType"] != "START"
    ]
    assert dt.datetime.fromisoformat(end["eventTime"]) == ends[-1]
    spans = [json.loads(line) for line in otel_lines(tidied, "tidied")]
    named = [span for span in spans if any(one.purpose in span["name"] for one in begun)]
    assert len(named) == len(begun)
    assert {span["status"]["status_code"] for span in named} == {"OK"}
