"""The command, called in this process: what it prints, and its exit codes."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from execution.cli.main import COMMANDS, cli
from runstore.keys import format_step_key
from tests.unit.cli_jobs import KEYS

JOBS = Path(__file__).with_name("cli_jobs.py")
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call `runstore` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("STORE", "OUTPUTS", "LEVEL"):
        monkeypatch.delenv(f"RUNSTORE_{name}", raising=False)

    def run(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, words, prog_name="runstore")
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def succeeded(call: Call) -> Call:
    """A store with one run that has succeeded."""
    call("run", f"{JOBS}:slow", "--level", "fast")
    return call


@pytest.fixture
def failed(call: Call) -> Call:
    """A store with one run of which some clones have failed."""
    call("run", f"{JOBS}:failing", "--level", "fast", code=1)
    return call


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


# What it costs


def test_help_imports_no_database_no_filesystem_no_engine() -> None:
    """`runstore --help` loads click and little else, and takes at most 0.3 s of CPU."""
    seconds, loaded = (
        python(
            "import sys, time\n"
            "from execution.cli.main import cli\n"
            "cli(['--help'], standalone_mode=False)\n"
            "heavy = {'sqlite_utils', 'sqlite3', 'fsspec', 'rich', 'execution.running.engine'} & set(sys.modules)\n"
            "print(time.process_time(), sorted(heavy), sep='|')"
        )
        .splitlines()[-1]
        .split("|")
    )
    assert loaded == "[]"
    assert float(seconds) < 0.3


def test_importing_execution_imports_no_terminal_library() -> None:
    """A worker or a notebook that imports `execution` pays for neither click nor rich."""
    loaded = python("import sys, execution; print({'click', 'rich'} & set(sys.modules))")
    assert loaded == "set()"


def test_every_public_name_is_there() -> None:
    """The names of both packages come lazily, and all of them come."""
    assert (
        python(
            "import execution, runstore\n"
            "print(all(getattr(p, name) is not None for p in (execution, runstore) for name in p.__all__))"
        )
        == "True"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(call: Call, name: str) -> None:
    """Each command of the list exists, is documented, and takes --store, unless it asks no store or is a group."""
    text = call(name, "--help").output
    needs_store = name != "datasette-metadata" and "Commands:" not in text
    assert ("--store" in text) == needs_store
    assert len(text.splitlines()) > 4


def test_version(call: Call) -> None:
    """`--version` prints the installed version."""
    assert call("--version").output.startswith("runstore ")


# Running


def test_run_says_how_it_went_and_what_to_type_next(call: Call) -> None:
    """A run prints its id, its counts and a command, all on standard error."""
    result = call("run", f"{JOBS}:slow", "--store", "my store")
    assert result.stdout == ""
    assert "succeeded in" in result.stderr
    assert "8 steps succeeded" in result.stderr
    assert "--store 'my store'" in result.stderr


def test_quiet_is_silent(call: Call) -> None:
    """With --quiet a run that succeeds prints nothing."""
    assert call("run", f"{JOBS}:slow", "--quiet").output == ""


def test_failed_run_shows_the_first_error_of_each_kind(call: Call) -> None:
    """A failed run exits 1; also with --quiet it shows its errors, harmless to a terminal, and ends with a command."""
    text = call("run", f"{JOBS}:failing", "--quiet", "--store", "s", code=1).stderr
    assert r"fragile[b/c] and 3 more of fragile: ValueError: no B/C\x1b[31m" in text
    assert "second line" not in text
    assert text.splitlines()[-1].startswith("next:  runstore resume ")
    assert text.splitlines()[-1].endswith(" --store s")


def test_resume_runs_what_the_dry_run_counts(failed: Call) -> None:
    """`resume --dry-run` writes nothing, and `resume` begins with the same counts."""
    before = failed("log").output
    plan = json.loads(failed("resume", "--dry-run", "--json").output)
    told = failed("resume", "--dry-run").output
    assert failed("log").output == before
    assert {node["node"]: node["run"] for node in plan["nodes"]} == {
        "fan": {},
        "fragile": {"failed": 4},
        "count": {"never started": 1},
    }
    counts = "epoch 2: 3 steps reused, 5 to run (4 failed, 1 never started)"
    assert counts in told
    assert counts in failed("resume").stderr


def test_resume_of_a_succeeded_run_does_nothing(succeeded: Call) -> None:
    """It says so and exits 0, in the dry run too."""
    events = succeeded("log").output
    assert "already succeeded" in succeeded("resume").stderr
    assert "already succeeded" in succeeded("resume", "--dry-run").output
    assert succeeded("log").output == events


def test_run_id_makes_run_repeatable(call: Call) -> None:
    """`run --run-id` starts, then resumes, then reports success (T1)."""
    words = ("run", f"{JOBS}:failing", "--run-id", "nightly")
    assert "run nightly of failing" in call(*words, code=1).stderr
    assert "resuming run nightly" in call(*words).stderr
    assert "run nightly has already succeeded" in call(*words).stderr
    assert len(json.loads(call("runs", "--json").output)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", "[ops.configured.config]\nn = 3\n"),
        ("c.json", '{"ops":{"configured":{"config":{"n":3}}}}'),
        ("c.yaml", "ops:\n  configured:\n    config: {n: 3}\n"),
        ("c.yml", "ops: {configured: {config: {n: 3}}}"),
    ],
)
def test_config_comes_from_a_file(call: Call, name: str, text: str) -> None:
    """--config takes TOML, JSON and YAML (3.6)."""
    if "y" in name:
        pytest.importorskip("yaml")
    Path(name).write_text(text)
    call("run", f"{JOBS}:with_config", "--config", name)
    assert call("cat", "last", "configured").output == "3\n"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("missing.toml", None, "No such file"),
        ("c.toml", "n = ", "correct the file"),
        ("c.json", "[1]", "a run config is a table"),
        ("c.ini", "n: 1", "neither .toml, .yaml, .yml nor .json"),
        ("c.json", '{"ops": {"nothing": {}}}', "$.ops.nothing"),
    ],
)
def test_bad_config_is_one_line(call: Call, name: str, text: str | None, told: str) -> None:
    """A config that cannot be used exits 2 and says what is wrong."""
    if text is not None:
        Path(name).write_text(text)
    assert told in call("run", f"{JOBS}:with_config", "--config", name, code=2).stderr


def test_configs_are_merged_and_single_values_set_on_top(call: Call) -> None:
    """3.6: several --config merge from left to right; --set is last, as JSON or text, also on a resume."""
    Path("a.json").write_text(
        '{"ops": {"configured": {"config": {"n": 1, "m": {"x": 1, "y": 1}}}}}'
    )
    Path("b.toml").write_text("[ops.configured.config]\nn = 2\nm = {y = 2}\n")
    what = ("--config", "a.json", "--config", "b.toml", "--set", "ops.configured.config.k=a=b")
    call("run", f"{JOBS}:with_config", *what, "--set", '$.ops."configured".config.n="bad"', code=1)
    config = {"n": "bad", "m": {"x": 1, "y": 2}, "k": "a=b"}
    assert (
        json.loads(call("show", "--json").output)["config"]["ops"]["configured"]["config"] == config
    )
    planned = call("resume", "--dry-run", "--set", "ops.configured.config.n=7").output
    assert "new against the log: config" in planned
    assert "resume" in planned
    assert "--set ops.configured.config.n=7" in planned
    call("resume", "--set", "ops.configured.config.n=7")
    assert call("cat", "last", "configured").output == "7\n"
    shown = json.loads(call("show", "--json").output)["config"]["ops"]["configured"]["config"]
    assert shown == config | {"n": 7}


@pytest.mark.parametrize("name", ["c.toml", "c.yaml"])
def test_dates_of_a_file_are_the_text_that_stands_there(call: Call, name: str) -> None:
    """3.6: a run config is JSON data; TOML and YAML have dates, which come as ISO text."""
    text = "ops: {configured: {config: {n: 1, since: 2026-11-22, at: [2026-11-22T10:00:00Z]}}}"
    if name == "c.toml":
        text = "[ops.configured.config]\nn = 1\nsince = 2026-11-22\nat = [2026-11-22T10:00:00Z]\n"
    else:
        pytest.importorskip("yaml")
    Path(name).write_text(text)
    call("run", f"{JOBS}:with_config", "--config", name)
    config = json.loads(call("show", "--json").output)["config"]["ops"]["configured"]["config"]
    assert config == {"n": 1, "since": "2026-11-22", "at": ["2026-11-22T10:00:00+00:00"]}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("ops.configured.config.n", "no value; write --set ops.NODE.config.FIELD=VALUE"),
        ("=1", "no path of names"),
        ("ops..n=1", "no path of names with dots between them"),
        ("ops.configured.config.a.b=1", "$.ops.configured.config.a is a int, not a table"),
        ("opps.configured.config.n=1", "$.opps: unknown section; did you mean 'ops'?"),
        ("ops.configured.config=NaN", "config file"),
    ],
)
def test_a_bad_setting_is_one_line(call: Call, setting: str, told: str) -> None:
    """3.6: a --set that cannot be followed exits 2 and names the path."""
    Path("c.json").write_text('{"ops": {"configured": {"config": {"a": 1}}}}')
    words = ("run", f"{JOBS}:with_config", "--config", "c.json", "--set", setting)
    if told == "config file":  # NaN is no JSON, so it is text
        call(*words, code=1)
        assert json.loads(call("show", "--json").output)["config"]["ops"]["configured"] == {
            "config": "NaN"
        }
        return
    stderr = call(*words, code=2).stderr
    assert told in stderr
    assert stderr.count("error:") == 1


def test_yaml_without_pyyaml_says_what_to_install(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.6: the extra is imported at its one door, and named where it is missing."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    Path("c.yaml").write_text("ops: {}")
    told = "YAML needs PyYAML, which is not installed: pip install 'runstore[yaml]'"
    assert told in call("run", f"{JOBS}:with_config", "--config", "c.yaml", code=2).stderr


# What a user gets wrong


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "nowhere.py:job"), "no file nowhere.py"),
        (("run", "no_such_module:job"), "no module 'no_such_module'"),
        (
            ("run", f"{JOBS}:nothing"),
            "has no job 'nothing'; it has failing, many_formats, retrying, slow",
        ),
        (("run", f"{JOBS}:slow", "--run-id", "a/b"), "run id 'a/b' is not legal"),
        (("show", "2099"), "no run '2099'"),
        (("cat", "last", "lok[a]"), "did you mean 'look'?"),
        (("cat", "last", "look[b/d]"), "did you mean 'look[b/c]'?"),
        (("cat", "last", "look"), "write 'look[a]'"),
        (("cat", "last", "fan"), "write 'fan[a]'"),
        (("cat", "last", "total[a]"), "write 'total'"),
        (("cat", "last", "look[a]", "--output", "x"), "has no output 'x'; it has result"),
        (("cat", "last", "look["), "is not a step key"),
        (("explain", "last", "look[zz]"), "lists its 6 keys"),
        (("keys", "last", "nothing"), "has no op 'nothing'"),
        (("log", "last", "--type", "StepFail"), "StepFailed"),
        (("resume", "last", "--json"), "--json belongs to --dry-run"),
        (("nonsense",), "No such command"),
    ],
)
def test_mistakes_are_told_in_one_line(succeeded: Call, words: tuple[str, ...], told: str) -> None:
    """A wrong job path, run, step, key or word exits 2 with a line that says what to write."""
    text = succeeded(*words, code=2).stderr
    assert told in text
    assert len([line for line in text.splitlines() if line.startswith("error: ")]) <= 1


def test_missing_store_names_the_places_looked_in(call: Call, tmp_path: Path) -> None:
    """Every command but `run` and `doctor` exits 2 where there is no store, and makes none."""
    for words in (("runs",), ("resume",), ("show",), ("log",), ("cancel", "last"), ("rm", "last")):
        text = call(*words, code=2).stderr
        assert "--store, RUNSTORE_STORE, [tool.runstore]" in text
        assert text.splitlines()[-1] == "next:  runstore run path/to/file.py:job"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import no_such_thing\n", ["broken.py, line 1", "ModuleNotFoundError"]),
        ("def f(:\n", ["broken.py", "line 1", "SyntaxError"]),
        ("def g():\n    return 1 / 0\n\ng()\n", ["line 4", "line 2, in g", "ZeroDivisionError"]),
        ("raise SystemExit('bye')\n", ["line 1", "SystemExit: bye"]),
        ("from execution import job\n@job\ndef j(x): ...\n", ["takes parameters", "line 2"]),
    ],
)
def test_error_in_the_job_file_shows_file_and_line(
    call: Call, source: str, told: list[str]
) -> None:
    """An exception while the job's file is imported exits 2 and shows where in the user's own code it was raised."""
    Path("broken.py").write_text(source)
    text = call("run", "broken.py:j", code=2).stderr
    assert all(part in text for part in told)
    assert "importlib" not in text


def test_error_in_the_job_file_of_a_resume(failed: Call, tmp_path: Path) -> None:
    """A resume whose job file no longer imports exits 2, and the run stays resumable."""
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    for more in ((), ("--dry-run",)):
        assert "ZeroDivisionError" in failed("resume", "--job", f"{broken}:j", *more, code=2).stderr
    failed("resume")


# Asking


def test_every_step_key_printed_can_be_pasted(succeeded: Call) -> None:
    """`keys` prints the step keys in order, and `cat` and `explain` take each of them (K2)."""
    printed = [
        line.split("  ")[-1] for line in succeeded("keys", "last", "look").output.splitlines()
    ]
    assert printed == [format_step_key("look", (key,)) for key in KEYS]
    for key, step in zip(KEYS, printed, strict=True):
        assert json.loads(succeeded("cat", "last", step).output) == {"text": key.upper()}
        assert succeeded("explain", "last", step).output.startswith(f"{step} of run ")


def test_cat_finds_pieces_of_a_dynamic_output(succeeded: Call) -> None:
    """`op[key]` of an op that yields keys is what it yielded under that key; text is printed as it was stored."""
    assert succeeded("cat", "last", "fan[b/c]").output == "B/C"


def test_cat_shows_formats_and_never_unpickles(call: Call, tmp_path: Path) -> None:
    """Text and MessagePack as text, raw bytes and pickles as their bytes (T3)."""
    call("run", f"{JOBS}:many_formats")

    def cat(output: str, *more: str) -> Result:
        return call("cat", "last", "formats", "--output", output, *more)

    assert cat("text").stdout == "line"
    assert '"nan": NaN' in cat("packed").output
    assert '"bytes": "AQ=="' in cat("packed").output
    assert cat("raw").stdout_bytes == b"\x00\xff"
    assert b"mkdir" in cat("pickled").stdout_bytes
    cat("pickled", "--out", "pickled.bin")
    assert b"mkdir" in (tmp_path / "pickled.bin").read_bytes()
    assert not (tmp_path / "unpickled").exists()
    assert "several outputs; add --output" in call("cat", "last", "formats", code=2).stderr


def test_cat_refuses_altered_bytes(succeeded: Call, tmp_path: Path) -> None:
    """What does not have the size and sha256 of the log is not printed; exit code 3."""
    file = next((tmp_path / ".runstore" / "outputs").glob("*/total/result.txt"))
    file.write_text("forged")
    result = succeeded("cat", "last", "total", code=3)
    assert result.stdout == ""
    assert "total/result.txt" in result.stderr


def test_keys_by_status_and_glob(failed: Call) -> None:
    """--status and --like choose; --json gives the rows as data."""
    rows = json.loads(failed("keys", "last", "fragile", "--status", "failed", "--json").output)
    assert [row["key_path"] for row in rows] == [["b/c"], ["-dash"], ["x[0]%"], ["q'\"$"]]
    assert {row["attempts"] for row in rows} == {1}
    assert failed("keys", "last", "fragile", "--like", "b*").output.split()[-1] == "fragile[b/c]"
    assert "no step" in failed("keys", "last", "fragile", "--like", "zz").stderr


def test_explain_names_events(failed: Call) -> None:
    """Why a step failed, ran again, was reused or is blocked, with seqs; a failed one with its traceback."""
    text = failed("explain", "last", "fragile[b/c]").output
    assert "failed in epoch 1, attempt 1 (seq " in text
    assert "Traceback" in text
    assert "'fragile[b/c]' failed (seq " in failed("explain", "last", "count").output
    failed("resume")
    again = failed("explain", "last", "fragile[b/c]").output
    assert "ran again in epoch 2, since attempt 1 had failed (seq " in again
    assert "was reused by the resume of epoch 2" in failed("explain", "last", "fragile[a]").output


def test_show_groups_failures_and_lists_epochs(failed: Call) -> None:
    """One line for each kind of error, counts for each op, one row for each epoch."""
    report = json.loads(failed("show", "--json").output)
    assert [(kind["step"], kind["count"]) for kind in report["failures"]] == [("fragile[b/c]", 4)]
    assert report["ops"][1]["progress"]["states"] == {"succeeded": 2, "failed": 4}
    assert "fragile[b/c] and 3 others of fragile failed" in failed("show").output
    failed("resume")
    epochs = json.loads(failed("show", "--json").output)["epochs"]
    assert [epoch["ended"] for epoch in epochs] == ["failed", "succeeded"]


def test_log_as_lines_and_as_json(failed: Call) -> None:
    """A line for each event; --json gives the bodies as they stand, with their seq; --type chooses."""
    lines = failed("log").output.splitlines()
    rows = [json.loads(line) for line in failed("log", "--json").output.splitlines()]
    assert [row["seq"] for row in rows] == list(range(1, len(lines) + 1))
    assert [line.split()[2] for line in lines] == [row["kind"] for row in rows]
    chosen = failed(
        "log", "last", "--type", "stepfailed", "--type", "RunFailed"
    ).output.splitlines()
    assert [line.split()[2] for line in chosen] == ["StepFailed"] * 4 + ["RunFailed"]
    assert failed("log", "--follow").output.splitlines() == lines


def test_runs_shows_progress_of_each(failed: Call) -> None:
    """Status and progress of every run, the newest last; names are not cut in a pipe."""
    failed("run", f"{JOBS}:slow", "--run-id", "n" * 90)
    first, second = failed("runs").output.splitlines()[1:]
    assert "failed" in first
    assert "2/6 clones of fragile done, 4 failed" in first
    assert "n" * 90 in second
    assert "succeeded" in second
    assert [run["status"] for run in json.loads(failed("runs", "--json").output)] == [
        "failed",
        "succeeded",
    ]


def test_finished_runs_are_listed_without_reading_their_logs(
    failed: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runs` takes the counts of a finished run from its last event."""
    monkeypatch.setattr("runstore.store.RunStore.state", None)
    assert "4 failed" in failed("runs").output


