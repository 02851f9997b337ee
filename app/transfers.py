"""What answers and requests that are files have in common: their number at a time, which bytes are asked for, how they are named."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from threading import BoundedSemaphore
from urllib.parse import quote

from flask import Flask, current_app, request
from werkzeug.http import quote_etag

_LANES = "lanes"
#: Seconds after which to ask again, where all lanes are taken.
BUSY_RETRY_S = 5


class Busy(Exception):
    """As many files are on their way as the farm bears at a time; its pages need the rest of the threads."""

    def __init__(self, at_once: int) -> None:
        super().__init__(f"{at_once} files are on their way to and from the farm, and it takes no more at once; ask again in a moment")


class Lanes:
    """Threads that files on their way may hold. However slow the lines are, the others answer pages."""

    def __init__(self, threads: int) -> None:
        self._at_once = threads * 3 // 4
        self._free = BoundedSemaphore(self._at_once)

    def take(self) -> None:
        """Errors: Busy"""
        if not self._free.acquire(blocking=False):
            raise Busy(self._at_once)

    def give_back(self) -> None:
        self._free.release()


class _Sending(Iterator[bytes]):
    """An answer's body that gives its lane back when it is closed, which the server does whether it was sent or not."""

    def __init__(self, chunks: Iterator[bytes], lanes: Lanes) -> None:
        self._chunks = chunks
        self._lanes: Lanes | None = lanes

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Repeat: safe"""
        lanes, self._lanes = self._lanes, None
        if lanes is None:
            return
        lanes.give_back()
        if isinstance(self._chunks, Generator):
            self._chunks.close()


def sent_in_a_lane(begin: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    """Begin an answer's body, which holds a lane until it is closed. Errors: Busy; as `begin`"""
    lanes = _current_lanes()
    lanes.take()
    try:
        return _Sending(begin(), lanes)
    except BaseException:
        lanes.give_back()
        raise


@contextmanager
def received_in_a_lane() -> Iterator[None]:
    """Take a request's body in, holding a lane meanwhile. Errors: Busy"""
    lanes = _current_lanes()
    lanes.take()
    try:
        yield
    finally:
        lanes.give_back()


def init_transfers(app: Flask, *, threads: int) -> None:
    app.extensions[_LANES] = Lanes(threads)


def _current_lanes() -> Lanes:
    lanes = current_app.extensions[_LANES]
    assert isinstance(lanes, Lanes), "create_app put it there"
    return lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The bytes of a file that an answer has."""

    first: int
    end: int  #: the one after the last
    length: int  #: of the whole file
    is_part: bool  #: the request asked for a range, were it one of all bytes

    @property
    def status(self) -> HTTPStatus:
        return HTTPStatus.PARTIAL_CONTENT if self.is_part else HTTPStatus.OK

    def headers(self, etag: str) -> dict[str, str]:
        said = {"Content-Length": str(self.end - self.first), "ETag": quote_etag(etag), "Accept-Ranges": "bytes"}
        if self.is_part:
            said["Content-Range"] = f"bytes {self.first}-{self.end - 1}/{self.length}"
        return said


class NotSatisfiable(Exception):
    """The range that is asked for has no byte of the file."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the file has {length} bytes")
        self.headers = {"Content-Range": f"bytes */{length}"}


def asked_span(length: int, etag: str) -> Span:
    """Say which bytes of a file the current request asks for. Several ranges are answered with the whole, as HTTP allows.

    Errors:  NotSatisfiable - answer with 416
    Source:  RFC 9110, sections 13.1.5 and 14.2: ranges count in GET alone; If-Range wants the very same strong ETag
    """
    whole = Span(first=0, end=length, length=length, is_part=False)
    asked = request.range
    if request.method != "GET" or asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return whole
    if request.headers.get("If-Range", quote_etag(etag)) != quote_etag(etag):
        return whole
    first, end = asked.ranges[0]
    if first < 0:
        first = max(length + first, 0)  # the last bytes: all of them where there are not so many
    end = length if end is None else min(end, length)
    if first >= end:
        raise NotSatisfiable(length)
    return Span(first=first, end=end, length=length, is_part=True)


def disposition(kind: str, name: str) -> str:
    """The Content-Disposition header: `kind` (inline, attachment) and the name to save the file by, whatever characters it has."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "".join(each for each in plain if each.isprintable()).replace("\\", "\\\\").replace('"', '\\"')
    if plain == name:
        return f'{kind}; filename="{plain}"'
    # A header outside of Latin-1 or with control characters can't be sent at all. Who doesn't know the second form takes the first.
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
