"""Where the log and the outputs are: what is given, else the environment, else `[tool.runstore]`, else the defaults.

Only a run creates a store; everything else looks for one and, where there is none, names the places it looked in.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from runstore.credentials import Options, learn_options
from runstore.errors import ConfigError, StoreNotFound
from runstore.log.events import Durability, SmallOutputs
from runstore.outputs.urls import check_url, is_place, public_url, scheme_of

DEFAULT_STORE = ".runstore"
_SETTINGS = ("store", "outputs", "level", "small_outputs", "allow_pickle")
_CHOICES = {
    "level": ("durable", "fast"),
    "small_outputs": ("file", "pack"),
    "allow_pickle": ("false", "true"),
}
"""Settings that are one of a few words, the default first."""


class Settings(msgspec.Struct, frozen=True):
    """Where a store is and how it writes."""

    store: Path | None
    """None: not named anywhere; `.runstore` here, or the one found in this folder or a parent."""
    outputs: str | None = None
    """A URL or an absolute path; None: `outputs` inside the store."""
    level: Durability = "durable"
    small_outputs: SmallOutputs = "file"
    """"file": one readable file for each output; "pack": small ones share objects."""
    allow_pickle: bool = False
    """What no other format gives back is pickled, unless its output names a serializer."""
    options: Options = Options()
    """Of the storages that outputs go to, from `[tool.runstore.storage]`: of all, or below a URL as name those of one.
    They may hold credentials."""
    looked_in: tuple[str, ...] = ()


def find_settings(
    store: str | os.PathLike[str] | None = None,
    outputs: str | None = None,
    level: str | None = None,
    small_outputs: str | None = None,
    allow_pickle: bool | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Settings:
    """Resolve each setting: argument, then `RUNSTORE_STORE` etc., then pyproject.toml; raises ConfigError."""
    here = directory or Path.cwd()
    project, file = _project_settings(here)
    home = file.parent if file else here
    given = {
        "store": os.fspath(store) if store is not None else None,
        "outputs": outputs,
        "level": level,
        "small_outputs": small_outputs,
        "allow_pickle": None if allow_pickle is None else _word(allow_pickle),
    }
    found: dict[str, str | None] = {}
    for name in _SETTINGS:
        base, place, variable = here, "", f"RUNSTORE_{name.upper()}"
        value = given[name]
        if not value and (value := environment.get(variable)):
            place = f"{variable}: "
        if not value and name in project:
            value, base, place = project[name], home, f"{file}: [tool.runstore] "
        if name in _CHOICES:
            found[name] = _chosen(name, value, place)
        else:
            if value and name == "outputs":
                check_url(value)
            found[name] = _absolute(value, base) if value else value
    looked_in = (
        "--store",
        "RUNSTORE_STORE",
        f"[tool.runstore] in {file}" if file else "[tool.runstore] in pyproject.toml",
    )
    path = Path(found["store"]) if found["store"] else None
    return Settings(
        path,
        found["outputs"],
        cast(Durability, found["level"]),
        cast(SmallOutputs, found["small_outputs"]),
        found["allow_pickle"] == "true",
        Options(project.get("storage", {})),
        looked_in,
    )


def _word(value: bool) -> str:
    """A truth as TOML and the environment write it."""
    return "true" if value else "false"


def _chosen(name: str, value: str | None, place: str) -> str:
    choices = _CHOICES[name]
    if value and value not in choices:
        known = " or ".join(map(repr, choices))
        raise ConfigError(f"{place}{name} {value!r} is not known; use {known}")
    return value or choices[0]


def store_to_create(settings: Settings, directory: Path | None = None) -> Path:
    """The folder that a run writes to: the one named, the nearest `.runstore`, or a new one here."""
    here = directory or Path.cwd()
    return settings.store or _nearest(here) or here / DEFAULT_STORE


def store_to_read(settings: Settings, directory: Path | None = None) -> Path:
    """The folder of an existing store; raises StoreNotFound naming the places looked in."""
    here = directory or Path.cwd()
    path = settings.store or _nearest(here)
    if path is None:
        places = ", ".join([*settings.looked_in, f"{DEFAULT_STORE} in {here} and its parents"])
        raise StoreNotFound(
            f"no store found; looked at {places}. Name one with --store, or start a run"
        )
    try:
        found = (path / "runs.db").is_file()
    except OSError as error:
        raise StoreNotFound(
            f"no store can be seen at {path}: {error.strerror}; make the folder readable, or name another with --store"
        ) from None
    if not found:
        raise StoreNotFound(
            f"no store at {path} (there is no runs.db in it); name another with --store, or start a run"
        )
    return path


def _nearest(here: Path) -> Path | None:
    for folder in (here, *here.parents):
        if (folder / DEFAULT_STORE / "runs.db").is_file():
            return folder / DEFAULT_STORE
    return None


def _project_settings(here: Path) -> tuple[dict[str, Any], Path | None]:
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            tool = _table(_read(file).get("tool", {}), "[tool]", file)
            if "runstore" in tool:
                return _checked(_table(tool["runstore"], "[tool.runstore]", file), file), file
    return {}, None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}; correct the file") from None


def _table(value: Any, name: str, file: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: {name} is not a table; correct the file")
    return value


def _checked(table: dict[str, Any], file: Path) -> dict[str, Any]:
    for name, value in table.items():
        if name == "storage":
            _check_options(_table(value, "[tool.runstore.storage]", file), file)
        elif name not in _SETTINGS or not isinstance(value, _type_of(name)):
            known = ", ".join(_SETTINGS[:-1])
            raise ConfigError(
                f"{file}: [tool.runstore] {name} = {value!r} is not a setting; known are {known}, all text, "
                "allow_pickle, true or false, and the table storage"
            )
    return {
        name: _word(value) if isinstance(value, bool) else value for name, value in table.items()
    }


def _check_options(options: Mapping[str, Any], file: Path) -> None:
    learn_options(options)
    for name, value in options.items():
        if is_place(name):
            _table(value, f'[tool.runstore.storage."{public_url(name)}"]', file)
            if public_url(name) != name:
                raise ConfigError(
                    f"{file}: [tool.runstore.storage] has options of {public_url(name)} under a URL with credentials; "
                    "name the place without them"
                )


def _type_of(setting: str) -> type:
    return bool if setting == "allow_pickle" else str


def _absolute(value: str, base: Path) -> str:
    return (
        value
        if scheme_of(value) != "file" or value.startswith("file://")
        else str((base / Path(value).expanduser()).absolute())
    )
