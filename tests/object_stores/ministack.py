"""ministack: objects on disk, so that it can be stopped, killed and started again; asks for keys if told to."""

import sys
from collections.abc import Mapping

from tests.object_stores.server import HOST, REGION, ObjectStore, put_unsigned


class Ministack(ObjectStore):
    """What was stored is there again after `restart`; a body is written to a temporary name, then renamed."""

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "ministack"]

    def _environment(self) -> Mapping[str, str]:
        return {
            "BIND_HOST": HOST,  # else it listens on every interface
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "s3",
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.folder / "objects"),
            "TMPDIR": str(self.folder),
            "LOG_LEVEL": "WARNING",
            "MINISTACK_REGION": REGION,
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket with an object in it: one that is empty does not outlive a restart."""
        put_unsigned(self.port, f"/{name}")
        put_unsigned(self.port, f"/{name}/.keep", b"kept")
        return name