def test_rm_asks_and_deletes(succeeded: Call, tmp_path: Path) -> None:
    """`rm` deletes nothing unless told so; then log and outputs of the run are gone."""
    assert "--yes" in succeeded("rm", "last", code=2).stderr
    assert "deleted run" in succeeded("rm", "last", "--yes").output
    assert json.loads(succeeded("runs", "--json").output) == []
    assert list((tmp_path / ".runstore" / "outputs").glob("**/*.json")) == []


def test_doctor_holds_the_digest_index_against_the_log(succeeded: Call, tmp_path: Path) -> None:
    """Entries that were dropped are a problem; what doctor says to type mends it, and `who` finds the bytes again."""
    (output,) = (tmp_path / ".runstore" / "outputs").glob("*/total/result.*")
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    who = succeeded("who", digest, "--json").output
    log = sqlite3.connect(tmp_path / ".runstore" / "runs.db", isolation_level=None)
    log.execute("DELETE FROM digest_index")
    report = json.loads(succeeded("doctor", "--json", code=1).output)
    (check,) = [check for check in report if check["verdict"] == "problem"]
    log.executescript(check["remedy"].split("'")[1])
    log.close()
    succeeded("doctor")
    assert succeeded("who", digest, "--json").output == who


def test_doctor_finds_open_permissions(succeeded: Call, tmp_path: Path) -> None:
    """A store in good health exits 0; one that others can read exits 1 with the command that mends it."""
    assert "quick_check is ok" in succeeded("doctor").output
    os.chmod(tmp_path / ".runstore" / "runs.db", 0o644)
    text = succeeded("doctor", code=1).output
    assert "chmod 600" in text
    assert {
        check["verdict"] for check in json.loads(succeeded("doctor", "--json", code=1).output)
    } == {"ok", "problem"}


