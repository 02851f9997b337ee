"""Files as streams: exactly so many bytes, the checksum of what passes, and seeking in a stored object."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import BinaryIO

CHUNK_BYTES = 4 << 20


def checksum_text(crc: int) -> str:
    """Write a CRC-32 as the farm keeps it."""
    return f"crc32:{crc & 0xFFFFFFFF:08x}"


class EndedEarly(OSError):
    """A stream ended before the length that it was announced with."""


class ExactReader(io.RawIOBase):
    """Give the next `length` bytes of a stream, and no more."""

    def __init__(self, source: BinaryIO, length: int) -> None:
        self._source = source
        self._length = length
        self.taken = 0
        self.is_short = False  #: True once the stream has ended early

    def readable(self) -> bool:
        return True

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        """Errors: EndedEarly"""
        left = self._length - self.taken
        wanted = left if size < 0 else min(size, left)
        pieces = []
        while wanted:
            piece = self._source.read(wanted)
            if not piece:
                self.is_short = True
                raise EndedEarly(f"the stream ended after {self.taken} of {self._length} bytes")
            self.taken += len(piece)
            wanted -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def copy_with_checksum(source: BinaryIO, write: Callable[[bytes], object], *, go_on: Callable[[], bool]) -> tuple[int, int] | None:
    """Read a stream to its end, handing on what is read. Returns: (bytes, CRC-32); None if `go_on` said no"""
    total = crc = 0
    while data := source.read(CHUNK_BYTES):
        if not go_on():
            return None
        write(data)
        crc = zlib.crc32(data, crc)
        total += len(data)
    return total, crc
