"""Zips whose files are stored as they are: which bytes of one come out of which file is known before any of them is read."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from stat import S_IFREG
from zipfile import ZipFile, ZipInfo

from .naming import Packed, names_in_zip

#: What Unix makes of a file on unpacking: the owner may change it, everybody may read it.
_MODE = S_IFREG | 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipEntry:
    """One file of a zip: an output of a frame, and its name there."""

    frame: int
    output: str  #: its name as the node delivered it
    name: str  #: its name in the zip
    bytes: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipIndex:
    """What is in a zip: all that decides what its bytes are."""

    made_at: tuple[int, int, int, int, int, int]  #: the files' date: a zip has local time without saying of where
    entries: tuple[ZipEntry, ...]  #: in the zip's order


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Bytes of an entry's file, from `first` to before `end`; never none."""

    entry: ZipEntry
    first: int
    end: int


def index_of(outputs: Sequence[Packed], *, made_at: datetime) -> ZipIndex:
    """Name the files of a zip of these outputs. Shape: made_at: in the time zone of whoever will unpack, as far as that is known"""
    entries = tuple(
        ZipEntry(frame=output.frame, output=output.name, name=name, bytes=output.bytes, crc32=output.crc32)
        for output, name in zip(outputs, names_in_zip(outputs), strict=True)
    )
    date = (made_at.year, made_at.month, made_at.day, made_at.hour, made_at.minute, made_at.second)
    return ZipIndex(made_at=date, entries=entries)


class ZipPlan:
    """Where everything in a zip lies. ZIP64 where a size, an offset or the number of files needs it."""

    def __init__(self, index: ZipIndex) -> None:
        self._index = index
        self._starts = [0]  #: of each entry's header; the last: of the directory at the zip's end
        infos = []
        for entry in index.entries:
            info = self._info(entry)
            info.header_offset = self._starts[-1]
            infos.append(info)
            self._starts.append(info.header_offset + len(info.FileHeader()) + entry.bytes)
        self._directory = _directory(infos, starts_at=self._starts[-1])
        self.bytes = self._starts[-1] + len(self._directory)

    def pieces(self, first: int, end: int) -> Iterator[bytes | Stretch]:
        """Say what the zip's bytes from `first` to before `end` are: bytes that are no file's, and stretches of files, in order.

        Shape:   0 <= first <= end <= self.bytes
        """
        number = bisect_right(self._starts, first) - 1
        while number < len(self._index.entries) and self._starts[number] < end:
            yield from self._pieces_of(number, first, end)
            number += 1
        starts_at = self._starts[-1]
        if tail := self._directory[max(first - starts_at, 0) : max(end - starts_at, 0)]:
            yield tail

    def _pieces_of(self, number: int, first: int, end: int) -> Iterator[bytes | Stretch]:
        entry, starts_at = self._index.entries[number], self._starts[number]
        header = self._info(entry).FileHeader()
        if part := header[max(first - starts_at, 0) : end - starts_at]:
            yield part
        content_at = starts_at + len(header)
        begin, stop = max(first - content_at, 0), min(end - content_at, entry.bytes)
        if begin < stop:
            yield Stretch(entry=entry, first=begin, end=stop)

    def _info(self, entry: ZipEntry) -> ZipInfo:
        info = ZipInfo(entry.name, self._index.made_at)
        info.file_size = info.compress_size = entry.bytes
        info.CRC = entry.crc32
        info.create_system = 3  # Unix, whatever the farm runs on: else `external_attr` is read as DOS's
        info.external_attr = _MODE << 16
        return info


def _directory(infos: Sequence[ZipInfo], *, starts_at: int) -> bytes:
    """The directory at the end of a zip whose files end before `starts_at`."""
    rest = _Rest(starts_at)
    with ZipFile(rest, "w") as archive:
        archive.filelist.extend(infos)
    return rest.getvalue()


class _Rest(io.BytesIO):
    """What follows after the first `skipped` bytes of a file that is written by others."""

    def __init__(self, skipped: int) -> None:
        super().__init__()
        self._skipped = skipped

    def tell(self) -> int:
        return self._skipped + super().tell()

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        assert whence == io.SEEK_SET, "ZipFile goes to where its directory begins, and nowhere else"
        return self._skipped + super().seek(position - self._skipped)
