"""A run is given to other programs and to another store, and is there what it was here."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest

from execution.cli.main import cli
from runstore import RunStore
from runstore.audit import TABLES, anchor, export_log, export_rows, verify
from runstore.errors import InvalidKey, LogDamaged, RunConflict
from tests.acceptance.audited import KILLED, RUN, Audited


@pytest.fixture
def store(audited: Audited) -> Iterator[RunStore]:
    """The store of the run, to read."""
    with RunStore.open(audited.store, must_exist=True) as found:
        yield found


def test_another_store_takes_a_run_in(store: RunStore, tmp_path: Path) -> None:
    """Row by row, byte by byte: the same anchor, and valid once its outputs are there."""
    lines = list(export_log(store, RUN))
    with RunStore.open(tmp_path / "other") as other:
        assert other.take_in(lines, "file") == RUN
        assert list(other.rows(RUN)) == list(store.rows(RUN))
        assert str(anchor(other, RUN)) == str(anchor(store, RUN))
        assert {one.rule for one in verify(other, RUN).findings} == {"O1"}
        assert store.directory is not None
        shutil.copytree(store.directory / "outputs", tmp_path / "other" / "outputs")
        assert verify(other, RUN, deep=True).ok
        with pytest.raises(RunConflict, match="already"):
            other.take_in(lines, "file")


@pytest.mark.parametrize("damage", ["cut", "edited", "swapped", "header", "renamed", "not ours"])
def test_a_file_that_is_not_what_was_exported(damage: str, store: RunStore, tmp_path: Path) -> None:
    """It is refused, and nothing is written."""
    lines = list(export_log(store, RUN))
    match damage:
        case "cut":
            lines.pop()
        case "edited":
            lines[5] = lines[5].replace('"epoch":1', '"epoch":2')
        case "swapped":
            lines[4], lines[5] = lines[5], lines[4]
        case "header":
            del lines[0]
        case "renamed":
            lines[0] = lines[0].replace(RUN, "../elsewhere")
        case _:
            lines = ['{"some": "other file"}']
    with (
        RunStore.open(tmp_path / "other") as other,
        pytest.raises((LogDamaged, InvalidKey)),
    ):
        other.take_in(lines, "file")
    assert not (tmp_path / "other" / "runs.db").exists()


def test_a_log_that_is_not_valid_is_not_taken_in(store: RunStore, tmp_path: Path) -> None:
    """Also where the file is just what was exported from it."""
    from runstore.log.lines import to_lines

    rows = [(seq, body) for seq, body in store.rows(RUN)][:6]
    rows[5] = (6, rows[5][1].replace('"epoch":1', '"epoch":2'))
    with (
        RunStore.open(tmp_path / "other") as other,
        pytest.raises(LogDamaged, match="epoch 2, expected 1"),
    ):
        other.take_in(to_lines(RUN, rows), "file")


@pytest.mark.parametrize("name", TABLES)
def test_tables_as_lines(name: str, store: RunStore) -> None:
    """Every row is a JSON object that names the run."""
    rows = [json.loads(line) for line in export_rows(store, RUN, name)]
    assert rows
    assert {row["run_id"] for row in rows} == {RUN}


def test_tables_as_parquet(audited: Audited, store: RunStore, tmp_path: Path) -> None:
    """The same rows as the lines have, in files that pyarrow reads."""
    parquet = pytest.importorskip("pyarrow.parquet")
    words = ["export", RUN, "--format", "parquet", "--out", str(tmp_path / "tables")]
    ended = click.testing.CliRunner().invoke(cli, [*words, "--store", str(audited.store)])
    assert ended.exit_code == 0, ended.output
    for name in TABLES:
        rows = parquet.read_table(tmp_path / "tables" / f"{name}.parquet").to_pylist()
        assert rows == [json.loads(line) for line in export_rows(store, RUN, name)]


def test_the_commands(audited: Audited, tmp_path: Path) -> None:
    """Exported into a file or a pipe, imported from it, explained there."""
    call = click.testing.CliRunner()
    file, other = tmp_path / "run.jsonl", str(tmp_path / "other")
    words = ["export", RUN, "--store", str(audited.store)]
    assert call.invoke(cli, [*words, "--out", str(file)]).exit_code == 0
    assert call.invoke(cli, words).stdout == file.read_text()
    assert call.invoke(cli, ["import", str(file), "--store", other]).exit_code == 0
    step = Audited.step(*KILLED)
    told = call.invoke(cli, ["explain", RUN, step, "--store", other])
    assert "ran again in epoch 2" in told.output or "reused by the resume" in told.output
    again = call.invoke(cli, ["import", str(file), "--store", other])
    assert again.exit_code == 4
    assert "already" in again.output
    assert call.invoke(cli, ["import", "nowhere", "--store", other]).exit_code == 2
