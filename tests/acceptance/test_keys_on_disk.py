"""Every legal mapping key has files of its own, inside the outputs, on every file system; and can be typed back."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from execution import DynamicOut, DynamicOutput, OpContext, RunResult, execute, job, op, resume
from execution.cli.main import cli
from runstore import RunStore
from runstore.keys import format_step_key, parse_step_key
from tests.acceptance.three_stages import file_digests

RUN = "the-run"
PROMISED = [
    "a/b",
    "a_b",
    "../x",
    "/etc/x",
    "A",
    "a",
    "caf\u00e9",
    "cafe\u0301",
    "CON",
    "c[0]",
    "a%2Fb",
    "a" * 1024,
    "\U0001f600",
    "-rf",
    ".hidden",
    "trailing ",
    "trailing\n",
    "a.e2a1",
    "x.json",
]
NEIGHBOURS = [
    "a=2fb",
    "a%2fb",
    "../../../../../../tmp/x",
    "x",
    ".",
    "..",
    "/",
    "//",
    "Ab",
    "aB",
    "AB",
    "ab",
    "ab@1",
    "CAF\u00c9",
    "\u00df",
    "ss",
    "SS",
    "\u0130",
    "i",
    "con",
    "NUL.txt",
    "com1",
    "c[0",
    "]c[",
    "[]",
    "%",
    "%5B",
    "a" * 1023 + "b",
    "A" * 1024,
    "\u00e9" * 512,
    "/" * 1024,
    "\U0001f600\ufe0f",
    "-",
    "--help",
    "trailing",
    "trailing.",
    "\nleading",
    "\t",
    " ",
    "\x7f",
    "\u202eevil",
    "\u2028",
    "a.e2a2",
    "a.e1a1",
    "x.json.json",
    "*",
    "?",
    "a b",
    "'",
    '"',
    "$HOME",
    "`id`",
    "\\",
    "~",
    "#",
    "a:b",
    "=",
    "@",
    "=-" + "0" * 32,
    "0",
    "00",
]
"""What they could be taken for."""
KEYS = PROMISED + NEIGHBOURS


@op(out=DynamicOut(str))
def every_key() -> Iterator[DynamicOutput[str]]:
    """Each key as its own value."""
    for key in KEYS:
        yield DynamicOutput(key, mapping_key=key)


@op
def echo(context: OpContext, key: str) -> dict[str, str]:
    """What arrived; in the first epoch every third clone fails, so that it has a second attempt."""
    if context.epoch == 1 and KEYS.index(key) % 3 == 0:
        raise ValueError("not now")
    return {"mapped under": str(context.mapping_key), "value": key}


@op
def keys_in_order(found: dict[str, dict[str, str]]) -> list[str]:
    """The keys of a collect."""
    return list(found)


@job
def echo_all_keys() -> None:
    """Fan out over all keys, map, collect."""
    keys_in_order(every_key().map(echo).collect(as_dict=True))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run over all keys, resumed once."""
    directory = tmp_path_factory.mktemp("keys") / "deep" / "store"
    with RunStore.open(directory, level="fast") as opened:
        with pytest.warns(UserWarning, match="different Unicode forms"):
            first = execute(echo_all_keys, opened, run_id=RUN)
        assert len(first.failures) == len(range(0, len(KEYS), 3))
        assert resume(RUN, opened, job=echo_all_keys).success
    return directory


def test_every_value_is_right(store: Path) -> None:
    """Each clone got the value of its own key, and the collect has all keys in yield order."""
    result = RunResult.load(RUN, store, job=echo_all_keys)
    assert result.output_for_node("every_key") == {key: key for key in KEYS}
    assert result.output_for_node("echo") == {
        key: {"mapped under": key, "value": key} for key in KEYS
    }
    assert result.output_for_node("keys_in_order") == KEYS


def test_files_are_distinct(store: Path) -> None:
    """Each stored output has a file of its own, also where the file system ignores case or Unicode form."""
    with RunStore.open(store) as opened:
        rows = [json.loads(body) for _, body in opened.rows(RUN)]
    paths = [row["reference"]["path"] for row in rows if "reference" in row]
    assert len(paths) == 2 * len(KEYS) + 1
    assert len({path.casefold() for path in paths}) == len(paths)
    files = set(file_digests(store / "outputs" / RUN))
    assert files == set(paths)


def test_names_are_portable(store: Path) -> None:
    """Names are of `[A-Za-z0-9._=@+-]`, no device of Windows, not hidden, at most 100 characters; paths at most 800."""
    for path in file_digests(store / "outputs"):
        assert len(path.encode()) <= 800
        for part in path.split("/"):
            assert re.fullmatch(r"[A-Za-z0-9._=@+-]{1,100}", part), part
            assert not re.match(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)", part), part
            assert part[0] not in ".-"
            assert part[-1] not in ". "


def test_nothing_lies_outside(store: Path) -> None:
    """The run wrote nothing but its store."""
    root = store.parent.parent
    inside = {"runs.db", "runs.db-wal", "runs.db-shm", "runs.lock", "outputs"}
    assert {path.name for path in store.iterdir()} <= inside
    assert [path.name for path in root.iterdir()] == ["deep"]
    assert [path.name for path in store.parent.iterdir()] == ["store"]
    assert [path.name for path in (store / "outputs").iterdir()] == [RUN]
    assert not Path("/etc/x").exists()


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_step_keys_are_parsed_back(key: str) -> None:
    """A step key is one line without control characters, and leads back to node and key."""
    shown = format_step_key("echo", (key,))
    assert shown.isprintable() or not key.isprintable()
    assert "\n" not in shown
    assert parse_step_key(shown) == ("echo", (key,))
    assert parse_step_key(format_step_key("echo", (key, key))) == ("echo", (key, key))


def test_step_keys_round_trip_through_the_command_line(store: Path) -> None:
    """`runstore cat RUN 'echo[key]'` finds each clone by the step key that the log shows, and prints its value."""
    with RunStore.open(store) as opened:
        rows = [json.loads(body) for _, body in opened.rows(RUN)]
    shown = [row["step"] for row in rows if row["kind"] == "StepSucceeded" and "[" in row["step"]]
    assert {parse_step_key(step)[1][0] for step in shown} == set(KEYS)
    for step in shown:
        key = parse_step_key(step)[1][0]
        ended = CliRunner().invoke(cli, ["cat", "--store", str(store), RUN, step])
        assert ended.exit_code == 0, ended.output
        assert json.loads(ended.stdout) == {"mapped under": key, "value": key}


@pytest.mark.parametrize("key", PROMISED, ids=ascii)
def test_a_piece_is_printed_by_a_real_process(key: str, store: Path) -> None:
    """The same from a shell's point of view: arguments and output as bytes of another process."""
    ended = run_command("cat", "--store", str(store), RUN, format_step_key("every_key", (key,)))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == key


def test_a_key_that_does_not_exist(store: Path) -> None:
    """A step key without a step is one clear line and exit code 2, without a traceback."""
    ended = run_command("cat", "--store", str(store), RUN, "echo[nobody]")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "echo[nobody]" in ended.stderr


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "execution.cli.main", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONUTF8": "1"},
        check=False,
    )
