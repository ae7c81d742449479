"""Ten questions in SQL: through sqlite-utils, and through a Datasette process, with the answers of the page."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import click.testing
import pytest

from execution.cli.main import cli
from runstore.audit import QUESTIONS, Question
from tests.acceptance.pages import ROOT, asked, parameters_of, sql_page


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the store of format 1."""
    path = tmp_path_factory.mktemp("sql") / "runs.db"
    shutil.copy(ROOT / "fixtures" / "stores" / "v1" / "runs.db", path)
    return path


def test_the_page_has_the_answers() -> None:
    """docs/sql.md is what scripts/make_docs.py makes: each question, and what sqlite-utils answers."""
    assert len(QUESTIONS) == 10
    assert (ROOT / "docs" / "sql.md").read_text(encoding="utf-8") == sql_page()


def test_every_question_has_an_answer(database: Path) -> None:
    """None of them is empty on the run that was chosen."""
    for question in QUESTIONS:
        assert len(asked(database, question).splitlines()) > 1, question.name


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.name)
def test_a_newer_sqlite_gives_the_same_answers(question: Question, database: Path) -> None:
    """What Python's SQLite answers, the newer one that apsw brings answers too."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as older:
        expected = older.execute(question.sql, parameters_of(question)).fetchall()
    newer = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    with contextlib.closing(newer):
        assert newer.execute(question.sql, parameters_of(question)).fetchall() == expected


@pytest.fixture(scope="module")
def datasette(database: Path) -> Iterator[str]:
    """The address of a Datasette process with the shipped metadata, on a port that the system chose."""
    pytest.importorskip("datasette")
    metadata = database.with_name("metadata.json")
    metadata.write_text(click.testing.CliRunner().invoke(cli, ["datasette-metadata"]).output)
    command = [
        sys.executable,
        "-m",
        "datasette",
        "serve",
        str(database),
        "--metadata",
        str(metadata),
    ]
    process = subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found and "running on" in line:
                yield found[0]
                break
        else:
            pytest.fail("datasette did not start: " + "".join(lines))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.name)
def test_datasette_gives_the_same_answers(
    question: Question, datasette: str, database: Path
) -> None:
    """Each canned query of the metadata answers as sqlite-utils does."""
    query = urllib.parse.urlencode({**parameters_of(question), "_shape": "array"})
    with urllib.request.urlopen(
        f"{datasette}/runs/{question.name}.json?{query}", timeout=30
    ) as page:
        rows: list[dict[str, Any]] = json.load(page)
    expected = list(csv.DictReader(io.StringIO(asked(database, question))))
    shown = [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]
    assert shown == expected


def test_datasette_describes_the_views(datasette: str) -> None:
    """The page of a view says what it is."""
    with urllib.request.urlopen(f"{datasette}/runs/keys", timeout=30) as page:
        assert "never started is a row" in page.read().decode()
