"""Calls about frames: what they are, their pictures, logs and outputs."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import BinaryIO

from flask import Response, request
from werkzeug.http import generate_etag, quote_etag

from app.current import base_url, current_farm
from app.transfers import NotSatisfiable, Span, asked_span, disposition, sent_in_a_lane
from supervisor import queries
from supervisor.domain.errors import NotFound

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
    try:
        span = asked_span(output.bytes, etag)
    except NotSatisfiable as error:
        said = f"the file has {output.bytes} bytes"
        raise Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, said, headers=error.headers) from error
    body: Iterator[bytes] | bytes = b""
    if request.method != "HEAD" and span.end > span.first:
        body = sent_in_a_lane(lambda: _body(job, number, name, span))
    response = Response(body, status=span.status, headers=_INERT)
    response.headers.update(span.headers(etag))
    response.content_type = mimetypes.guess_type(name)[0] or BYTES
    response.headers["Content-Disposition"] = disposition("inline", PurePosixPath(name).name)
    return response


def _body(job: str, number: int, name: str, span: Span) -> Iterator[bytes]:
    stream, _ = queries.open_output(current_farm(), job, number, name, first_byte=span.first)
    return _bytes_of(stream, span.end - span.first)


def _bytes_of(stream: BinaryIO, length: int) -> Iterator[bytes]:
    with stream:
        left = length
        while left > 0 and (chunk := stream.read(min(_CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
