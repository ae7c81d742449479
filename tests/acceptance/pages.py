"""The pages of `docs/` as they must be, made from real answers: for whoever writes them, and for the tests."""

import contextlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click.testing
import sqlite_utils.cli

from execution.cli.main import cli
from runstore.audit import QUESTIONS, Question

ROOT = Path(__file__).resolve().parent.parent.parent
PARAMETERS = {
    "run_id": "mended",
    "op": "minutes",
    "step": "table",
    "sha256": "39fa9ec190eee7b6f4dff1100d6343e10918d044c75eac8f9e9a2596173f80c9",
}
"""What the questions are asked about."""
OTHER_STEP = {"made_of_it": "zones"}


def parameters_of(question: Question) -> dict[str, str]:
    """The parameters that occur in a question."""
    given = PARAMETERS | (
        {"step": OTHER_STEP[question.name]} if question.name in OTHER_STEP else {}
    )
    return {name: value for name, value in given.items() if f":{name}" in question.sql}


def asked(database: Path, question: Question) -> str:
    """What sqlite-utils prints."""
    words = ["query", str(database), question.sql, "--csv"]
    for name, value in parameters_of(question).items():
        words += ["-p", name, value]
    ended = click.testing.CliRunner().invoke(sqlite_utils.cli.cli, words)
    assert ended.exit_code == 0, ended.output
    return ended.output.replace("\r\n", "\n").strip()


def sql_page() -> str:
    """`docs/sql.md`."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "runs.db"
        shutil.copy(ROOT / "fixtures" / "stores" / "v1" / "runs.db", database)
        parts = [_part(number, one, database) for number, one in enumerate(QUESTIONS, 1)]
    return _HEAD + "\n".join(parts)


def _part(number: int, question: Question, database: Path) -> str:
    given = ", ".join(f"`{name}` = `{value}`" for name, value in parameters_of(question).items())
    asked_with = f"Asked with {given}:\n\n" if given else ""
    return (
        f"## {number}. {question.title}\n\n```sql\n{question.sql}\n```\n\n"
        f"{asked_with}```csv\n{asked(database, question)}\n```\n"
    )


_HEAD = """# Ten questions in SQL

`runs.db` opens in any SQLite tool, while it is written to as well; [FORMAT.md](../FORMAT.md#views) describes its
views. Every answer below is that of the store in `fixtures/stores/v1`, whose run `mended` was killed, failed, lost an
output and was resumed to its end; tests ask each question through sqlite-utils and through a Datasette process.

```
sqlite-utils query .runstore/runs.db "SELECT step, status FROM steps WHERE run_id = :run_id" -p run_id mended --table

runstore datasette-metadata > metadata.json
datasette .runstore/runs.db --metadata metadata.json          # the ten questions are its canned queries
```

Name the run with `run_id = …` as a value, so that SQLite reads that run alone.

"""


# The walk of an auditor


def walk_page(text: str) -> str:
    """`docs/auditor.md` with the real output behind each command."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), _settings():
        shutil.copytree(ROOT / "fixtures" / "stores" / "v1", ".runstore")
        return re.sub(
            r"(?<=```console\n).*?(?=```)", lambda found: _session(found[0]), text, flags=re.S
        )


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """A terminal of 80 columns, and no setting of whoever makes the page."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("RUNSTORE_")]:
        del os.environ[name]
    os.environ["COLUMNS"] = "80"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _session(block: str) -> str:
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"{command}\n{_output(command[2:])}" for command in commands)


def _output(command: str) -> str:
    """What a command prints; `cp` and `rm` are done here, `$(runstore anchor …)` is put in."""
    inner = re.search(r"\$\((.*?)\)", command)
    if inner:
        command = command.replace(inner[0], _output(inner[1]).strip())
    name, *words = shlex.split(command)
    if name == "cp":
        shutil.copy(*words)
        return ""
    if name == "rm":
        Path(words[0]).unlink()
        return ""
    assert name == "runstore", command
    ended = click.testing.CliRunner().invoke(cli, words)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.output.replace(os.getcwd(), ".").replace(os.path.realpath("."), ".")


# The walk with two terminals

DASK_WALK = ROOT / "fixtures" / "walks" / "dask.txt"
"""What `scripts/walk_dask.py` has typed and seen."""


def job_of_readme() -> str:
    """The first complete job of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```python complete\n(.*?)^```$", readme, re.M | re.S)
    assert found is not None
    return found[1]


def dask_page(text: str) -> str:
    """`docs/dask.md` with the blocks of the transcript, in their order, in place of those that it has."""
    blocks = iter(
        re.split(r"^=== (?=terminal)", DASK_WALK.read_text(encoding="utf-8"), flags=re.M)[1:]
    )

    def block(found: re.Match[str]) -> str:
        terminal, _, lines = next(blocks).partition("\n")
        return f"{terminal.capitalize()}:\n\n```console\n{lines}```"

    page = re.sub(r"Terminal \d:\n\n```console\n.*?```", block, text, flags=re.S)
    assert next(blocks, None) is None, "the transcript has more blocks than the page"
    return page
