"""An object store in memory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from supervisor.cloud.ports import Full, Listed, StoredObject

from .trouble import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    body: bytes
    etag: str
    modified_at: datetime


def etag_of(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


class _BrokenOff(io.BytesIO):
    """An answer that ends in an error."""

    def __init__(self, body: bytes, error: Exception) -> None:
        super().__init__(body)
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        if not part and size:
            raise self._error
        return part


class FakeObjectStore(Trouble):
    """`ObjectStore` in memory. `capacity_bytes` makes it full; `writes`, `reads` and `lists` are what was asked of it, key by key.

    `opened` is what was opened: (key, first byte, the stream). `before_list` is called before each listing.
    """

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self._objects: dict[str, _Object] = {}
        self._clock = clock
        self.capacity_bytes: int | None = None
        self.writes: list[str] = []
        self.opened: list[tuple[str, int, BinaryIO]] = []
        self._breaks: dict[str, tuple[int, Exception]] = {}
        self.reads: list[str] = []
        self.lists: list[str] = []
        self.before_list: Callable[[], object] = lambda: None

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> bool:
        self._meet_trouble("put")
        if if_absent and key in self._objects:
            return False
        self.place(key, body, etag=etag_of(body))
        return True

    def put_stream(self, key: str, source: BinaryIO) -> None:
        self._meet_trouble("put_stream")
        body = source.read()
        self.place(key, body, etag=etag_of(body))

    def get(self, key: str, *, unless_etag: str | None = None) -> StoredObject | None:
        self._meet_trouble("get")
        self.reads.append(key)
        there = self._objects.get(key)
        if there is None or there.etag == unless_etag:
            return None
        return StoredObject(body=there.body, etag=there.etag)

    def open(self, key: str, *, first_byte: int = 0) -> BinaryIO:
        self._meet_trouble("open")
        if key not in self._objects:
            raise FileNotFoundError(f"there is no object {key}")
        body = self._objects[key].body[first_byte:]
        after_bytes, error = self._breaks.pop(key, (0, None))
        stream = _BrokenOff(body[:after_bytes], error) if error else io.BytesIO(body)
        self.opened.append((key, first_byte, stream))
        return stream

    def break_off(self, key: str, error: Exception, *, after_bytes: int) -> None:
        """Make the next stream of an object end in an error after so many bytes."""
        self._breaks[key] = (after_bytes, error)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        self._meet_trouble("list")
        self.before_list()
        self.lists.append(prefix)
        # Folder by folder, as SeaweedFS does: `a/1` comes before `a-b`.
        for key in sorted(self._objects, key=lambda key: key.split("/")):
            if key.startswith(prefix) and key.split("/") > after.split("/"):
                there = self._objects[key]
                yield Listed(key=key, bytes=len(there.body), etag=there.etag, modified_at=there.modified_at)

    def delete(self, keys: Iterable[str]) -> None:
        self._meet_trouble("delete")
        for key in keys:
            self._objects.pop(key, None)

    def place(self, key: str, body: bytes, *, etag: str) -> None:
        """Put an object there with an ETag of one's own choice (those of multipart uploads differ)."""
        self.check_room(len(body))
        self._objects[key] = _Object(body=body, etag=etag, modified_at=self._clock())
        self.writes.append(key)

    def check_room(self, wanted_bytes: int) -> None:
        """Errors: Full - `capacity_bytes` would be exceeded"""
        if self.capacity_bytes is not None and sum(len(o.body) for o in self._objects.values()) + wanted_bytes > self.capacity_bytes:
            raise Full("can't write: the store's disk is full")

    def keys(self, prefix: str = "") -> Sequence[str]:
        """Name all objects, whatever trouble is set."""
        return sorted(key for key in self._objects if key.startswith(prefix))
