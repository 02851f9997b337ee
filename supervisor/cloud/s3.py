"""Objects and multipart uploads in an S3 bucket: the farm's own SeaweedFS, Amazon S3, or another store that speaks S3."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import Any, BinaryIO

import structlog
from botocore.exceptions import ClientError

from nodeimage.protocol import bucket_of

from .ports import CloudError, Listed, StoredObject
from .s3_client import ABSENT_CODES, error_code, store_errors

log = structlog.get_logger(__name__)

_DELETE_BATCH = 1000  #: most keys of one DeleteObjects, by S3's rule
_FIRST_PART_BYTES = 8 << 20
_READ_BYTES = 256 << 10


def part_bytes(number: int) -> int:
    """Size the parts of a stream of unknown length: small at first, doubled every 1,000 parts, so that 10,000 parts hold 8 TiB.

    Memory holds one part: 64 MiB at 56 GiB.
    """
    return int(_FIRST_PART_BYTES << ((number - 1) // 1000))


class S3ObjectStore:
    """`ObjectStore` over a ready S3 client. What nodes deliver may have a bucket of its own."""

    def __init__(self, client: Any, bucket: str, *, received_bucket: str = "", is_full: Callable[[], bool] | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._received_bucket = received_bucket
        self._is_full = is_full

    def _of(self, key: str) -> str:
        """The bucket that a key (or a prefix) belongs into."""
        return bucket_of(key, self._bucket, self._received_bucket)

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> bool:
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with store_errors(f"write {key}", is_full=self._is_full):
            try:
                self._client.put_object(Bucket=self._of(key), Key=key, Body=body, **condition)
            except ClientError as error:
                if error_code(error) not in {"412", "PreconditionFailed"}:
                    raise
                return self._is_own_write(error, key, body)
        return True

    def _is_own_write(self, error: ClientError, key: str, body: bytes) -> bool:
        # A reply lost on the way made botocore send the write again: then the object that stands in the way may be ours.
        if not error.response.get("ResponseMetadata", {}).get("RetryAttempts"):
            return False
        there = self.get(key)
        return there is not None and there.body == body

    def put_stream(self, key: str, source: BinaryIO) -> None:
        first = _read_fully(source, part_bytes(1))
        with store_errors(f"write {key}", is_full=self._is_full):
            if len(first) < part_bytes(1):
                self._client.put_object(Bucket=self._of(key), Key=key, Body=first)
                return
            upload_id = self._client.create_multipart_upload(Bucket=self._of(key), Key=key)["UploadId"]
        where = {"Bucket": self._of(key), "Key": key, "UploadId": upload_id}
        try:
            self._put_parts(where, first, source)
        except BaseException:
            self._abort(where)
            raise

    def _put_parts(self, where: dict[str, str], part: bytes, source: BinaryIO) -> None:
        parts: list[dict[str, object]] = []
        while part:
            number = len(parts) + 1
            with store_errors(f"write part {number} of {where['Key']}", is_full=self._is_full):
                etag = self._client.upload_part(**where, PartNumber=number, Body=part)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
            part = _read_fully(source, part_bytes(number + 1))
        with store_errors(f"write {where['Key']}", is_full=self._is_full):
            self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    def _abort(self, where: dict[str, str]) -> None:
        try:
            with store_errors(f"abort the upload of {where['Key']}"):
                self._client.abort_multipart_upload(**where)
        except CloudError as error:
            log.warning("parts of a failed write are left until stale uploads are removed", key=where["Key"], error=str(error))

    def get(self, key: str, *, unless_etag: str | None = None) -> StoredObject | None:
        condition = {"IfNoneMatch": f'"{unless_etag}"'} if unless_etag else {}
        with store_errors(f"read {key}"):
            try:
                answer = self._client.get_object(Bucket=self._of(key), Key=key, **condition)
            except ClientError as error:
                if error_code(error) in ABSENT_CODES | {"304", "NotModified"}:
                    return None
                raise
            with answer["Body"] as body:
                return StoredObject(body=body.read(), etag=answer["ETag"].strip('"'))

    def open(self, key: str, *, first_byte: int = 0) -> BinaryIO:
        part = {"Range": f"bytes={first_byte}-"} if first_byte else {}
        with store_errors(f"read {key}"):
            try:
                answer = self._client.get_object(Bucket=self._of(key), Key=key, **part)
            except ClientError as error:
                code = error_code(error)
                if code in ABSENT_CODES:
                    raise FileNotFoundError(f"there is no object {key}") from error
                if code in {"416", "InvalidRange"}:
                    return io.BytesIO()
                raise
        return io.BufferedReader(_ObjectStream(key, answer["Body"]), _READ_BYTES)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        start = {"StartAfter": after} if after else {}
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self._of(prefix), Prefix=prefix, **start))
        while True:
            with store_errors(f"list {prefix}"):
                page = next(pages, None)
            if page is None:
                return
            for entry in page.get("Contents", ()):
                yield Listed(key=entry["Key"], bytes=entry["Size"], etag=entry["ETag"].strip('"'), modified_at=entry["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        for bucket, of_bucket in groupby(keys, key=self._of):
            self._delete(bucket, of_bucket)

    def _delete(self, bucket: str, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := list(islice(remaining, _DELETE_BATCH)):
            what = f"delete {batch[0]}" + (f" and {len(batch) - 1} more" if len(batch) > 1 else "")
            with store_errors(what):
                wanted = {"Objects": [{"Key": key} for key in batch], "Quiet": True}
                answer = self._client.delete_objects(Bucket=bucket, Delete=wanted)
                failed = [entry for entry in answer.get("Errors", ()) if entry.get("Code") not in ABSENT_CODES]
                if failed:
                    # One error stands for all: sorted like an answer of its own.
                    status = 403 if failed[0].get("Code") == "AccessDenied" else 500
                    raise ClientError({"Error": failed[0], "ResponseMetadata": {"HTTPStatusCode": status}}, "DeleteObjects")


def _read_fully(source: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end: a `read` of a pipe or a socket may answer with less."""
    part = bytearray()
    while len(part) < size:
        more = source.read(size - len(part))
        if not more:
            break
        part += more
    return bytes(part)


class _ObjectStream(io.RawIOBase):
    """An object's body, whose errors are the port's."""

    def __init__(self, key: str, body: Any) -> None:
        super().__init__()
        self._key = key
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with store_errors(f"read {self._key}"):
            return int(self._body.readinto(buffer))

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()
