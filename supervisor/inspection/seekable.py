"""A stored object as a file that can be read anywhere, by ranges."""

from __future__ import annotations

import errno
import io
import os
from typing import BinaryIO

from supervisor.cloud.ports import ObjectStore

#: Going forward so little is cheaper by reading on than by asking anew.
_READ_OVER_BYTES = 256 << 10


class TooMuchAtOnce(ValueError):
    """A reader asked for more than it may hold in memory."""


class ObjectGone(Exception):
    """There is no such object any more. No OSError: `zipfile` takes those for a damaged zip."""


class SeekableObject(io.RawIOBase):
    """`ObjectStore.open` with `seek`; one stream is open at a time."""

    def __init__(self, objects: ObjectStore, key: str, *, length: int, max_read_bytes: int) -> None:
        """Shape:   max_read_bytes: the most that one `read` gives; a zip may claim that its index has gigabytes"""
        self._objects = objects
        self._key = key
        self._length = length
        self._max_read_bytes = max_read_bytes
        self._at = 0
        self._stream: BinaryIO | None = None
        self._stream_at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, f"there is nothing at {base + offset}")  # as files do; `zipfile` counts on it
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Errors: TooMuchAtOnce, ObjectGone, CloudError"""
        left = max(0, self._length - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > self._max_read_bytes:
            raise TooMuchAtOnce(f"{wanted} bytes at once")
        if not wanted:
            return b""
        data = self._stream_there().read(wanted)
        self._at += len(data)
        self._stream_at += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None
        super().close()

    def _stream_there(self) -> BinaryIO:
        ahead = self._at - self._stream_at
        if self._stream and 0 < ahead <= _READ_OVER_BYTES:
            self._stream_at += len(self._stream.read(ahead))
        if self._stream is None or self._stream_at != self._at:
            if self._stream:
                self._stream.close()
            try:
                self._stream = self._objects.open(self._key, first_byte=self._at)
            except FileNotFoundError as error:
                raise ObjectGone(self._key) from error
            self._stream_at = self._at
        return self._stream
