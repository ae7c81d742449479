"""Documentation that names code is held against it; yesterday's files open for ever."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from execution import RunResult, plan_resume, resume
from runstore import OutputReference, RunStore
from runstore.audit.cat import cat
from runstore.log import schema
from runstore.log.events import (
    KINDS,
    DynamicOutputStored,
    Event,
    ExpansionSealed,
    OutputStored,
)
from runstore.log.state import RunState
from scripts.make_format_fixture import diagram, transition_table

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "fixtures" / "stores" / "v1"
README = ROOT / "README.md"
FORMAT = (ROOT / "FORMAT.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()

MENDED = {
    "zones": {"Europe/Paris": "+01:00", "Asia/Kolkata": "+05:30", "UTC": "+00:00"},
    "minutes": {"Europe/Paris": 60, "Asia/Kolkata": 330, "UTC": 0},
    "odd_minutes": {"Asia/Kolkata": 30},
    "describe": {"Asia/Kolkata": "30 minutes beside full hours"},
    "table": {"Europe/Paris": 60, "Asia/Kolkata": 330, "UTC": 0},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A copy of the store of format 1."""
    shutil.copytree(FIXTURE, tmp_path / "store")
    with RunStore.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], str]:
    """(run id, seq) -> body of every event of that store."""
    directory = tmp_path_factory.mktemp("v1") / "store"
    shutil.copytree(FIXTURE, directory)
    with RunStore.open(directory) as opened:
        return {
            (run.run_id, seq): body
            for run in opened.runs()
            for seq, body in opened.rows(run.run_id)
        }


# Reading documents


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next one of the same or a higher rank; titles are unique."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.M | re.S)
    assert found, f"no section {title!r}"
    marks, body = found.groups()
    return re.split(rf"^#{{1,{len(marks)}}} ", body, flags=re.M)[0]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks whose info string is `language`."""
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", text, re.M | re.S)


def code_words(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def one_space(text: str) -> str:
    """The text with each run of white space as one space."""
    return " ".join(text.split())


# FORMAT.md: events

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


@every_kind
def test_every_kind_has_a_section_with_its_fields(kind: type[Event]) -> None:
    """The table of a kind lists the fields of its class in their order, with their defaults."""
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section(FORMAT, kind.__name__), re.M)
    fields = [
        field for field in msgspec.structs.fields(kind) if field.name not in ("epoch", "time")
    ]
    if kind is KINDS["RunStarted"]:  # its default stands for rows of no known format
        assert listed.pop(0) == ("format", "—")
        fields.pop(0)
    assert listed == [(field.name, default_text(field)) for field in fields]


def default_text(field: msgspec.structs.FieldInfo) -> str:
    """The default of a field as FORMAT.md writes it: JSON, or a dash where there is none."""
    if field.default is msgspec.NODEFAULT:
        return "—"
    return f"`{json.dumps(field.default)}`"


@every_kind
def test_every_example_is_a_row_of_the_fixture(
    kind: type[Event], rows: dict[tuple[str, int], str]
) -> None:
    """Each kind has an example, and it is, but for line breaks between fields, the row that it says it is."""
    text = section(FORMAT, kind.__name__)
    found = re.search(r"Run `(\w+)`, seq (\d+):\n\n```json\n(.*?)```", text, re.S)
    assert found, kind
    run, seq, example = found.groups()
    body = rows[run, int(seq)]
    assert re.sub(r"\n *", "", example) == body
    assert json.loads(body)["kind"] == kind.__name__


def test_the_fixture_has_every_kind(rows: dict[tuple[str, int], str]) -> None:
    """No kind of event is missing in the store that later versions must open."""
    assert {json.loads(body)["kind"] for body in rows.values()} == set(KINDS)


def test_the_reference_is_described() -> None:
    """The table of a reference lists its fields, in their order."""
    listed = re.findall(r"^\| `(\w+)` \|", section(FORMAT, "References and bases"), re.M)
    assert listed == [field.name for field in msgspec.structs.fields(OutputReference)]


def test_digests_cover_what_the_document_says(rows: dict[tuple[str, int], str]) -> None:
    """Every digest in the fixture is computed here from the words of FORMAT.md alone."""
    digests = 0
    for run in ("mended", "stopped", "redone", "tidied"):
        bodies = [body for (run_id, _), body in rows.items() if run_id == run]
        events = [json.loads(body) for body in bodies]
        for place, event in enumerate(events):
            if "log_digest" in event:
                earlier = "".join(f"{seq} {body}\n" for seq, body in enumerate(bodies[:place], 1))
                assert event["log_digest"] == sha256(earlier)
                digests += 1
    assert digests == 22
    events = {seq: json.loads(body) for (run, seq), body in rows.items() if run == "mended"}
    keys = [event["mapping_key"] for event in events.values() if "mapping_key" in event]
    assert keys == ["Europe/Paris", "Asia/Kolkata", "UTC"]
    assert events[6]["keys_digest"] == sha256("".join(key + "\0" for key in keys))
    collected = {
        event["step"]: event["reference"]["sha256"]
        for seq, event in events.items()
        if event["kind"] == "OutputStored" and seq < 33
    }
    pairs = "".join(f"{key}\0{collected[f'minutes[{key}]']}\0" for key in keys)
    assert events[33]["digest"] == sha256(pairs)


def sha256(text: str) -> str:
    """Of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


