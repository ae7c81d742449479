"""The definitions of a Python file, read from its tokens alone.

Another way to the same facts as the job `stdlib_metrics`, which walks the syntax tree: `def` and
`class` are keywords, so each such token is a definition, and the indentation tells which of the
earlier ones it stands in.
"""

import tokenize
from pathlib import Path
from typing import NamedTuple

_NOT_CODE = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT}


class Definitions(NamedTuple):
    """How many functions and classes, and the depth of the innermost of them."""

    functions: int
    classes: int
    depth: int


def definitions_in(path: Path) -> Definitions:
    count = {"def": 0, "class": 0}
    depth = level = 0
    enclosing: list[int] = []  # the indentation levels of the definitions that are still open
    begins_line = True
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            level += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
            if token.type in _NOT_CODE:
                continue
            if begins_line:
                enclosing = [each for each in enclosing if each < level]
            if token.type == tokenize.NAME and token.string in count:
                count[token.string] += 1
                enclosing.append(level)
                depth = max(depth, len(enclosing))
            begins_line = token.type == tokenize.NEWLINE
    return Definitions(count["def"], count["class"], depth)
