"""Outputs in S3, and in what speaks its language, by s3fs: the requests, and no others, that an output needs.

s3fs by itself asks for the size before it reads, and lists where it does not find; a torn object is published where an
exception passes through its `open("wb")`. So the requests are named here: PUT with a condition and a checksum, GET with
a range, HEAD, and multipart uploads that are aborted where they fail. Trying again is ours alone (`requests.py`).
"""

import base64
import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from runstore.credentials import learn_environment
from runstore.errors import OutputMissing, StorageFailed
from runstore.outputs.base import Found
from runstore.outputs.remote import IN_FLIGHT, RemoteBase, is_precondition
from runstore.outputs.requests import code_of, may_pass

MULTIPART_BYTES = 8 * 2**20
"""An object of more is sent in parts of so many bytes."""
PARTS_IN_FLIGHT = 4
ABORT_S = 5.0
"""For what is thrown away because the service did not do what it was asked to: it may not do that either."""
DELETED_TOGETHER = 1_000

_CLIENT = {
    # One layer tries again, and it is ours.
    "retries": {"total_max_attempts": 1, "mode": "standard"},
    "connect_timeout": 5,
    "read_timeout": 20,
    "max_pool_connections": 2 * IN_FLIGHT,
    # Bytes are held against the log's digest; a service's own checksum would make altered ones an error of transfer.
    "response_checksum_validation": "when_required",
}
_DIGEST = "sha256"
"""Of the metadata of an object that was sent in parts: that of the whole, since the checksums of S3 are of parts."""
_WRONG_CHECKSUM_CODES = (
    "BadDigest",
    "InvalidDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
)
"""How a service says that bytes are not those of their checksum."""
_UNCONDITIONAL_CODES = ("NotImplemented", "501")
"""How a service says that it does not know the condition of a write."""