# FORMAT.md: tables and files


def test_the_tables_are_those_of_the_schema() -> None:
    """The SQL blocks of FORMAT.md are the texts of schema.py, all of them and no other."""
    shown = [one_space(block) for block in blocks(FORMAT, "sql")]
    assert sorted(shown) == sorted(one_space(ddl) for ddl in schema.OBJECTS.values())
    for row in schema.STATISTICS:
        assert "  ".join(text or "NULL" for text in row) in FORMAT


def test_versions_are_named() -> None:
    """The numbers that stand in the file are those of the document."""
    assert f"`application_id` 0x{schema.APPLICATION_ID:X}" in FORMAT
    assert f"`user_version` {schema.SCHEMA_VERSION}" in FORMAT


def test_the_listing_is_that_of_the_fixture() -> None:
    """The directory listing shows every file of the fixture, and nothing else."""
    (listing,) = blocks(FORMAT, "listing")
    shown = [line.split()[0] for line in listing.splitlines()]
    assert shown == sorted(
        path.relative_to(FIXTURE).as_posix() for path in FIXTURE.rglob("*") if path.is_file()
    )


# FORMAT.md: invariants


def invariants() -> list[tuple[str, str, str, str]]:
    """(name, kept by, checked by, tested by) of each invariant."""
    found = re.findall(
        r"^\*\*(I\d+)\*\* .*?\n\n- \*kept by\* (.*?)\n- \*checked by\* (.*?)\n- \*tested by\* (.*?)\n",
        section(FORMAT, "Invariants") + "\n",
        re.M | re.S,
    )
    assert [name for name, *_ in found] == [f"I{number}" for number in range(1, len(found) + 1)]
    assert len(found) == len(re.findall(r"^\*\*I\d+\*\*", FORMAT, re.M)) >= 15
    return found


def test_invariants_name_code_that_exists() -> None:
    """Whoever keeps or checks an invariant is a function, a class or a text of that name."""
    for name, kept, checked, _ in invariants():
        words = [word for word in code_words(f"{kept} {checked}") if "." in word]
        assert set(words) & set(code_words(kept)), name
        for word in words:
            find_object(word)


def find_object(dotted: str) -> Any:
    """The object behind `package.module.Class.function`."""
    parts = dotted.split(".")
    for size in range(len(parts) - 1, 0, -1):
        if (ROOT / Path(*parts[:size])).with_suffix(".py").is_file():
            found: Any = import_module(".".join(parts[:size]))
            for part in parts[size:]:
                found = getattr(found, part)
            return found
    raise AssertionError(f"{dotted} names no module")


def test_invariants_name_tests_that_exist() -> None:
    """Each invariant names at least one test, by file and function."""
    for name, _, _, tested in invariants():
        assert code_words(tested), name
        for word in code_words(tested):
            file, _, function = word.partition("::")
            assert function in functions_of(ROOT / "tests" / file), word


