"""Open stored objects in the order in which they will be read, the next ones ahead, so that the reader does not wait for each answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from supervisor.cloud.ports import ObjectStore

#: At most so many are open ahead, and only as many as make up so many bytes: a store gives up on an answer that nobody reads for long.
_AHEAD = 4
_AHEAD_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An object that will be read."""

    key: str
    first_byte: int
    bytes: int  #: that will be read, from there on


def open_ahead(objects: ObjectStore, wanted: Iterable[Wanted]) -> Generator[Future[BinaryIO], None, None]:
    """Give each object, perhaps still being opened. Whoever takes one closes it; those that nobody takes are closed here.

    Memory holds none of their content: what the store sends ahead waits in the connections' own buffers.
    Errors:  as ObjectStore.open, in the Future
    """
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="readahead")
    ahead: deque[tuple[Future[BinaryIO], int]] = deque()
    waiting = iter(wanted)
    try:
        while True:
            while len(ahead) < _AHEAD and sum(length for _, length in ahead) < _AHEAD_BYTES and (one := next(waiting, None)):
                ahead.append((pool.submit(objects.open, one.key, first_byte=one.first_byte), one.bytes))
            if not ahead:
                return
            yield ahead.popleft()[0]
    finally:
        # not waiting: an open that hangs keeps nobody
        pool.shutdown(wait=False, cancel_futures=True)
        for opening, _ in ahead:
            opening.add_done_callback(_close)


def _close(opening: Future[BinaryIO]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().close()