class S3Base(RemoteBase):
    """A prefix of a bucket."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        learn_environment()
        super().__init__(url, options)
        self._filesystem.retries = 1
        self._bucket, _, self._folder = self._prefix.partition("/")
        self._knows_bucket = False
        self.conditional = True
        """False once the service has said that it has no conditional writes."""

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those given over ours; a listing that is remembered would show what was there before, and a filesystem that
        is remembered was made for another environment, and is shared with the ops of the user.
        """
        config = {**_CLIENT, **options.get("config_kwargs", {})}
        ours = {"config_kwargs": config, "use_listings_cache": False, "skip_instance_cache": True}
        return {**options, **ours}

    def _key(self, path: str) -> str:
        return f"{self._folder}/{path}" if self._folder else path

    def _ask(self, request: str, **parameters: Any) -> Any:
        return self._filesystem.call_s3(request, Bucket=self._bucket, **parameters)

    # Writing

    def _put(self, path: str, data: bytes, sha256: str) -> None:
        try:
            self._send(path, data, sha256, **({"IfNoneMatch": "*"} if self.conditional else {}))
        except OSError as error:
            if is_precondition(error):
                raise FileExistsError(self.describe(path)) from None
            if not self.conditional or code_of(error) not in _UNCONDITIONAL_CODES:
                raise
            self.conditional = False
            self._send(path, data, sha256)

    def _send(self, path: str, data: bytes, sha256: str, **condition: str) -> None:
        if len(data) > MULTIPART_BYTES:
            self._send_in_parts(path, data, sha256, condition)
            return
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        self._ask(
            "put_object", Key=self._key(path), Body=data, ChecksumSHA256=checksum, **condition
        )

    def _send_in_parts(
        self, path: str, data: bytes, sha256: str, condition: Mapping[str, str]
    ) -> None:
        """Parts are no object before they are completed, and are thrown away where one of them fails."""
        key, upload = self._key(path), ""
        try:
            upload = self._ask("create_multipart_upload", Key=key, Metadata={_DIGEST: sha256})[
                "UploadId"
            ]
            with ThreadPoolExecutor(PARTS_IN_FLIGHT) as pool:
                starts = range(0, len(data), MULTIPART_BYTES)
                parts = list(
                    pool.map(lambda start: self._send_part(path, data, upload, start), starts)
                )
            wanted = {"UploadId": upload, "MultipartUpload": {"Parts": parts}, **condition}
            self._complete(path, wanted, len(data), sha256)
        except BaseException:
            self._abort_all(path, upload)
            raise

    def _complete(self, path: str, wanted: Mapping[str, Any], size_bytes: int, sha256: str) -> None:
        """Make an object of parts. Where no reply comes the object may stand all the same: then nothing is sent again.

        Raises what `_put` decides about: that there is an object already, that there are no conditional writes.
        """
        stands = partial(self._stands, path, size_bytes, sha256)
        was_asked = False

        def request() -> OSError | None:
            nonlocal was_asked
            is_first, was_asked = not was_asked, True
            try:
                if is_first or not stands():
                    self._ask("complete_multipart_upload", Key=self._key(path), **wanted)
            except (
                FileNotFoundError
            ):  # the upload is gone; so it is, too, once it has become the object
                if not stands():
                    raise
            except OSError as error:
                if is_precondition(error) or code_of(error) in _UNCONDITIONAL_CODES:
                    return error
                raise
            return None

        refusal = self._requests.ask(f"{self.describe(path)}, all parts", request)
        if refusal is not None:
            raise refusal

    def _stands(self, path: str, size_bytes: int, sha256: str) -> bool:
        """True where the service has this very object, by its size and by the digest that was sent along."""
        try:
            found = self._ask("head_object", Key=self._key(path))
        except FileNotFoundError:
            return False
        digest = found.get("Metadata", {}).get(_DIGEST)
        return (int(found["ContentLength"]), digest) == (size_bytes, sha256)

    def _send_part(self, path: str, data: bytes, upload: str, start: int) -> dict[str, Any]:
        number = start // MULTIPART_BYTES + 1
        answer = self._requests.ask(
            f"{self.describe(path)}, part {number}",
            lambda: self._ask(
                "upload_part",
                Key=self._key(path),
                UploadId=upload,
                PartNumber=number,
                Body=data[start : start + MULTIPART_BYTES],
            ),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _abort_all(self, path: str, upload: str) -> None:
        """Throw the parts away, also of an upload whose id got lost on its way here; `prune` finds the rest."""
        with contextlib.suppress(
            StorageFailed, FileNotFoundError
        ):  # what went wrong before is the news
            uploads = [upload] if upload else [one for _, one in self.unfinished(path, ABORT_S)]
            for one in uploads:
                self.abort(path, one, ABORT_S)

    # Reading

    def _get(self, path: str, offset: int, size: int | None) -> bytes:
        if size == 0:
            return b""
        if size is None:
            # One at a time is one request; several would ask for the size first.
            return self._filesystem.cat_file(self._at(path), max_concurrency=1)  # type: ignore[no-any-return]
        return self._filesystem.cat_file(self._at(path), start=offset, end=offset + size)  # type: ignore[no-any-return]

    def _size_of(self, path: str) -> int:
        return int(self._ask("head_object", Key=self._key(path))["ContentLength"])

    def _gone(self, path: str) -> Exception:
        """A bucket that is not there is no reason to make outputs again."""
        if not self._knows_bucket:
            try:
                self._requests.ask(self.root, lambda: self._ask("head_bucket"))
            except FileNotFoundError:
                return StorageFailed(
                    f"{self.root}: there is no bucket {self._bucket!r} at this endpoint; name the one that holds the "
                    "outputs, then `runstore resume`"
                )
            except StorageFailed:
                pass  # who may read objects need not be allowed to look at their bucket
            self._knows_bucket = True
        return OutputMissing(f"no object at {self.describe(path)}")

    # Housekeeping

    def found(self) -> Iterator[Found]:
        """Every object below this base, a thousand at a time."""
        prefix = self._key("")
        more: dict[str, str] = {}
        while True:
            page = self._found("", partial(self._ask, "list_objects_v2", Prefix=prefix, **more))
            for one in page.get("Contents", ()):
                yield Found(one["Key"].removeprefix(prefix), int(one["Size"]))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def unfinished(self, path: str = "", within_s: float = math.inf) -> list[tuple[str, str]]:
        """(path, upload) of multipart uploads that were not ended, of all objects or of one."""
        prefix = self._key(path)
        ask = partial(self._ask, "list_multipart_uploads", Prefix=prefix)
        try:
            page = self._requests.ask(self.root, ask, within_s)
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchUpload":  # so says rclone where there are none
                return []
            raise self._gone("") from None
        return [
            (one["Key"].removeprefix(self._key("")), one["UploadId"])
            for one in page.get("Uploads", ())
        ]

    def abort(self, path: str, upload: str, within_s: float = math.inf) -> None:
        """Throw the parts of an unfinished upload away."""
        key = self._key(path)
        with contextlib.suppress(FileNotFoundError):
            self._requests.ask(
                self.describe(path),
                lambda: self._ask("abort_multipart_upload", Key=key, UploadId=upload),
                within_s,
            )

    def checks_checksums(self, path: str) -> bool:
        """True where the service refuses bytes that are not those of the checksum that comes with them."""

        def is_refused() -> bool:
            try:
                self._send(path, b"probe", hashlib.sha256(b"other").hexdigest())
            except OSError as error:
                is_answer = code_of(error) in _WRONG_CHECKSUM_CODES or not may_pass(error)
                if isinstance(error, PermissionError) or not is_answer:
                    raise
                return True
            return False

        return self._requests.ask(self.describe(path), is_refused)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects, a thousand per request."""
        for start in range(0, len(paths), DELETED_TOGETHER):
            some = paths[start : start + DELETED_TOGETHER]
            wanted = {"Objects": [{"Key": self._key(path)} for path in some], "Quiet": True}
            answer = self._requests.ask(
                self.root, partial(self._ask, "delete_objects", Delete=wanted)
            )
            errors = answer.get("Errors", ())
            if errors:
                raise StorageFailed(
                    f"{self.root}/{errors[0].get('Key')}: {errors[0].get('Message')}; {len(errors):,} objects were not "
                    "deleted. See to the service, then try again"
                )

    def remove(self) -> None:
        """Delete everything below this base, unfinished uploads among it."""
        self.delete([found.path for found in self.found()])
        for path, upload in self.unfinished():
            self.abort(path, upload)
