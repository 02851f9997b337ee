"""What answers that are files have in common: which bytes are asked for, and under which name they are saved."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from flask import request
from werkzeug.http import quote_etag


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
