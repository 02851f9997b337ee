"""Read stored objects one after the other, the next ones ahead, so that whoever writes does not wait for the store's answers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import Empty, Full, Queue

from supervisor.cloud.ports import ObjectStore

#: Memory: at most _AHEAD objects, each with _CHUNKS_HELD chunks waiting and one in hand.
_AHEAD = 3
_CHUNKS_HELD = 2
_CHUNK_BYTES = 1 << 20
_LOOK_S = 0.2


class _Reading:
    """One object on its way: its chunks, then None."""

    def __init__(self, objects: ObjectStore, key: str, stop: threading.Event, pool: ThreadPoolExecutor) -> None:
        self._objects = objects
        self._key = key
        self._stop = stop
        self._chunks: Queue[bytes | None] = Queue(_CHUNKS_HELD)
        self._running = pool.submit(self._run)

    def chunks(self) -> Iterator[bytes]:
        while chunk := self._next():
            yield chunk

    def _next(self) -> bytes | None:
        while True:
            try:
                return self._chunks.get(timeout=_LOOK_S)
            except Empty:
                if self._running.done() and self._chunks.empty():
                    self._running.result()  # raises what ended it

    def _run(self) -> None:
        with closing(self._objects.open(self._key)) as source:
            while chunk := source.read(_CHUNK_BYTES):
                if not self._hand_on(chunk):
                    return
        self._hand_on(None)

    def _hand_on(self, chunk: bytes | None) -> bool:
        """Returns: False if nobody wants it any more"""
        while not self._stop.is_set():
            try:
                self._chunks.put(chunk, timeout=_LOOK_S)
            except Full:
                continue
            return True
        return False


def read_ahead(objects: ObjectStore, keys: Sequence[str]) -> Generator[Iterator[bytes], None, None]:
    """Give the content of each object, in order, as chunks. Each is to be read to its end before the next is asked for.

    Errors:  as ObjectStore.open, raised where the chunk is asked for
    """
    stop = threading.Event()
    waiting = iter(keys)
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="readahead") as pool:
        ahead: deque[_Reading] = deque()

        def begin_next() -> None:
            key = next(waiting, None)
            if key is not None:
                ahead.append(_Reading(objects, key, stop, pool))

        try:
            for _ in range(_AHEAD):
                begin_next()
            while ahead:
                yield ahead.popleft().chunks()
                begin_next()
        finally:
            stop.set()
