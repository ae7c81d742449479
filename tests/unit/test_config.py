"""Where a store is: flags, environment, pyproject.toml, defaults; and what is said where there is none."""

from pathlib import Path

import pytest

from runstore.config import Settings, find_settings, store_to_create, store_to_read
from runstore.credentials import redacted
from runstore.errors import ConfigError, StoreNotFound
from runstore.outputs.urls import options_at

SOURCES = ("argument", "environment", "project")


def project(folder: Path, text: str) -> None:
    """Write the folder's pyproject.toml."""
    (folder / "pyproject.toml").write_text(text)


def store_at(path: Path) -> Path:
    """Something that looks like a store."""
    path.mkdir(parents=True)
    (path / "runs.db").touch()
    return path


@pytest.mark.parametrize("given", [{*SOURCES}, {"environment", "project"}, {"project"}, set()])
def test_the_first_that_says_something_is_followed(tmp_path: Path, given: set[str]) -> None:
    """For each setting: the argument, else the environment, else `[tool.runstore]`, else the default."""
    if "project" in given:
        project(
            tmp_path,
            '[tool.runstore]\nstore = "/project"\noutputs = "/project-out"\nlevel = "fast"',
        )
    environment = {
        "RUNSTORE_STORE": "/environment",
        "RUNSTORE_OUTPUTS": "s3://b",
        "RUNSTORE_LEVEL": "durable",
    }
    found = find_settings(
        *(("/argument", "memory://x", "fast") if "argument" in given else ()),
        environment=environment if "environment" in given else {},
        directory=tmp_path,
    )
    first = next((source for source in SOURCES if source in given), None)
    expected = {
        "argument": ("/argument", "memory://x", "fast"),
        "environment": ("/environment", "s3://b", "durable"),
        "project": ("/project", "/project-out", "fast"),
        None: (None, None, "durable"),
    }[first]
    assert (found.store and str(found.store), found.outputs, found.level) == expected


def test_settings_are_resolved_one_by_one(tmp_path: Path) -> None:
    """One setting may come from the command, another from the environment, a third from the project."""
    project(tmp_path, '[tool.runstore]\nstore = "/project"\nlevel = "fast"')
    found = find_settings(
        outputs="/out", environment={"RUNSTORE_LEVEL": "durable"}, directory=tmp_path
    )
    assert (str(found.store), found.outputs, found.level) == ("/project", "/out", "durable")


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    """A variable that is set to nothing, as scripts do to unset one, does not hide the project's setting."""
    project(tmp_path, '[tool.runstore]\nlevel = "fast"')
    assert find_settings(environment={"RUNSTORE_LEVEL": ""}, directory=tmp_path).level == "fast"


def test_relative_paths_are_of_where_they_are_written(tmp_path: Path) -> None:
    """A path in pyproject.toml is relative to its folder, any other to the current one; URLs are left alone."""
    project(tmp_path, '[tool.runstore]\nstore = "runs"\noutputs = "out"')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    found = find_settings(environment={}, directory=deep)
    assert (found.store, found.outputs) == (tmp_path / "runs", str(tmp_path / "out"))
    found = find_settings("mine", "s3://bucket/x", environment={}, directory=deep)
    assert (found.store, found.outputs) == (deep / "mine", "s3://bucket/x")
    home = find_settings("~/runs", environment={}, directory=deep).store
    assert home == Path("~/runs").expanduser()


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (
            "[tool.runstore]\ncolour = 'red'",
            "colour = 'red' is not a setting; known are store, outputs, level",
        ),
        ("[tool.runstore]\nlevel = 3", "level = 3 is not a setting"),
        (
            "[tool.runstore]\nlevel = 'slow'",
            r"pyproject.toml: \[tool.runstore\] level 'slow' is not known; use 'durable' or 'fast'",
        ),
        ("[tool.runstore", "correct the file"),
        ("tool.runstore = 3", "is not a table"),
        ("tool = 3", "is not a table"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, text: str, fact: str) -> None:
    """A setting that is not known, not a text, or not a level is one clear error."""
    project(tmp_path, text)
    with pytest.raises(ConfigError, match=fact):
        find_settings(environment={}, directory=tmp_path)


def test_a_project_without_a_word_about_runstore_is_passed_over(tmp_path: Path) -> None:
    """The nearest pyproject.toml that has `[tool.runstore]` counts, not the nearest of all."""
    project(tmp_path, "[tool.runstore]\nlevel = 'fast'")
    inner = tmp_path / "inner"
    inner.mkdir()
    project(inner, "[tool.other]\nx = 1")
    assert find_settings(environment={}, directory=inner).level == "fast"


