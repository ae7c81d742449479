"""What must never be written down: learned where a storage is opened, taken out of texts where they leave the process.

A secret that a service was given may come back in its errors, in the exception of an op and in what it logs. So texts
are cleaned where they leave (`redacted`), whatever brought the secret into them.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

SHORTEST = 5
"""Characters of what is taken for a secret; a shorter one would take apart words that have nothing to do with it."""

_SECRET_NAME = re.compile(
    r"key|secret|token|pass|pwd|sas|cred|auth|connection_string", re.IGNORECASE
)
_NO_SECRET = re.compile(r"keyring|key_?file|passive|author", re.IGNORECASE)
_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_known: list[str] = []
"""Longest first, so that no part of one is left where it holds another."""


class Options(dict[str, Any]):
    """The options of a storage: they may hold credentials, so they neither show nor pickle what they are."""

    def __repr__(self) -> str:
        return f"<{len(self)} options>"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise TypeError(
            "options of a storage may hold credentials and are not pickled; a process that needs them reads them from "
            "the environment or from [tool.runstore.storage]"
        )


def learn(*secrets: str | None) -> None:
    """From now on no text that leaves this process holds these, plain or as in a URL."""
    for secret in secrets:
        for form in (secret, quote(secret, safe="")) if secret else ():
            if len(form) >= SHORTEST and form not in _known:
                _known.append(form)
    _known.sort(key=len, reverse=True)


def learn_options(options: Mapping[str, Any]) -> None:
    """Learn the values of all options that sound like credentials, at any depth."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            learn_options(value)
        elif isinstance(value, str) and _SECRET_NAME.search(name) and not _NO_SECRET.search(name):
            learn(value)


def learn_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Learn the credentials that the environment holds for S3."""
    learn(*(environment.get(name) for name in _ENVIRONMENT))


def redacted(text: str) -> str:
    """The text with `***` in place of each secret that this process knows."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, "***")
    return text