def test_doctor_without_a_store(call: Call) -> None:
    """On a fresh machine there is nothing to mend; a store that was named must be there."""
    assert "none yet" in call("doctor").output
    assert "no store at" in call("doctor", "--store", "gone", code=2).stderr


# Reruns


def test_rerun_runs_what_the_dry_run_counts(succeeded: Call) -> None:
    """`rerun --dry-run` writes nothing; the rerun begins with the same counts and says where things came from."""
    words = ("rerun", "last", "--select", "look[a]*")
    plan = json.loads(succeeded(*words, "--dry-run", "--json").output)
    told = succeeded(*words, "--dry-run").output
    assert len(json.loads(succeeded("runs", "--json").output)) == 1
    assert {node["node"]: (node["reuse"], node["run"]) for node in plan["nodes"]} == {
        "fan": (1, 0),
        "look": (5, 1),
        "total": (0, 1),
    }
    counts = "6 steps reused, 2 to run, 0 left out"
    assert counts in told
    assert told.splitlines()[-1] == f"next:  runstore rerun {plan['parent']} --select 'look[a]*'"
    again = succeeded(*words, "--run-id", "again").stderr
    assert f"run again, a rerun of {plan['parent']}: {counts}" in again
    assert "run again succeeded" in again
    assert (
        "already succeeded"
        in succeeded("rerun", plan["parent"], *words[2:], "--run-id", "again").stderr
    )
    assert (
        f"reused from run {plan['parent']}, seq " in succeeded("explain", "again", "look[é]").output
    )
    assert (
        f"parent   {plan['parent']}, look[a]* again; 6 steps reused"
        in succeeded("show", "again").output
    )
    assert "6 steps taken from the parent, 0 left out" in succeeded("log", "again").output
    assert (
        succeeded("cat", "again", "total").output
        == succeeded("cat", plan["parent"], "total").output
    )


