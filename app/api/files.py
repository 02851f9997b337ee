"""Calls about a job's files, and the signed addresses that parts of an upload are put to where the client can't reach the store."""

from __future__ import annotations

import io
from http import HTTPStatus
from typing import BinaryIO, cast

from flask import Response, request
from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer
from werkzeug.exceptions import ClientDisconnected

from app.current import base_url, current_farm, current_link_key
from app.transfers import received_in_a_lane
from supervisor import queries
from supervisor.commands import files as commands
from supervisor.domain.errors import NotFound
from supervisor.queries import FileView

from . import models
from .answers import file_answer, plan_answer
from .endpoint import Page
from .problems import Refusal
from .reach import store_endpoint

#: Seconds that a part's address works; the same as the store's own presigned ones.
PART_URL_S = 6 * 3600


def list_files(job: str, query: models.FilesQuery) -> Page:
    files = queries.job_files(current_farm(), job, after=query.after, limit=query.limit)
    return Page(items=[file_answer(file) for file in files], after=files[-1].path if len(files) == query.limit else None)


def show_file(job: str, path: str) -> models.File:
    return file_answer(_file(job, path))


def begin_file(job: str, query: models.UploadQuery, body: models.NewFile) -> models.UploadPlan:
    plan = commands.begin_file(
        current_farm(), job, path=body.path, length=body.bytes, modified_ms=body.modified_ms, endpoint=_endpoint(query)
    )
    return plan_answer(plan, app_url=_part_url(job, plan.file))


def resume_file(job: str, file: str, query: models.UploadQuery) -> models.UploadPlan:
    plan = commands.resume_file(current_farm(), job, file, endpoint=_endpoint(query))
    return plan_answer(plan, app_url=_part_url(job, plan.file))


def complete_file(job: str, file: str, body: models.FinishedUpload) -> models.File:
    parts = [(part.number, part.etag.strip('"')) for part in body.parts]
    return file_answer(commands.complete_file(current_farm(), job, file, parts=parts))


def put_file(job: str, path: str) -> models.File:
    length = _content_length()
    with received_in_a_lane():
        return file_answer(commands.put_file(current_farm(), job, path=path, source=_stream(), length=length))


def remove_file(job: str, path: str) -> None:
    commands.remove_file(current_farm(), job, _file(job, path).id)


def put_part(token: str, part: int) -> Response:
    """Take one part at a signed address, which stands in for a login."""
    job, file = _read_token(token)
    length = _content_length()
    with received_in_a_lane():
        etag = commands.put_part(current_farm(), job, file, number=part, source=_stream(), length=length)
    return Response(status=HTTPStatus.OK, headers={"ETag": f'"{etag}"'})


def _endpoint(query: models.UploadQuery) -> str | None:
    return None if query.through == "app" else store_endpoint()


def _content_length() -> int:
    """The body's length. Errors: Refusal 411"""
    if request.content_length is None:
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "send the file with a Content-Length; a chunked body without one is not taken")
    return request.content_length


class _RequestBody(io.RawIOBase):
    """The request's body as a stream that ends early when the client goes away; werkzeug would raise what only views understand."""

    def read(self, size: int = -1) -> bytes:
        try:
            return request.stream.read(size)
        except ClientDisconnected:
            return b""


def _stream() -> BinaryIO:
    return cast("BinaryIO", _RequestBody())


def _file(job: str, path: str) -> FileView:
    """A file by its id or path. Errors: NotFound"""
    try:
        return commands.file_view(current_farm(), job, path)
    except NotFound:
        pass
    after = ""
    while files := queries.job_files(current_farm(), job, after=after, limit=models.MAX_PAGE):
        for file in files:
            if file.path == path:
                return file
        after = files[-1].path
    raise NotFound(f"the job has no file “{path}”")


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_link_key(), salt="kiln.part")


def _part_url(job: str, file: str) -> str:
    return f"{base_url()}/api/v1/parts/{_serializer().dumps([job, file])}/"


def _read_token(token: str) -> tuple[str, str]:
    try:
        job, file = _serializer().loads(token, max_age=PART_URL_S)
    except SignatureExpired as error:
        raise Refusal(HTTPStatus.FORBIDDEN, "this address has expired; GET …/files/{file}/parts gives fresh ones") from error
    except BadSignature as error:
        raise Refusal(HTTPStatus.FORBIDDEN, "this address was not made by this farm; GET …/files/{file}/parts gives one") from error
    return job, file
