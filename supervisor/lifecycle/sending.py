"""Send a zip that lies nowhere: its bytes are made of the stored outputs as they are asked for."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from typing import BinaryIO

from nodeimage.protocol import output_key
from supervisor.cloud.ports import ObjectStore, Throttled, Unreachable
from supervisor.domain.zip_plan import Stretch, ZipPlan

from .readahead import Wanted, open_ahead

_CHUNK_BYTES = 1 << 20
#: Pieces below this are sent together.
_SMALL_BYTES = 64 << 10
#: A store that does not answer is asked again after these pauses; each answer's bytes start them anew.
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)


class BadFrame(Exception):
    """A frame's output is not in the store as its node delivered it. The message says which and what to do."""

    def __init__(self, frame: int, damage: str) -> None:
        super().__init__(f"{damage}; have the frame rendered again, then pack anew")
        self.frame = frame
        self.damage = damage  #: what is wrong, with the output's name and the frame

    @classmethod
    def gone(cls, name: str, frame: int) -> BadFrame:
        return cls(frame, f"“{name}” of frame {frame} is gone from the store")

    @classmethod
    def differs(cls, name: str, frame: int) -> BadFrame:
        return cls(frame, f"“{name}” of frame {frame} is not what its node delivered (size or checksum differ)")


def send_zip(
    objects: ObjectStore, job: str, plan: ZipPlan, *, first: int, end: int, pause: Callable[[float], object] = time.sleep
) -> Generator[bytes, None, None]:
    """Give a zip's bytes from `first` to before `end`. Memory does not grow with them.

    The last bytes of a file come only when all of it was found to be what its node delivered: for that, a file that is asked for from
    its middle on is read from its beginning.
    Errors:  BadFrame; CloudError - the store did not answer, asked again for a while
    """
    with closing(open_ahead(objects, _wanted(job, plan.pieces(first, end)))) as openings:
        yield from _gathered(_chunks(_Reader(objects, job, pause), plan.pieces(first, end), openings))


def _wanted(job: str, pieces: Iterable[bytes | Stretch]) -> Iterator[Wanted]:
    for piece in pieces:
        if isinstance(piece, Stretch):
            begin = _read_from(piece)
            yield Wanted(key=output_key(job, piece.entry.frame, piece.entry.output), first_byte=begin, bytes=piece.end - begin)


def _read_from(stretch: Stretch) -> int:
    return 0 if stretch.end == stretch.entry.bytes else stretch.first


def _chunks(reader: _Reader, pieces: Iterable[bytes | Stretch], openings: Iterator[Future[BinaryIO]]) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, Stretch):
            yield from reader.checked(piece, next(openings))
        else:
            yield piece


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: headers and small files would be a packet each. A large chunk is not copied for that."""
    held = bytearray()
    for chunk in chunks:
        if len(chunk) < _SMALL_BYTES and len(held) < _SMALL_BYTES:
            held += chunk
            continue
        if held:
            yield bytes(held)
            held.clear()
        yield chunk
    if held:
        yield bytes(held)


class _Reader:
    """Reads outputs of a job, and is patient with the store."""

    def __init__(self, objects: ObjectStore, job: str, pause: Callable[[float], object]) -> None:
        self._objects = objects
        self._job = job
        self._pause = pause

    def checked(self, stretch: Stretch, opening: Future[BinaryIO]) -> Iterator[bytes]:
        """The bytes of the stretch; the last of a whole file only if its checksum is right. Errors: BadFrame, CloudError"""
        entry, begin = stretch.entry, _read_from(stretch)
        at, crc32 = begin, 0
        for chunk in self._read(stretch, begin, opening):
            skipped = max(stretch.first - at, 0)
            at += len(chunk)
            crc32 = zlib.crc32(chunk, crc32)
            if at == entry.bytes and crc32 != entry.crc32:
                break
            if skipped < len(chunk):
                yield chunk[skipped:] if skipped else chunk
        else:
            if at == stretch.end:
                return
        raise BadFrame.differs(entry.output, entry.frame)

    def _read(self, stretch: Stretch, first: int, opening: Future[BinaryIO] | None) -> Iterator[bytes]:
        """The file's bytes from `first` to the stretch's end, fewer where it has no more; goes on where the store left off."""
        at = first
        pauses = iter(_PAUSES_S)
        while True:
            try:
                with closing(opening.result() if opening else self._open(stretch, at)) as source:
                    while at < stretch.end and (chunk := source.read(min(_CHUNK_BYTES, stretch.end - at))):
                        at += len(chunk)
                        pauses = iter(_PAUSES_S)
                        yield chunk
                return
            except FileNotFoundError as error:
                raise BadFrame.gone(stretch.entry.output, stretch.entry.frame) from error
            except (Unreachable, Throttled):
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
            opening = None
            self._pause(pause_s)

    def _open(self, stretch: Stretch, at: int) -> BinaryIO:
        return self._objects.open(output_key(self._job, stretch.entry.frame, stretch.entry.output), first_byte=at)
