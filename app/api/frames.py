"""Calls about frames: what they are, their pictures, logs and outputs."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

from flask import Response, request
from werkzeug.datastructures import Range
from werkzeug.http import generate_etag, quote_etag

from app.current import base_url, current_farm
from supervisor import queries
from supervisor.domain.errors import NotFound
from supervisor.queries import OutputView

from . import models
from .answers import frame_answer
from .endpoint import BYTES, Page
from .problems import Refusal

_CHUNK_BYTES = 1 << 20


def list_frames(job: str, query: models.FramesQuery) -> Page:
    frames = queries.job_frames(current_farm(), job, after=query.after, limit=query.limit)
    items = [frame_answer(job, frame, base_url=base_url()) for frame in frames]
    return Page(items=items, after=frames[-1].number if len(frames) == query.limit else None)


def show_frame(job: str, number: int) -> models.Frame:
    return frame_answer(job, queries.job_frame(current_farm(), job, number), base_url=base_url())


def show_preview(job: str, number: int) -> Response:
    picture = queries.frame_preview(current_farm(), job, number)
    response = Response(picture, content_type="image/webp", headers={"Cache-Control": "private, no-cache"})
    response.set_etag(generate_etag(picture))
    response.make_conditional(request)  # in place
    return response


def show_log(job: str, number: int, query: models.LogQuery) -> Response:
    text = queries.frame_log(current_farm(), job, number, attempt=query.attempt)
    return Response(text, content_type="text/plain; charset=utf-8", headers=_INERT)


#: A frame's files come out of other people's .blend files: a browser shows them and runs nothing in them.
_INERT = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}


def send_output(job: str, number: int, name: str) -> Response:
    """Stream an output, or the range of it that was asked for."""
    output = next((each for each in queries.job_frame(current_farm(), job, number).outputs if each.name == name), None)
    if output is None:
        raise NotFound(f"frame {number} of job {job} has no output “{name}”")
    etag = f"{output.crc32:08x}-{output.bytes:x}"
    if request.if_none_match.contains(etag):
        return Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": quote_etag(etag)})
    first, end = _asked_range(output, etag)
    is_part = (first, end) != (0, output.bytes) or _has_range(etag)
    body: Iterator[bytes] | bytes = b""
    if request.method != "HEAD" and end > first:
        stream, _ = queries.open_output(current_farm(), job, number, name, first_byte=first)
        body = _bytes_of(stream, end - first)
    response = Response(body, status=HTTPStatus.PARTIAL_CONTENT if is_part else HTTPStatus.OK, headers=_INERT)
    response.content_type = mimetypes.guess_type(name)[0] or BYTES
    response.content_length = end - first
    response.headers.update({"ETag": quote_etag(etag), "Accept-Ranges": "bytes"})
    file_name = PurePosixPath(name).name
    if file_name.isascii() and file_name.isprintable():
        response.headers.set("Content-Disposition", "inline", filename=file_name)
    else:  # werkzeug leaves it as it is, and a header outside of Latin-1 or with control characters can't be sent at all
        response.headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(file_name, safe='')}"
    if is_part:
        response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{output.bytes}"
    return response


def _has_range(etag: str) -> bool:
    return _range_of_request(etag) is not None


def _range_of_request(etag: str) -> Range | None:
    """The one range of bytes that the request asks for; None: the whole. Several ranges are answered with the whole, as HTTP allows."""
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    if "If-Range" in request.headers and request.if_range.etag != etag:
        return None
    return asked


def _asked_range(output: OutputView, etag: str) -> tuple[int, int]:
    """First byte and the one after the last. Errors: Refusal 416"""
    asked = _range_of_request(etag)
    if asked is None:
        return 0, output.bytes
    span = asked.range_for_length(output.bytes)
    if span is None or None in span:
        size = {"Content-Range": f"bytes */{output.bytes}"}
        raise Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the file has {output.bytes} bytes", headers=size)
    first, end = span
    return first, end


def _bytes_of(stream: BinaryIO, length: int) -> Iterator[bytes]:
    with stream:
        left = length
        while left > 0 and (chunk := stream.read(min(_CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
