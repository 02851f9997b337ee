"""Zips through their links: signed, without a login, resumable, and made of the frames as they are sent."""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import timedelta

from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.http import quote_etag

from app.current import current_farm, current_link_key
from app.links import LinkExpired, LinkWrong, read_download
from app.transfers import BUSY_RETRY_S, Busy, NotSatisfiable, asked_span, disposition, sent_in_a_lane
from supervisor.commands import downloads
from supervisor.commands.downloads import OpenedZip, ZipBroken
from supervisor.domain.errors import NotFound

blueprint = Blueprint("downloads", __name__)

_HEADERS = {
    "Cache-Control": "private, no-transform",
    "X-Robots-Tag": "noindex",
    "X-Accel-Buffering": "no",  # nginx would write the zip to its disk first
}


@blueprint.get("/d/<token>/<path:name>")
def file(token: str, name: str) -> Response:
    """The zip, or the part of it that Range asks for.

    Shape:   name: for people who look at the link, and not believed: whoever passes a link on could make it say anything
    """
    farm = current_farm()
    good_for = timedelta(days=farm.config.downloads.link_days)
    try:
        download = read_download(token, link_key=current_link_key(), good_for=good_for)
        return _answer(downloads.open_download(farm, download))
    except LinkExpired:
        return _page(410, "This link has expired", "Whoever sent it can make a fresh one on the job's page; the frames are still there.")
    except LinkWrong:
        return _page(404, "This link is not complete", "A part of it may have been lost on the way. Copy the whole link, to its very end.")
    except NotFound as error:
        return _page(404, "This zip is gone", str(error))
    except ZipBroken as error:
        return _page(404, "This zip is gone", str(error)) if error.is_lasting else _page(503, "The zip can't be sent now", str(error))
    except Busy as error:
        answer = _page(503, "The farm is sending all it can", str(error))
        answer.headers["Retry-After"] = str(BUSY_RETRY_S)
        return answer


def _answer(opened: OpenedZip) -> Response:
    """Errors: ZipBroken - not a byte of it can be sent; Busy"""
    if request.if_none_match.contains(opened.etag):
        return Response(status=304, headers={"ETag": quote_etag(opened.etag)})
    try:
        span = asked_span(opened.bytes, opened.etag)
    except NotSatisfiable as error:
        return Response(status=416, headers=error.headers)
    body: Iterator[bytes] | bytes = b""
    if request.method != "HEAD":
        body = sent_in_a_lane(lambda: _begun(opened.send(span.first, span.end)))
    answer = Response(body, status=span.status, mimetype="application/zip", headers=_HEADERS)
    answer.headers.update(span.headers(opened.etag))
    answer.headers["Content-Disposition"] = disposition("attachment", opened.name)
    return answer


def _begun(chunks: Generator[bytes, None, None]) -> Iterator[bytes]:
    """Read the first chunk now: while nothing is sent, what is wrong can still be said on a page. Errors: ZipBroken"""
    return _body(next(chunks), chunks)


def _body(first: bytes, rest: Generator[bytes, None, None]) -> Iterator[bytes]:
    with closing(rest):
        try:
            yield first
            yield from rest
        except ZipBroken as error:
            # The server takes this for a lost connection and closes it: the client sees fewer bytes than Content-Length says. An end of
            # this iterator would keep the connection open, and the client waiting.
            raise ConnectionResetError(errno.ECONNRESET, "the zip can't be sent to its end") from error


def _page(status: int, title: str, advice: str) -> Response:
    return make_response(render_template("downloads/gone.html", title=title, advice=advice), status)
