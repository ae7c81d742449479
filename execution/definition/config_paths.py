"""Where something stands in a run config, `$.ops.load.config.limit`, and how an error says so. Pure."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from runstore.errors import ConfigError

_WORD = re.compile(r"[A-Za-z_][\w-]*")
_STEPS = re.compile(r"\[\.\.\.\]|\[\d+\]|\.[^.\[\]]+")
_PLACED = re.compile(r"(.*?)(?: - at `(?:key` in `)?\$(.*)`)?", re.S)


def child(path: str, name: object) -> str:
    """The path of a member: `$.ops.load`, `$.ops["my.load"]`."""
    text = str(name)
    return f"{path}.{text}" if _WORD.fullmatch(text) else f'{path}["{text}"]'


def refusal(path: str, fact: str, remedy: str) -> ConfigError:
    """An error of a run config in three parts."""
    return ConfigError(f"run config: {path}: {fact}; {remedy}")


def instead(name: object, known: Iterable[str], what: str = "it has") -> str:
    """The remedy for a name that is not known: the one that was meant, else all that there are."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"{what} {', '.join(names) or 'none'}"


def fact_and_place(text: str) -> tuple[str, str]:
    """msgspec's "Expected `int`, got `str` - at `$.limit`" as a fact and what follows `$`."""
    found = _PLACED.fullmatch(text)
    fact, place = (found[1], found[2] or "") if found else (text, "")
    return fact[:1].lower() + fact[1:].replace("`", ""), place


def named_keys(place: str, value: Any, is_refused: Callable[[Any], bool]) -> str:
    """A place with the keys of tables, which msgspec writes as `[...]`: each is found by leaving the others out."""
    steps: list[Any] = []
    for step in _STEPS.findall(place):
        here = _at(value, steps)
        if step != "[...]":
            steps.append(int(step[1:-1]) if step[0] == "[" else step[1:])
        elif isinstance(here, dict):
            alone = (key for key in here if is_refused(_replaced(value, steps, {key: here[key]})))
            steps.append(next(alone, None))
        if steps and steps[-1] is None:
            return place
    path = ""
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else child(path, step)
    return path


def _at(value: Any, steps: Sequence[Any]) -> Any:
    for step in steps:
        known = isinstance(value, dict) and step in value
        value = value[step] if known or isinstance(value, list) else None
    return value


def _replaced(value: Any, steps: Sequence[Any], part: Any) -> Any:
    """A copy of a value with another part at a place."""
    if not steps:
        return part
    step, *rest = steps
    if isinstance(value, list):
        return [_replaced(one, rest, part) if i == step else one for i, one in enumerate(value)]
    return {**value, step: _replaced(value[step], rest, part)}