@cache
def functions_of(file: Path) -> set[str]:
    """The functions of a test module."""
    tree = ast.parse(file.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# The life of a step, generated


def test_the_diagram_is_generated_from_the_code() -> None:
    """ARCHITECTURE.md shows the table of transitions as it is; `make_format_fixture.py --documents` draws it anew."""
    assert blocks(section(ARCHITECTURE, "The life of a step"), "mermaid") == [diagram()]


def test_the_table_of_transitions_is_generated_from_the_code() -> None:
    """FORMAT.md shows it too, as a table."""
    assert transition_table() in section(FORMAT, "Validity")


# ARCHITECTURE.md


def modules() -> list[str]:
    """Every module of both packages, as a path from the root."""
    files = [
        path for package in ("runstore", "execution") for path in (ROOT / package).rglob("*.py")
    ]
    return sorted(path.relative_to(ROOT).as_posix() for path in files if path.name != "__init__.py")


def test_every_module_is_on_the_map() -> None:
    """Each module has its line in ARCHITECTURE.md, and each module named there exists."""
    named = re.findall(r"^\| `((?:runstore|execution)/[\w/]+\.py)` \|", ARCHITECTURE, re.M)
    assert sorted(named) == modules()


def test_paths_in_documents_exist() -> None:
    """A file that a document names by its path is there."""
    for text in (FORMAT, ARCHITECTURE):
        for word in code_words(text):
            if re.fullmatch(r"(runstore|execution|tests|scripts|fixtures)(/[\w.-]+)+", word):
                assert (ROOT / word).exists(), word


# Yesterday's files


def test_the_fixture_gives_what_it_gave(store: RunStore) -> None:
    """The store of format 1 opens, all runs fold, and every output that counts has its value."""
    assert [(run.run_id, run.status, run.epoch) for run in store.runs()] == [
        ("mended", "succeeded", 3),
        ("stopped", "cancelled", 2),
        ("redone", "succeeded", 1),
        ("tidied", "succeeded", 4),
    ]
    result = RunResult.load("mended", store)
    assert {node: result.output_for_node(node) for node in MENDED} == MENDED
    assert result.failures == []
    assert cat(store, "mended", "minutes[Asia/Kolkata]").data == b"330"
    state = store.state("stopped")
    assert list(state.steps_of(state.graph.by_name["minutes"])) == []
    redone = RunResult.load("redone", store)
    assert redone.output_for_node("minutes") == MENDED["minutes"]
    assert redone.output_for_node("describe") == MENDED["describe"]
    assert store.users_of("mended") == ["redone"]
    tidied = RunResult.load("tidied", store)
    assert {node: tidied.output_for_node(node) for node in MENDED} == MENDED


def test_the_fixture_folds_at_every_length(store: RunStore) -> None:
    """Every prefix of its logs is a valid log: what a crash leaves behind."""
    for run in store.runs():
        state = RunState(run.run_id)
        for seq, event in store.events(run.run_id):
            state.apply(seq, event)
            assert state.seq == seq
        assert state.is_over()


def test_the_fixture_is_resumed(store: RunStore) -> None:
    """A run that was begun with format 1 is planned, resumed by the job that its log names, and ends right."""
    plans = {plan.node: plan for plan in plan_resume("stopped", store).nodes}
    assert plans["zones"].run == {"interrupted": 1}
    assert plans["minutes"].waiting
    result = resume("stopped", store)
    assert result.success
    assert {node: result.output_for_node(node) for node in MENDED} == MENDED
    assert resume("mended", store).success
    assert store.run("mended").epoch == 3


def test_every_reference_of_the_fixture_is_there(store: RunStore) -> None:
    """The files that its events name have their bytes, but for the one that was lost on purpose."""
    outputs = store.outputs(store.state("mended"))
    missing = [
        event.step
        for _, event in store.events("mended")
        if isinstance(event, OutputStored | DynamicOutputStored)
        and not outputs.is_there(event.reference, deep=True)
    ]
    assert missing == ["minutes[Europe/Paris]"]


def test_the_seal_of_the_stopped_run_has_no_success(rows: dict[tuple[str, int], str]) -> None:
    """The fixture keeps the cut that is easily got wrong: a seal on disk, and no success after it."""
    kinds = [json.loads(body)["kind"] for (run, _), body in rows.items() if run == "stopped"]
    assert ExpansionSealed.__name__ in kinds
    assert "StepSucceeded" not in kinds


def test_the_fixture_says_nothing_of_where_it_was_made() -> None:
    """Neither a host, nor a home, nor an absolute path is in it."""
    for path in FIXTURE.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not re.search(rb'"/|/home/|/root|/Users/|/tmp|/work|File \\"/', data), path
            assert set(re.findall(rb'"host":"(.*?)"', data)) <= {b"localhost"}


# README.md

if README.exists():
    COMPLETE_JOBS = blocks(README.read_text(), "python complete")

    def test_the_readme_has_a_complete_job() -> None:
        """A block that stands for itself is marked: its fence says `python complete`."""
        assert COMPLETE_JOBS

    @pytest.mark.parametrize("block", COMPLETE_JOBS)
    def test_complete_jobs_of_the_readme_run(block: str, tmp_path: Path) -> None:
        """Copied into a file of its own, in an empty folder, a complete job runs by the command."""
        (tmp_path / "my_job.py").write_text(block)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RUNSTORE_")
        }
        command = "from execution.cli.main import main; main()"
        ended = subprocess.run(
            [sys.executable, "-c", command, "run", "my_job.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
