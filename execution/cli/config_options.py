"""The run config as `run` and `resume` take it: files, merged from left to right, then single values on top."""

import datetime as dt
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from runstore.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

_PART = r'(?:[^."\[\]=\s]+|"[^"]+")'
_PATH = re.compile(rf"(?:\$\.)?({_PART}(?:\.{_PART})*)")
_EXAMPLE = "--set ops.NODE.config.FIELD=VALUE"


def config_options(function: F) -> F:
    """`--config FILE` and `--set PATH=VALUE`, both as often as wanted."""
    function = click.option(
        "--set",
        "settings",
        metavar="PATH=VALUE",
        multiple=True,
        help="One value of the run config, as JSON or text: ops.NODE.config.FIELD=10",
    )(function)
    return click.option(
        "--config",
        "config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        multiple=True,
        help="Run config, a .toml, .yaml or .json file: [ops.NODE.config] … The last one wins, value by value.",
    )(function)


def given_config(
    files: Sequence[Path],
    settings: Sequence[str],
    known: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any] | None:
    """The run config that was given, None where none was; raises ConfigError in one line.

    `known`: what single values change where there is no file: the config of a run that is resumed.
    """
    if not files and not settings:
        return None
    config: Mapping[str, Any] = {} if files else known()
    for file in files:
        config = merged(config, read_config(file))
    for setting in settings:
        config = merged(config, _one_value(setting, config))
    return dict(config)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one: tables in both are merged, of anything else the second holds."""
    both = dict(under)
    for name, value in over.items():
        before = both.get(name)
        inner = isinstance(before, dict) and isinstance(value, dict)
        both[name] = merged(before, value) if inner else value  # type: ignore[arg-type]
    return both


def read_config(file: Path) -> dict[str, Any]:
    """The run config of a file; raises ConfigError in one line."""
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise ConfigError(
            f"{file} is neither .toml, .yaml, .yml nor .json; write the run config in one of these"
        )
    try:
        config = reader(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}; name an existing file with --config"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}; correct the file") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{file} holds a {type(config).__name__}; a run config is a table")
    return {name: _plain(value) for name, value in config.items()}


def _plain(value: Any) -> Any:
    """Dates and times of TOML and YAML as the text that stands in the file: a run config is JSON data."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value


def _read_yaml(text: str) -> Any:
    try:
        import yaml  # the extra `yaml`
    except ImportError:
        raise ValueError(
            "YAML needs PyYAML, which is not installed: pip install 'runstore[yaml]'"
        ) from None
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return {} if config is None else config


_READERS: dict[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".json": json.loads,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}


def _one_value(setting: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """`ops.load.config.limit=10` as a table; raises ConfigError where the path cannot be followed in `config`."""
    path, is_set, text = setting.partition("=")
    found = _PATH.fullmatch(path.strip())
    if not is_set or found is None:
        fact = "no path of names with dots between them" if is_set else "no value"
        raise ConfigError(f"--set {setting!r}: {fact}; write {_EXAMPLE}")
    names = [name.strip('"') for name in re.findall(_PART, found[1])]
    _check_passable(setting, names, config)
    value = _value(text)
    for name in reversed(names):
        value = {name: value}
    return dict(value)


def _check_passable(setting: str, names: Sequence[str], config: Mapping[str, Any]) -> None:
    here: Any = config
    for place, name in enumerate(names[:-1], 1):
        here = here.get(name, {})
        if not isinstance(here, Mapping):
            path = ".".join(("$", *names[:place]))
            raise ConfigError(
                f"--set {setting!r}: {path} is a {type(here).__name__}, not a table; set {path} itself"
            )


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text
