"""moto: conditional writes right, data in memory; its server in a process of its own, which can be killed."""

import sys
from collections.abc import Mapping

from tests.object_stores.server import HOST, ObjectStore, put_unsigned

_SERVE = """
import sys, threading
from moto.server import ThreadedMotoServer
ThreadedMotoServer(sys.argv[1], int(sys.argv[2]), verbose=False).start()
threading.Event().wait()
"""


class Moto(ObjectStore):
    """What is stored is gone when it ends."""

    def _command(self) -> list[str]:
        return [sys.executable, "-c", _SERVE, HOST, str(self.port)]

    def _environment(self) -> Mapping[str, str]:
        return {}

    def make_bucket(self, name: str) -> str:
        """Make a bucket; moto asks nobody who they are."""
        put_unsigned(self.port, f"/{name}")
        return name
