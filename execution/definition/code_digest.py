"""The digest of an op's code, by which a resume sees that the op has changed (rule R5)."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import msgspec


def code_digest(
    function: Callable[..., Any], version: str | None, defaults: Mapping[str, Any]
) -> str:
    """Sixteen hexadecimal digits: of a declared version, else of the source without comments and layout.

    `defaults`: those that `In` declares. Functions that the op calls are not seen.
    """
    text = (
        _normal_source(function) + _defaults_text(defaults)
        if version is None
        else f"version {version}"
    )
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _normal_source(function: Callable[..., Any]) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        code = getattr(function, "__code__", None)
        return repr((code.co_code, code.co_names)) if code else repr(function)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = []
            break
    return ast.unparse(tree)


def _defaults_text(defaults: Mapping[str, Any]) -> str:
    """What `In` declares in place of defaults of the function, whose source has its own."""
    try:
        return msgspec.json.encode(defaults).decode() if defaults else ""
    except (TypeError, ValueError):
        return ", ".join(defaults)