def test_rerun_of_what_failed(failed: Call) -> None:
    """--from-failure runs it, and what needs it; the plan says which ops run unasked and which are left out."""
    assert (
        "3 steps reused, 5 to run" in failed("rerun", "last", "--from-failure", "--dry-run").output
    )
    told = failed("rerun", "last", "--select", "fan", "--dry-run").output
    assert "fragile: not selected, but run too" in told
    assert "count: not selected, and left out" in told


@pytest.mark.parametrize(
    ("select", "told"),
    [
        ("lok", "did you mean 'look'"),
        ("look[b/d]", "did you mean 'look[b/c]'"),
        ("look[", "is not a pattern"),
    ],
)
def test_a_bad_selection_is_one_line(succeeded: Call, select: str, told: str) -> None:
    """It exits 2, says what to write, and nothing was written."""
    error = succeeded("rerun", "last", "--select", select, code=2).stderr
    assert told in error
    assert len(error.splitlines()) == 2
    assert len(json.loads(succeeded("runs", "--json").output)) == 1


def test_a_selection_with_a_gap_is_one_line(failed: Call) -> None:
    """It exits 2 and names what is needed, and how to select it."""
    error = failed("rerun", "last", "--select", "count", code=2).stderr
    assert "'count' needs 'fragile[b/c]', which is not selected" in error
    assert "with '+count'" in error


def test_rm_refuses_what_a_rerun_uses(succeeded: Call) -> None:
    """It names the reruns and exits 2; --force deletes all the same, and doctor then says what that means."""
    first = json.loads(succeeded("show", "--json").output)["run"]["run_id"]
    succeeded("rerun", first, "--select", "total", "--run-id", "again")
    refused = succeeded("rm", first, "--yes", code=2).stderr
    assert "are used by again" in refused
    assert "reruns whose parent is here: 1" in succeeded("doctor").output
    succeeded("rm", first, "--yes", "--force")
    assert "run again uses outputs of run" in succeeded("doctor").output
    assert "no file at" in succeeded("cat", "again", "look[a]", code=3).stderr


def test_show_of_a_step_has_what_was_said_of_its_outputs(call: Call) -> None:
    """3.3: what an op has said of its outputs is shown with the step that stored them."""
    Path("job.py").write_text(
        "from execution import Output, job, op\n"
        "@op\ndef rows():\n    return Output(1, metadata={'rows': 3})\n"
        "@job\ndef counted():\n    rows()\n"
    )
    call("run", "job.py:counted", "--level", "fast")
    shown = call("show", "last", "rows").stdout
    assert "rows of run" in shown
    assert '"rows":3' in shown.replace(" ", "")
