"""Where an output goes: key paths turned into file names (rule K3).

Pure text. An address contains epoch and attempt, so that none is ever written twice and a late writer cannot touch
accepted bytes. The raw key is in the log; a file name only has to be readable and distinct.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, unquote

MAX_PART_CHARS = 72  # before `.e<epoch>a<attempt>.<ext>`: the whole part stays under 100
MAX_PATH_BYTES = 800

_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(?![a-z0-9_=@+-])", re.IGNORECASE)
_SIMPLE = re.compile(r"(?!con|prn|aux|nul|com[0-9]|lpt[0-9])[a-z0-9_][a-z0-9_-]{0,71}")
_LOOKS_LIKE_ATTEMPT = re.compile(r"\.(?=e\d+a\d+$)", re.IGNORECASE)


def output_path(
    node: str, output: str, key_path: Iterable[str], *, epoch: int, attempt: int, extension: str
) -> str:
    """Where an output goes, below the folder of its run: `summarise/result/Europe=2fParis@41.json`.

    From the second attempt or epoch on, `.e<epoch>a<attempt>` stands before the extension, so that no address is
    ever written twice. At most 800 bytes: a longer path has its keys replaced by one digest.
    """
    folder = _folder(node, output)
    suffix = f".{extension}" if epoch == attempt == 1 else f".e{epoch}a{attempt}.{extension}"
    parts = [folder, *map(file_name, key_path)]
    path = "/".join(parts) + suffix
    if len(path) > MAX_PATH_BYTES:
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        path = f"{folder}/=-{digest}{suffix}"
    return path


def segment_path(node: str, name: str) -> str:
    """Where a segment of small outputs of an op goes: `inc/=+e1.7f3a9c21.1.pack`; no output's name begins so."""
    return f"{file_name(node)}/=+{name}.pack"


@lru_cache(maxsize=1024)
def _folder(node: str, output: str) -> str:
    return f"{file_name(node)}/{file_name(output)}"


def file_name(key: str) -> str:
    """The key as one part of a path (K3): readable, of `[A-Za-z0-9._=@+-]`, distinct also where case is ignored.

    Other bytes become `=xx`. A key with capitals ends in `@` and a hexadecimal mask that says which of its ASCII
    letters are capitals (`Europe/Paris` -> `Europe=2fParis@41`). What would be longer than 72 characters is cut
    and ends in `=-` and 128 bits of the key's sha256; neither ending can be produced by a key.
    """
    if _SIMPLE.fullmatch(key):
        return key
    name = _escaped_name(key)
    mask = _capitals(key)
    if mask:
        name = f"{name}@{mask:x}"
    if len(name) > MAX_PART_CHARS:
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        name = f"{name[: MAX_PART_CHARS - 34].rstrip('=')}=-{digest}"
    return name


def key_of(name: str) -> str | None:
    """The key that `file_name` has made this part of; None where it was cut, or is no such part.

    For searches alone: what a file holds is said by the log, never by its name.
    """
    text = re.sub(r"@[0-9a-f]+$", "", name)
    if "=-" in text:
        return None
    encoded = re.sub(r"=([0-9a-f]{2})", r"%\1", text.replace("%", "%25"))
    key = unquote(encoded, errors="replace")
    return key if key and file_name(key) == name else None


def _escaped_name(key: str) -> str:
    name = quote(key, safe="+").replace("~", "%7E")
    if "%" in name:
        name = re.sub(r"%..", lambda match: f"={match[0][1:].lower()}", name)
    if name[0] in ".-" or _DEVICE.match(name):
        name = f"={ord(name[0]):02x}{name[1:]}"
    if name[-1] == ".":
        name = f"{name[:-1]}=2e"
    return _LOOKS_LIKE_ATTEMPT.sub("=2e", name)


def _capitals(key: str) -> int:
    if key.islower() or not any("A" <= char <= "Z" for char in key):
        return 0
    letters = [char for char in key if char.isascii() and char.isalpha()]
    return sum(1 << place for place, char in enumerate(letters) if char.isupper())
