"""The one place of the agent that talks to S3."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from nodeimage.protocol import NodeConfig, bucket_of

from .ports import Absent, Fetched, Full, Part, Refused, Silent

T = TypeVar("T")

#: Tries of one call, while the store was heard of lately. The loops that call do their own waiting.
TRIES = 3
FIRST_PAUSE_S = 0.2
#: After so long without an answer a call is tried once only: what waits for it had better look after Blender.
CIRCUIT_OPEN_S = 10.0
#: A thread that swallows an upload's error would have the frame called delivered (s3transfer does, when killed in between).
TRANSFER = TransferConfig(multipart_threshold=64 * 2**20, multipart_chunksize=64 * 2**20, use_threads=False)

#: Read at once of a large object.
BLOCK_BYTES = 1 << 20

_FAULTS = (ClientError, BotoCoreError, HTTPClientError, boto3.exceptions.Boto3Error)
_FULL = frozenset({"InsufficientStorage", "507", "XMinioStorageFull", "QuotaExceeded"})
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
#: What a call that needs room begins with, in `_ask`: SeaweedFS without room answers 500 to those, and only to those.
_WRITES = ("write", "upload", "claim")


#: botocore gives up on the role's keys after one try of a second, if nobody says otherwise.
_PATIENT = {"AWS_METADATA_SERVICE_NUM_ATTEMPTS": "5", "AWS_METADATA_SERVICE_TIMEOUT": "2"}


def be_patient_for_keys() -> None:
    """Have botocore ask for the role's keys more than once, in this process and those that it starts. To be called before `connect`"""
    for name, value in _PATIENT.items():
        os.environ.setdefault(name, value)


def connect(config: NodeConfig, *, connections: int = 8) -> S3Store:
    """Make the agent's store from the keys in the environment, or of the instance's role. Nothing is sent yet."""
    client = boto3.client(
        "s3",
        endpoint_url=config.endpoint or None,
        region_name=config.region,
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"total_max_attempts": 1},
            max_pool_connections=connections,
            s3={"addressing_style": "path"} if config.endpoint else {},
            # Stores other than Amazon's know these trailers only in part. The journal carries each output's own checksum.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return S3Store(client, bucket=config.bucket, received_bucket=config.received_bucket)


class S3Store:
    """Implements `ports.Store`."""

    def __init__(self, client: Any, *, bucket: str, received_bucket: str = "") -> None:  # Any: boto3's clients are made at run time
        self._client = client
        self._bucket = bucket
        self._received_bucket = received_bucket
        self._stopped = threading.Event()
        self._answered_at = time.monotonic()

    def _at(self, key: str) -> dict[str, str]:
        """Where an object is."""
        return {"Bucket": self._bucket_of(key), "Key": key}

    def _bucket_of(self, key: str) -> str:
        return bucket_of(key, self._bucket, self._received_bucket)

    def get(self, key: str, *, etag: str = "") -> Fetched | None:
        condition = {"IfNoneMatch": etag} if etag else {}

        def call() -> Fetched | None:
            try:
                answer = self._client.get_object(**self._at(key), **condition)
                return Fetched(etag=answer["ETag"], body=answer["Body"].read())
            except ClientError as error:
                if _status(error) == 304:
                    return Fetched(etag=etag, body=None)
                if _status(error) == 404:
                    return None
                raise

        return self._ask(f"read {key}", call)

    def put(self, key: str, body: bytes, *, content_type: str = "application/json") -> None:
        self._ask(f"write {key}", lambda: self._client.put_object(**self._at(key), Body=body, ContentType=content_type))

    def put_new(self, key: str, body: bytes) -> bool:
        def call() -> bool:
            try:
                self._client.put_object(**self._at(key), Body=body, ContentType="application/json", IfNoneMatch="*")
            except ClientError as error:
                if _status(error) == 412:
                    return False
                raise
            return True

        if self._ask(f"claim {key}", call):
            return True
        # The reply to our own put may have been lost on its way: then the 412 is about ourselves.
        there = self.get(key)
        return there is not None and there.body == body

    def put_file(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> None:
        extra = {"ContentType": content_type}
        bucket = self._bucket_of(key)
        self._ask(f"upload {key}", lambda: self._client.upload_file(str(path), bucket, key, ExtraArgs=extra, Config=TRANSFER))

    def open_part(self, key: str, *, first: int, count: int) -> Part:
        """Begin to read a part of an object of any size. Tried once: who reads large things waits by itself.

        Shape:   count >= 1; a part that reaches past the object's end is shorter
        Errors:  Absent - there is no such object; Silent, Refused
        """
        what = f"read {key}"
        try:
            answer = self._client.get_object(**self._at(key), Range=f"bytes={first}-{first + count - 1}")
        except _FAULTS as error:
            if isinstance(error, ClientError) and _status(error) == 416:
                return Part(object_bytes=_total_bytes(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})), blocks=iter(()))
            raise _translated(error, what) from error
        self._answered_at = time.monotonic()
        total = _total_bytes({"content-range": answer.get("ContentRange", "")}) or answer["ContentLength"]
        return Part(object_bytes=total, blocks=self._blocks(answer["Body"], what))

    def _blocks(self, body: Any, what: str) -> Iterator[bytes]:  # Any: botocore's StreamingBody
        with closing(body):
            while True:
                try:
                    block = body.read(BLOCK_BYTES)
                except (*_FAULTS, OSError) as error:
                    raise Silent(f"could not {what} to its end: {error}") from error
                if not block:
                    return
                self._answered_at = time.monotonic()
                yield block

    def names(self, prefix: str) -> list[str]:
        def call() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket_of(prefix), Prefix=prefix)
            return [entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", ())]

        return self._ask(f"list {prefix}", call)

    def delete(self, key: str) -> None:
        self._ask(f"delete {key}", lambda: self._client.delete_object(**self._at(key)))

    def silent_s(self) -> float:
        return time.monotonic() - self._answered_at

    def stop_retrying(self) -> None:
        """From now on, try each call once: the agent ends."""
        self._stopped.set()

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        tries = 1 if self._stopped.is_set() or self.silent_s() > CIRCUIT_OPEN_S else TRIES
        for attempt in range(1, tries + 1):
            try:
                answer = call()
            except _FAULTS as error:
                fault = _translated(error, what)
                if attempt == tries or not isinstance(fault, Silent):
                    raise fault from error
                self._stopped.wait(FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
            else:
                self._answered_at = time.monotonic()
                return answer
        raise AssertionError("the last try returns or raises")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _total_bytes(headers: Mapping[str, str]) -> int:
    """Size of the object that an answer is a part of (`bytes 0-9/100`, `bytes */100`); 0: it does not say."""
    total = headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else 0


def _translated(error: Exception, what: str) -> Silent | Refused:
    """Sort an error by what the caller does next.

    409 is Amazon's answer to two conditional puts at once, 429 and 503 mean slow down: the same call again.
    """
    cause = error.__cause__ or error.__context__ if isinstance(error, boto3.exceptions.Boto3Error) else error
    if not isinstance(cause, ClientError):
        return Silent(f"could not {what}: {error}")
    status, code = _status(cause), str(cause.response.get("Error", {}).get("Code", ""))
    message = f"could not {what}: {status} {code}"
    if code in _FULL or status == 507 or (status == 500 and what.startswith(_WRITES)):
        return Full(message)
    if status in (408, 409, 425, 429) or status >= 500 or code in ("RequestTimeout", "RequestTimeTooSkewed", "SlowDown"):
        return Silent(message)
    return Absent(message) if status == 404 and code in _ABSENT else Refused(message)
