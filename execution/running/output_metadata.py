"""What an op says about its outputs: small JSON data that stands in the event which stores the output."""

from collections.abc import Mapping
from typing import Any

import msgspec

from execution.errors import StepError
from runstore.exactness import first_inexact
from runstore.log.codec import check_exact

_Place = tuple[str | None, str | None]
"""Output (None: the only one) and mapping key."""


class AddedMetadata:
    """What an op has said by `context.add_output_metadata`, until the output is given."""

    def __init__(self) -> None:
        self._waiting: dict[_Place, dict[str, Any]] = {}

    def add(
        self, metadata: Mapping[str, Any], output_name: str | None, mapping_key: str | int | None
    ) -> None:
        """Remember; what is said twice of one output is merged."""
        place = (output_name, None if mapping_key is None else str(mapping_key))
        self._waiting.setdefault(place, {}).update(metadata)

    def take(self, output: str, key: str | None, *, is_only: bool) -> dict[str, Any]:
        """What was said of an output that is given now; `is_only`: the op has no other output."""
        unnamed = self._waiting.pop((None, key), {}) if is_only else {}
        return {**unnamed, **self._waiting.pop((output, key), {})}

    def check_taken(self, step_key: str) -> None:
        """Raise StepError where something was said of an output that was not given afterwards."""
        for output, key in self._waiting:
            of = f" of mapping key {key!r}" if key is not None else ""
            named = f"output {output!r}" if output is not None else "an output without a name"
            raise StepError(
                f"step {step_key!r} added metadata for {named}{of} that it did not give afterwards; add it before the "
                "output is given, by output_name and, for a dynamic output, mapping_key"
            )


def exact_metadata(step_key: str, output: str, metadata: Any) -> dict[str, Any] | None:
    """A copy of what JSON holds exactly, None where nothing is said; raises NotStorable with the path."""
    if not isinstance(metadata, Mapping):
        raise StepError(
            f"step {step_key!r}, output {output!r}: metadata is a {type(metadata).__name__}; give a dict"
        )
    found = first_inexact(dict(metadata))
    if found is not None:
        check_exact(found[1], f"step {step_key!r}, output {output!r}: metadata {found[0]}")
    return msgspec.json.decode(msgspec.json.encode(dict(metadata))) or None
