"""Text of an op as the log can hold it: without credentials, NUL and lone surrogates, of bounded length (rule F5)."""

from runstore.credentials import redacted


def storable_text(text: str, limit: int) -> str:
    """The text; of one longer than `limit` characters the beginning and the end."""
    text = redacted(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
