"""An audit command that cannot read, or cannot write, says so in one line: the fact, the address, the remedy."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest

from execution.cli.main import cli
from tests.acceptance.audited import RUN, Audited

REFUSED = "Permission denied"
Refuse = Callable[[Path], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Have the system refuse all that lies at a path, as it does to a user who may not; root may all."""
    refused: list[str] = []

    def refusing(function: Callable[..., object]) -> Callable[..., object]:
        def asked(path: object, *rest: object, **options: object) -> object:
            if isinstance(path, str | Path) and str(path).startswith(tuple(refused)):
                raise PermissionError(13, REFUSED, str(path))
            return function(path, *rest, **options)

        return asked

    for module, name in ((os, "stat"), (os, "mkdir"), (io, "open")):
        monkeypatch.setattr(module, name, refusing(getattr(module, name)))
    return lambda path: refused.append(str(path))


def told(*words: str | Path) -> tuple[int, str]:
    """Exit code and what was printed; there is no traceback."""
    ended = click.testing.CliRunner().invoke(cli, [str(word) for word in words])
    assert isinstance(ended.exception, SystemExit | None), ended.exc_info
    return ended.exit_code, ended.output


def test_a_file_that_cannot_be_read(audited: Audited, tmp_path: Path, refuse: Refuse) -> None:
    """`who` names the file, and its sha256 as another way."""
    (tmp_path / "secret").write_text("x")
    refuse(tmp_path / "secret")
    code, text = told("who", tmp_path / "secret", "--store", audited.store)
    assert (code, REFUSED in text, "give its sha256" in text) == (3, True, True)


def test_a_name_that_no_file_can_have(audited: Audited) -> None:
    """`who` answers that nothing of that name was stored."""
    code, text = told("who", "x" * 5_000, "--store", audited.store)
    assert (code, "no run of" in text) == (2, True)


def test_a_store_that_cannot_be_seen(audited: Audited, refuse: Refuse) -> None:
    """Its folder is named, and what is in the way."""
    refuse(audited.store)
    code, text = told("runs", "--store", audited.store)
    assert (code, REFUSED in text, str(audited.store) in text) == (2, True, True)


@pytest.mark.parametrize("form", ["jsonl", "html", "openlineage", "otel", "parquet"])
@pytest.mark.parametrize("place", ["no folder/file", "file/file", "refused"])
def test_a_place_that_cannot_be_written(
    form: str, place: str, audited: Audited, tmp_path: Path, refuse: Refuse
) -> None:
    """`export` names it, whatever the format."""
    (tmp_path / "file").touch()
    refuse(tmp_path / "refused")
    if (form, place) == ("parquet", "no folder/file"):
        place = "file"  # a folder that is missing is made
    words = ("export", RUN, "--format", form, "--out", tmp_path / place)
    code, text = told(*words, "--store", audited.store)
    assert (code, f"{tmp_path / place}: " in text, "name another place" in text) == (2, True, True)


def test_what_cannot_be_exported_costs_no_file(audited: Audited, tmp_path: Path) -> None:
    """A file that is there stays as it was where the run is not to be had; none is made."""
    (tmp_path / "kept").write_text("kept")
    for form in ("jsonl", "html", "otel", "openlineage"):
        for name in ("kept", "new"):
            words = ("export", "nobody", "--format", form, "--out", tmp_path / name)
            assert told(*words, "--store", audited.store)[0] == 2
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("kept", "kept")]


@pytest.mark.parametrize("form", ["html", "parquet", "openlineage", "otel"])
def test_a_table_of_what_has_none(form: str, audited: Audited, tmp_path: Path) -> None:
    """`--table` is for lines of JSON; elsewhere it is refused, not passed over."""
    words = ("export", RUN, "--format", form, "--table", "steps", "--out", tmp_path / "out")
    assert told(*words, "--store", audited.store)[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cursor", ["x", "x[y]", "0[Europe]", "1", "1[nobody]", "99[Europe]", "1["])
def test_a_cursor_that_no_page_has_given(cursor: str, audited: Audited) -> None:
    """`keys --after` refuses it: an empty page, or that of other keys, would be taken for an answer."""
    code, text = told("keys", RUN, "--after", cursor, "--store", audited.store)
    assert (code, "is no cursor" in text) == (2, True)


def test_a_log_that_cannot_be_read(
    audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is named, and that it has to be readable: no space has to be freed."""
    shutil.copytree(audited.store, tmp_path / "store")
    log = tmp_path / "store" / "runs.db"
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != log and access(path, mode))
    code, text = told("show", RUN, "--store", tmp_path / "store")
    assert (code, f"{log}: {REFUSED}; make it readable" in text) == (3, True)