def test_the_nearest_store_is_found(tmp_path: Path) -> None:
    """Without a setting it is `.runstore` here or in a parent; only a run makes a new one, here."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    nothing = Settings(None)
    assert store_to_create(nothing, deep) == deep / ".runstore"
    upper = store_at(tmp_path / ".runstore")
    assert store_to_create(nothing, deep) == upper
    assert store_to_read(nothing, deep) == upper
    nearer = store_at(tmp_path / "a" / ".runstore")
    assert store_to_read(nothing, deep) == nearer
    assert store_to_create(Settings(tmp_path / "named"), deep) == tmp_path / "named"


def test_a_folder_without_a_log_is_no_store(tmp_path: Path) -> None:
    """An empty `.runstore` is passed over, and a named folder without a log is refused."""
    (tmp_path / ".runstore").mkdir()
    with pytest.raises(StoreNotFound, match="no store found; looked at"):
        store_to_read(Settings(None), tmp_path)
    with pytest.raises(
        StoreNotFound,
        match=r"no store at .*named \(there is no runs.db in it\); name another with --store",
    ):
        store_to_read(Settings(tmp_path / "named"), tmp_path)


def test_where_there_is_no_store_the_places_are_named(tmp_path: Path) -> None:
    """The error lists every place that was looked at, and what to do."""
    settings = find_settings(environment={}, directory=tmp_path)
    with pytest.raises(StoreNotFound) as caught:
        store_to_read(settings, tmp_path)
    message = str(caught.value)
    for place in (
        "--store",
        "RUNSTORE_STORE",
        "[tool.runstore]",
        f".runstore in {tmp_path} and its parents",
    ):
        assert place in message
    assert "or start a run" in message


def test_small_outputs_are_a_setting(tmp_path: Path) -> None:
    """From the argument, the environment, the project, in this order; another word is refused with the known ones."""
    (tmp_path / "pyproject.toml").write_text('[tool.runstore]\nsmall_outputs = "pack"\n')
    chosen = [
        find_settings(
            small_outputs=given, environment=environment, directory=tmp_path
        ).small_outputs
        for given, environment in (
            ("file", {"RUNSTORE_SMALL_OUTPUTS": "pack"}),
            (None, {"RUNSTORE_SMALL_OUTPUTS": "file"}),
            (None, {}),
        )
    ]
    assert chosen == ["file", "file", "pack"]
    with pytest.raises(
        ConfigError, match=r"^small_outputs 'zip' is not known; use 'file' or 'pack'"
    ):
        find_settings(small_outputs="zip", environment={}, directory=tmp_path)
    with pytest.raises(ConfigError, match=r"^RUNSTORE_SMALL_OUTPUTS: small_outputs 'zip' is not"):
        find_settings(environment={"RUNSTORE_SMALL_OUTPUTS": "zip"}, directory=tmp_path)


def test_options_of_the_storage_are_read_and_not_shown(tmp_path: Path) -> None:
    """The table is taken whole, and neither settings nor a message that quotes them hold what is in it."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.runstore.storage]\nkey = "AK-sesame-5"\nclient_kwargs = { endpoint_url = "http://127.0.0.1:1" }\n'
    )
    settings = find_settings(environment={}, directory=tmp_path)
    assert settings.options["client_kwargs"] == {"endpoint_url": "http://127.0.0.1:1"}
    assert "sesame" not in repr(settings)
    assert redacted("AK-sesame-5") == "***"


def test_options_of_one_place(tmp_path: Path) -> None:
    """The longest URL that a place lies below gives its options, all of them; others have the common ones."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.runstore.storage]\nkey = "common-1"\n'
        '[tool.runstore.storage."s3://archive"]\nsecret = "AK-sesame-6"\n'
        '[tool.runstore.storage."s3://archive/cold/"]\nprofile = "cold"\n'
    )
    options = find_settings(environment={}, directory=tmp_path).options
    for url, found in {
        "s3://archive/runs/r": {"secret": "AK-sesame-6"},
        "s3://archive": {"secret": "AK-sesame-6"},
        "s3://archive/cold/r": {"profile": "cold"},
        "s3://archive/colder": {"secret": "AK-sesame-6"},
        "s3://archive-2/runs": {"key": "common-1"},
        "gs://archive/runs": {"key": "common-1"},
    }.items():
        assert options_at(url, options) == found, url
    assert redacted("AK-sesame-6") == "***"


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ('"s3://archive" = "fast"', r'storage."s3://archive"\] is not a table'),
        ('"ftp://me:hunter2@host/x" = {}', r"options of ftp://host/x under a URL with credentials"),
    ],
)
def test_options_of_a_place_that_is_none(table: str, error: str, tmp_path: Path) -> None:
    """What is no table, or names a place by a URL with credentials, is refused, and no credential shown."""
    (tmp_path / "pyproject.toml").write_text(f"[tool.runstore.storage]\n{table}\n")
    with pytest.raises(ConfigError, match=error) as caught:
        find_settings(environment={}, directory=tmp_path)
    assert "hunter2" not in str(caught.value)


def test_credentials_do_not_belong_in_an_s3_url(tmp_path: Path) -> None:
    """They are refused, unseen, with the places where they belong; so is a URL without a bucket."""
    for url in ("s3://AK:hunter2@bucket/x", "s3://bucket/x?secret=hunter2", "s3:///x"):
        with pytest.raises(ConfigError, match=r"AWS_ENDPOINT_URL|BUCKET/PREFIX") as caught:
            find_settings(outputs=url, environment={}, directory=tmp_path)
        assert "hunter2" not in str(caught.value)
