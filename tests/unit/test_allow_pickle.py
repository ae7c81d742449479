"""Who may pickle: nobody, unless told so in words; then only what no other format gives back."""

from pathlib import Path

import pytest

from execution import execute, resume
from runstore import ConfigError, RunStore
from runstore.config import find_settings
from tests.unit import format_jobs as jobs


def test_nothing_is_pickled_unless_it_is_allowed(tmp_path: Path) -> None:
    """By default a value that no format gives back fails its step, with the remedy."""
    result = execute(jobs.pickles, tmp_path / "runs")
    assert not result.success
    assert {failure.step_key for failure in result.failures} == {"plain", "anything"}
    for failure in result.failures:
        assert "allow pickle with Out(serializer='pickle') or allow_pickle = true" in (
            failure.error.message
        )


@pytest.mark.parametrize("way", ["argument", "memory", "environment", "project"])
def test_where_pickles_are_allowed_what_nothing_else_holds_is_pickled(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By argument, environment or `[tool.runstore]`; what JSON holds stays JSON, and compression goes on."""
    monkeypatch.chdir(tmp_path)
    if way == "environment":
        monkeypatch.setenv("RUNSTORE_ALLOW_PICKLE", "true")
    if way == "project":
        (tmp_path / "pyproject.toml").write_text("[tool.runstore]\nallow_pickle = true\n")
    if way == "memory":
        store = RunStore.in_memory(allow_pickle=True)
    else:
        store = RunStore.open(allow_pickle=True if way == "argument" else None)
    with store:
        result = execute(jobs.pickles, store, run_id="r")
        assert result.success, result.failures
        assert result.output_for_node("unpickled") == 9
        names = [
            event.reference.serializer
            for _, event in store.events("r")
            if type(event).__name__ == "OutputStored"
        ]
    assert sorted(names) == ["json", "pickle", "pickle+zstd"]


def test_what_may_be_pickled_keeps_its_type_and_its_format(tmp_path: Path) -> None:
    """The setting neither lets a wrong type pass, nor replaces a format that is named, nor pickles everything."""
    with RunStore.open(tmp_path / "runs", allow_pickle=True) as store:
        for job, told in (
            (jobs.wrong_type, "output 'result': $ is {1} of type set, where Plain is declared"),
            (jobs.named_format, "comes back changed from json"),
            (
                jobs.not_even_pickled,
                "step 'hopeless', output 'result': .*cannot be written as pickle",
            ),
        ):
            (failure,) = execute(job, store).failures
            assert all(part in failure.error.message for part in told.split(".*"))


def test_a_resume_pickles_as_it_is_told(tmp_path: Path) -> None:
    """The setting is one of this process, not of the run: a run that failed for want of it is resumed with it."""
    assert not execute(jobs.pickles, tmp_path / "runs", run_id="r").success
    with RunStore.open(tmp_path / "runs", allow_pickle=True) as store:
        assert resume("r", store).success


@pytest.mark.parametrize(("word", "allowed"), [("true", True), ("false", False), ("", False)])
def test_words_that_allow_pickles(word: str, allowed: bool, tmp_path: Path) -> None:
    """The environment says true or false; the argument goes before it."""
    environment = {"RUNSTORE_ALLOW_PICKLE": word}
    found = find_settings(environment=environment, directory=tmp_path)
    assert found.allow_pickle is allowed
    found = find_settings(allow_pickle=not allowed, environment=environment, directory=tmp_path)
    assert found.allow_pickle is not allowed


def test_words_that_do_not_allow_pickles(tmp_path: Path) -> None:
    """Anything else is refused, not taken for a yes."""
    with pytest.raises(
        ConfigError, match="allow_pickle 'maybe' is not known; use 'false' or 'true'"
    ):
        find_settings(environment={"RUNSTORE_ALLOW_PICKLE": "maybe"}, directory=tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.runstore]\nallow_pickle = "yes"\n')
    with pytest.raises(
        ConfigError, match=r"allow_pickle = 'yes' is not a setting; .* true or false"
    ):
        find_settings(environment={}, directory=tmp_path)
