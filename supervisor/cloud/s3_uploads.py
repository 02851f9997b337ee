"""Multipart uploads into an S3 bucket, by the client's own hands (presigned URLs) or through this process, streamed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO

import urllib3
from botocore.exceptions import ClientError

from .ports import PartMismatch, Refused, UploadedPart
from .s3_client import ABSENT_CODES, error_code, sorted_error, store_errors

_URL_SECONDS = 6 * 3600
_BLOCK_BYTES = 256 << 10  #: what passes through memory of a part
_TIMEOUT = urllib3.Timeout(connect=5, read=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedUpload:
    """An upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    begun_at: datetime  #: by the store's clock


class S3Uploads:
    """`Uploads` over a ready S3 client. `connect` makes a client for another address of the same store, to sign URLs for it."""

    def __init__(self, client: Any, bucket: str, *, connect: Callable[[str], Any], is_full: Callable[[], bool] | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._is_full = is_full
        # The address comes from requests: bounded, so that made-up Host headers can't fill the memory with clients.
        self._client_at = lru_cache(maxsize=8)(connect)
        self._http = urllib3.PoolManager(num_pools=4, maxsize=32, retries=False, timeout=_TIMEOUT, blocksize=_BLOCK_BYTES)

    def begin(self, key: str) -> str:
        with store_errors(f"begin the upload of {key}", is_full=self._is_full):
            return str(self._client.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"])

    def part_url(self, key: str, upload_id: str, number: int, *, endpoint: str) -> str:
        return self._sign(self._client_at(endpoint) if endpoint else self._client, key, upload_id, number)

    def _sign(self, client: Any, key: str, upload_id: str, number: int) -> str:
        where = {"Bucket": self._bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        with store_errors(f"sign part {number} of {key}"):
            return str(client.generate_presigned_url("upload_part", Params=where, ExpiresIn=_URL_SECONDS))

    def put_part(self, key: str, upload_id: str, number: int, source: BinaryIO, *, length: int) -> str:
        what = f"write part {number} of {key}"
        # boto3 would hash or rewind the body: signed by URL, it passes through as it comes.
        url = self._sign(self._client, key, upload_id, number)
        part = _Part(source, length)
        with store_errors(what, is_full=self._is_full):
            try:
                # What urllib3 needs of a body is `read` alone, whatever its type says.
                answer = self._http.request("PUT", url, body=part, headers={"Content-Length": str(length)})  # type: ignore[arg-type]
            except (urllib3.exceptions.HTTPError, OSError) as error:
                # The connection breaks by our own hand when the client's bytes end early: that is the error to tell.
                if part.error:
                    raise part.error from error
                raise
        if answer.status != 200:
            raise sorted_error(
                what, code=_tag(answer.data, "Code"), status=answer.status, message=_tag(answer.data, "Message"), is_full=self._is_full
            )
        return answer.headers["ETag"].strip('"')

    def parts(self, key: str, upload_id: str) -> Sequence[UploadedPart] | None:
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload_id)
        with store_errors(f"list the parts of {key}"):
            try:
                return [
                    UploadedPart(number=part["PartNumber"], etag=part["ETag"].strip('"'), bytes=part["Size"])
                    for page in pages
                    for part in page.get("Parts", ())
                ]
            except ClientError as error:
                if error_code(error) in ABSENT_CODES:
                    return None
                raise

    def complete(self, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> None:
        wanted = sorted((number, etag.strip('"')) for number, etag in parts)
        stored = self.parts(key, upload_id)
        if stored is None:
            self._check_completed(key, wanted)
            return
        if not wanted:
            raise PartMismatch(f"the upload of {key} can't be completed without parts", number=1)
        # SeaweedFS keeps, and lists, every part that was ever sent under a number; S3 itself the last one.
        there = {(part.number, part.etag) for part in stored}
        for number, etag in wanted:
            if (number, etag) not in there:
                is_another = any(part.number == number for part in stored)
                fault = "has another ETag than the one given" if is_another else "was not received"
                raise PartMismatch(f"part {number} of {key} {fault}; send it again", number=number)
        with store_errors(f"complete the upload of {key}", is_full=self._is_full):
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in wanted]},
            )

    def _check_completed(self, key: str, wanted: list[tuple[int, str]]) -> None:
        """Tell a completion that is asked for again from an upload that is gone: the object bears the ETag of these very parts."""
        with store_errors(f"complete the upload of {key}"):
            try:
                there = self._client.head_object(Bucket=self._bucket, Key=key)["ETag"].strip('"')
            except ClientError as error:
                if error_code(error) not in ABSENT_CODES:
                    raise
                there = ""
        if not there or there != _etag_of(wanted):
            raise Refused(f"can't complete the upload of {key}: there is no such upload any more; upload the file again")

    def abort(self, key: str, upload_id: str) -> None:
        with store_errors(f"abort the upload of {key}"):
            try:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if error_code(error) not in ABSENT_CODES:
                    raise

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        """List the uploads into `prefix` that were begun and not ended."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
        with store_errors(f"list the unfinished uploads of {prefix}"):
            return [
                UnfinishedUpload(key=entry["Key"], upload_id=entry["UploadId"], begun_at=entry["Initiated"])
                for page in pages
                for entry in page.get("Uploads", ())
            ]


class _Part:
    """Exactly `length` bytes of a request's body, as a file that http.client reads in blocks."""

    def __init__(self, source: BinaryIO, length: int) -> None:
        self._source = source
        self._length = length
        self._left = length
        self.error: Exception | None = None  #: why it ended early

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        if not wanted:
            return b""
        try:
            data = self._source.read(wanted)
        except OSError as error:
            self.error = Refused(f"the part broke off after {self._length - self._left} of {self._length} bytes: {error}")
            raise
        if not data:
            self.error = Refused(f"the part broke off after {self._length - self._left} of {self._length} bytes; send it again")
            raise OSError("the part broke off")
        self._left -= len(data)
        return data


def _etag_of(parts: list[tuple[int, str]]) -> str:
    """The ETag that S3 gives an object made of these parts: the MD5 of their MD5s, with their number."""
    try:
        digests = b"".join(bytes.fromhex(etag) for _, etag in parts)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _tag(answer: bytes, name: str) -> str:
    """Read one element of S3's error document; a parser would be at the mercy of a proxy's HTML page."""
    match = re.search(rf"<{name}>([^<]*)</{name}>".encode(), answer)
    return match[1].decode(errors="replace") if match else ""
