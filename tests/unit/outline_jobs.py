"""A job whose output is in a format that only its own code knows.

Every worker process is told where the formats are that its executor's process knows, and imports that: so this module
imports nothing that is heavy.
"""

from typing import Any

from execution import job, op
from runstore import serializer


class Polygon:
    def __init__(self, *corners: int) -> None:
        self.corners = corners


@serializer("outline", extension="csv", types=(Polygon,))
class Corners:
    def encode(self, value: Polygon, declared: Any) -> bytes:
        return ",".join(map(str, value.corners)).encode()

    def decode(self, data: bytes, declared: Any) -> Polygon:
        return Polygon(*map(int, data.split(b",")))


@op
def drawn() -> Polygon:
    return Polygon(3, 4, 5)


@op
def measured(polygon: Polygon) -> int:
    return sum(polygon.corners)


@job
def shapes() -> None:
    measured(drawn())
