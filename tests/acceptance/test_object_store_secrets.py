"""No credential of a storage is written down anywhere, whatever brings it up; a wrong one is reported in one line."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from execution import RunResult, plan_resume
from runstore import RunStore
from tests.acceptance import leaking_job
from tests.acceptance.test_object_stores import ROOT
from tests.object_stores.client import lead_to, objects
from tests.object_stores.moto import Moto
from tests.object_stores.proxy import Proxy
from tests.object_stores.rclone import Rclone

JOB = f"{leaking_job.__file__}:leaking"
RUN = "the-run"
URL_SECRET = "canary-password-in-url"
OPTION_KEY, OPTION_SECRET = "canary-key-in-options", "canary-secret-in-options"
TOKEN = "canary-token-in-environment"


class Shell:
    """`runstore …` in a folder with settings, in an environment with secrets; keeps all that it has printed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self.printed = ""

    def call(self, *words: str) -> tuple[int, str]:
        """Exit code and standard error."""
        done = subprocess.run(
            [sys.executable, "-m", "execution.cli.main", *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.printed += done.stdout + done.stderr
        return done.returncode, done.stderr


def assert_silent_on_disk(folder: Path) -> None:
    """No canary in any byte of a store: database, WAL, outputs, names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert b"canary-" not in path.read_bytes(), path
        assert "canary-" not in str(path)


def write_settings(folder: Path, bucket: str) -> None:
    """A project with its credentials in the options of the storage."""
    text = f"""
[tool.runstore]
store = "store"
outputs = "s3://{bucket}/place"

[tool.runstore.storage]
key = "{OPTION_KEY}"
secret = "{OPTION_SECRET}"
token = "{TOKEN}"
"""
    (folder / "pyproject.toml").write_text(text)


def test_secrets_in_options_environment_and_exceptions(
    moto: Moto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An op that fails with every secret in its exception, and logs them all: no command and no file shows one."""
    bucket = moto.fresh_bucket()
    write_settings(tmp_path, bucket)
    environment = {**moto.environment(proxy.endpoint), "AWS_SESSION_TOKEN": TOKEN}
    shell = Shell(tmp_path, {**environment, "CANARIES": f"{OPTION_KEY} {OPTION_SECRET} {TOKEN}"})
    assert shell.call("run", JOB, "--run-id", RUN)[0] == 1
    assert proxy.requests[0].headers["authorization"].count(OPTION_KEY) == 1  # they were in use
    assert shell.call("resume", RUN)[0] == 1
    for words in (
        ["show", RUN],
        ["show", RUN, "leak[1]"],
        ["log", RUN, "--json"],
        ["messages", RUN],
        ["explain", RUN, "leak[1]"],
        ["resume", RUN, "--dry-run"],
    ):
        shell.call(*words)
    assert "leaked" in shell.printed
    assert "canary-" not in shell.printed
    assert_silent_on_disk(tmp_path / "store")
    for name, data in objects(moto, bucket).items():
        assert b"canary-" not in data, name
        assert "canary-" not in name
    lead_to(monkeypatch, moto)
    assert_silent_in_python()


def assert_silent_in_python() -> None:
    """Nothing that the API gives shows or pickles a secret."""
    with RunStore.open() as store:
        plan = plan_resume(RUN, store, job=leaking_job.leaking)
        result = RunResult.load(RUN, store)
        shown = [repr(store), repr(vars(store)), repr(plan), repr(result), repr(result.failures)]
        shown.append(repr(store.outputs(store.state(RUN))))
        assert not [text for text in shown if "canary-" in text]
        for given in (plan, result.failures, store, store.outputs(store.state(RUN)), result):
            try:
                pickled = pickle.dumps(given)
            except Exception as error:
                pickled = repr(error).encode()
            assert b"canary-" not in pickled


def test_secrets_in_a_url(moto: Moto, tmp_path: Path) -> None:
    """A URL with a user and a password is used or refused without ever being repeated."""
    url = f"s3://canary-user-in-url:{URL_SECRET}@{moto.fresh_bucket()}/place?token={TOKEN}"
    shell = Shell(tmp_path, {**moto.environment(), "CANARIES": "none"})
    for words in (["run", JOB, "--run-id", RUN], ["resume", RUN], ["runs"], ["log", RUN]):
        shell.call(
            *words,
            "--store",
            "store",
            *(["--outputs", url] if words[0] in ("run", "resume") else []),
        )
    assert shell.printed
    assert "canary-" not in shell.printed
    assert "Traceback" not in shell.printed
    if (tmp_path / "store").exists():
        assert_silent_on_disk(tmp_path / "store")


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_wrong_key(wrong: str, rclone: Rclone, tmp_path: Path) -> None:
    """A key that is refused stops a run with one clear line that shows none of it, and exit code 3."""
    shell = Shell(tmp_path, {**rclone.environment(), wrong: "canary-wrong", "CANARIES": "none"})
    words = ["run", JOB, "-q", "--store", "store", "--outputs", f"s3://{rclone.bucket}/place"]
    code, err = shell.call(*words)
    assert code == 3, err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()[:1]
    assert "Traceback" not in err
    assert f"s3://{rclone.bucket}/place" in err
    assert "canary-" not in err
    assert_silent_on_disk(tmp_path / "store")
    assert (
        json.loads(shell_json(shell, "runs", "--store", "store", "--json"))[0]["status"]
        != "success"
    )


def shell_json(shell: Shell, *words: str) -> str:
    """What a command has printed alone."""
    before = len(shell.printed)
    assert shell.call(*words)[0] == 0
    return shell.printed[before:]
