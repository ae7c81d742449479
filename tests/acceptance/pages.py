"""The pages of `docs/` as they must be, made from real answers: for whoever writes them, and for the tests."""

import shutil
import tempfile
from pathlib import Path

import click.testing
import sqlite_utils.cli

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
