"""Tags of jobs, nodes and ops: they stand in the graph data, text by text."""

from collections.abc import Mapping
from typing import Any

import msgspec

from execution.errors import DefinitionError
from runstore.errors import NotStorable
from runstore.log.codec import check_exact


def checked_tags(tags: Mapping[Any, Any] | None, where: str) -> dict[str, str]:
    """Tags as they go into the log; a value that is no text becomes its JSON. Raises DefinitionError naming `where`."""
    if tags is not None and not isinstance(tags, Mapping):
        raise DefinitionError(f"{where}: tags are a {type(tags).__name__}; write a dict of texts")
    return {_name(name, where): _text(name, value, where) for name, value in (tags or {}).items()}


def _name(name: Any, where: str) -> str:
    if not isinstance(name, str):
        raise DefinitionError(f"{where}: tag {name!r} is a {type(name).__name__}; name it by text")
    return name


def _text(name: str, value: Any, where: str) -> str:
    try:
        check_exact([name, value], f"{where}: tag {name!r}, as name and value,")
    except NotStorable as error:
        raise DefinitionError(str(error)) from None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
