"""The farm's buckets as programs on instances have them: moto's own memory. Nothing that befalls the farm's calls befalls theirs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any  # Any: moto's models are made at run time

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from nodeimage.protocol import bucket_of
from supervisor.cloud.aws.identity import Identity
from supervisor.cloud.ports import StoredObject


class Bucket:
    """Objects, in the bucket that their key says."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    @property
    def _s3(self) -> Any:
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def _of(self, key: str) -> str:
        return bucket_of(key, self._identity.projects_bucket, self._identity.received_bucket)

    def get(self, key: str) -> StoredObject | None:
        found = self._s3.get_object(self._of(key), key)
        return StoredObject(body=found.value, etag=found.etag.strip('"')) if found else None

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> bool:
        if if_absent and self.get(key) is not None:
            return False
        self._s3.put_object(self._of(key), key, body)
        return True

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            if self.get(key) is not None:
                self._s3.delete_object(self._of(key), key)

    def names(self, prefix: str = "") -> list[str]:
        """Keys in both buckets."""
        return sorted(key for kept in self._kept() for key in kept if key.startswith(prefix))

    def unfinished_uploads(self) -> list[str]:
        """Keys of multipart uploads that nobody completed or aborted."""
        found = (self._s3.get_bucket(name).multiparts.values() for name in self._buckets())
        return sorted(upload.key_name for uploads in found for upload in uploads)

    def _kept(self) -> Iterator[Mapping[str, Any]]:
        return (self._s3.get_bucket(name).keys for name in self._buckets())

    def _buckets(self) -> list[str]:
        return [name for name in (self._identity.projects_bucket, self._identity.received_bucket) if name in self._s3.buckets]
