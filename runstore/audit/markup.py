"""Text of jobs, keys and errors, for pages and pictures: nothing in it can end an element or turn a line around.

Pure. What is not printable is spelled out, as in a terminal; then what markup could take for its own is escaped.
"""

import html
import unicodedata

_BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def shown(text: object) -> str:
    """Text for HTML, XML and SVG, inside elements and quoted attributes alike."""
    plain = str(text)
    if not (plain.isascii() and plain.isprintable()):
        plain = "".join(_plain(char) for char in plain)
    return html.escape(plain, quote=True)


def _plain(char: str) -> str:
    if char in "\n\t":
        return char
    if unicodedata.category(char) in ("Cc", "Cs", "Cf") or unicodedata.bidirectional(char) in _BIDI:
        return char.encode("unicode_escape", "surrogatepass").decode()
    return char
