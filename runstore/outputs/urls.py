"""Where outputs go, as text: what a URL means, and what of it may be shown. Pure."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from runstore.errors import ConfigError

S3_SCHEMES = ("s3", "s3a")


def scheme_of(url: str) -> str:
    """`file` for a plain path, else the part before `://`."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator else "file"


def public_url(url: str) -> str:
    """The URL without anything that may be a credential: user, password, query and fragment."""
    if scheme_of(url) == "file":
        return url
    parts = _split(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def below(url: str, path: str) -> str:
    """The URL of what lies below another, its query kept at its end."""
    url, separator, query = url.partition("?")
    return f"{url.rstrip('/')}/{path}{separator}{query}"


def options_at(url: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of the place behind a URL. A name among them that is itself a URL has those of what lies below it:
    the longest such URL counts, with nothing of the others, so that no service is shown what is another's.
    """
    address = _folder(public_url(url))
    places = [name for name in options if is_place(name) and address.startswith(_folder(name))]
    if places:
        found: Mapping[str, Any] = options[max(places, key=lambda name: len(_folder(name)))]
        return found
    return {name: value for name, value in options.items() if not is_place(name)}


def is_place(option: str) -> bool:
    """True for the name of an option that is a URL, and stands for the options of one place."""
    return "://" in option


def _folder(url: str) -> str:
    return f"{url.rstrip('/')}/"


def check_url(url: str) -> str:
    """Return a URL of which it is clear what a credential is; raises ConfigError, which shows none of it."""
    scheme = scheme_of(url)
    if scheme == "file":
        return _checked_path(url)
    parts = _split(url)
    if "::" in url.partition("://")[0]:
        raise ConfigError("outputs cannot go to a chained URL ('::'); name the last storage alone")
    if scheme in S3_SCHEMES:
        _check_s3(parts)
    rest = url.replace(parts.netloc, "", 1)
    if "@" in rest and ("@" in parts.netloc or ":" in parts.netloc):
        raise ConfigError(
            f"outputs cannot go to this {scheme}:// URL, which does not show where its credentials end; "
            "write '/', '?', '#' and '@' in them as %2F, %3F, %23 and %40, or leave them to the environment"
        )
    return url


def _checked_path(path: str) -> str:
    scheme, separator, rest = path.partition(":/")
    if separator and re.fullmatch("[a-z][a-z0-9+]*", scheme) and not rest.startswith("/"):
        raise ConfigError(
            f"outputs cannot go to {scheme}:/…, a URL without one of its slashes; write {scheme}://…, or "
            f"./{scheme}:/… for a folder of that name"
        )
    return path


def _check_s3(parts: SplitResult) -> None:
    if "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"outputs cannot go to this {parts.scheme}:// URL: it is a bucket and a prefix, without credentials, port "
            "or query; leave credentials and endpoint to AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, "
            "an AWS profile, or [tool.runstore.storage]"
        )
    if not parts.netloc:
        raise ConfigError(
            f"outputs cannot go to this {parts.scheme}:// URL, which names no bucket; use "
            f"{parts.scheme}://BUCKET/PREFIX"
        )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # its text may hold a credential
        raise ConfigError(
            f"outputs cannot go to this {scheme_of(url)}:// URL, which is not well-formed; correct it"
        ) from None


def secrets_of(url: str) -> set[str]:
    """All of a URL that may be a credential; the name of a user alone is none."""
    parts = urlsplit(url)
    secrets = {
        parts.netloc.rpartition("@")[0],
        parts.password or "",
        parts.query,
        parts.fragment,
    }
    secrets.update(value for _, value in parse_qsl(parts.query))
    secrets.update([unquote(secret) for secret in secrets])
    return secrets - {""}
