"""Every failure of the API as a problem document (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from flask import Blueprint, Response, request
from flask_wtf.csrf import CSRFError
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from app.transfers import BUSY_RETRY_S, Busy
from supervisor.cloud.ports import SIGN_IN, SIGNED_OUT, CloudError, Full, SignedOut, Throttled, Unreachable
from supervisor.domain.errors import CommandError, Conflict, Forbidden, NotFound, OutOfSpace, Rejected

from .models import FieldError, Problem

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)

_OF_COMMANDS: tuple[tuple[type[CommandError], HTTPStatus], ...] = (
    (Rejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (OutOfSpace, HTTPStatus.INSUFFICIENT_STORAGE),
    (Forbidden, HTTPStatus.FORBIDDEN),
)


class Refusal(Exception):
    """A request is answered with a problem document."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, errors: Iterable[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def problem_response(status: HTTPStatus, detail: str, *, errors: Iterable[FieldError] = ()) -> Response:
    body = Problem(type="about:blank", title=status.phrase, status=status.value, detail=detail, errors=list(errors))
    return Response(body.model_dump_json(), status=status.value, content_type=MEDIA_TYPE)


def validation_refusal(error: ValidationError, *, what: str) -> Refusal:
    """The fields that a model refused; `what` was read: “body”, “query”."""
    fields = [FieldError(field=".".join(map(str, each["loc"])), detail=_words(each["type"], each["msg"])) for each in error.errors()]
    shown = "; ".join(f"{each.field}: {each.detail}" if each.field else each.detail for each in fields[:5])
    more = f" (and {len(fields) - 5} more)" if len(fields) > 5 else ""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"the {what} can't be used: {shown}{more}", errors=fields)


def _words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "missing":
        return "is missing"
    return message[:1].lower() + message[1:]


def install_problems(blueprint: Blueprint) -> None:
    """Make every failure under the blueprint's prefix a problem document, also those that Flask answers before it finds a route."""
    blueprint.register_error_handler(Refusal, _of_refusal)
    blueprint.register_error_handler(CommandError, _of_command)
    blueprint.register_error_handler(CloudError, _of_cloud)
    blueprint.register_error_handler(Busy, _of_busy)
    blueprint.register_error_handler(CSRFError, _of_csrf)
    blueprint.register_error_handler(HTTPException, _of_http)
    blueprint.register_error_handler(Exception, _of_bug)
    prefix = f"{blueprint.url_prefix}/"

    def mend(response: Response) -> Response:
        if response.status_code < 400 or response.mimetype == MEDIA_TYPE or not request.path.startswith(prefix):
            return response
        mended = problem_response(HTTPStatus(response.status_code), _http_detail(response.status_code))
        for header in ("Allow", "Retry-After", "WWW-Authenticate", "Content-Range"):
            if header in response.headers:
                mended.headers[header] = response.headers[header]
        return mended

    blueprint.after_app_request(mend)


def _of_refusal(error: Refusal) -> Response:
    response = problem_response(error.status, str(error), errors=error.errors)
    response.headers.update(error.headers)
    return response


def _of_command(error: CommandError) -> Response:
    status = next((status for kind, status in _OF_COMMANDS if isinstance(error, kind)), HTTPStatus.CONFLICT)
    field = error.field if isinstance(error, Rejected) else ""
    return problem_response(status, str(error), errors=[FieldError(field=field, detail=str(error))] if field else [])


def _of_cloud(error: CloudError) -> Response:
    _log.warning("the cloud failed a request", extra={"path": request.path, "error": str(error)})
    if isinstance(error, Full):
        return problem_response(HTTPStatus.INSUFFICIENT_STORAGE, "the farm's store has no room left; free some and try again")
    if isinstance(error, Throttled | Unreachable):
        response = problem_response(HTTPStatus.SERVICE_UNAVAILABLE, "the farm's store does not answer at present; try again")
        response.headers["Retry-After"] = "2"
        return response
    if isinstance(error, SignedOut):
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, f"{SIGNED_OUT}: {SIGN_IN}")
    return problem_response(HTTPStatus.BAD_GATEWAY, f"the farm's store refused: {error}")


def _of_http(error: HTTPException) -> Response:
    code = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    response = problem_response(HTTPStatus(code), error.description or _http_detail(code))
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _of_busy(error: Exception) -> Response:
    response = problem_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    response.headers["Retry-After"] = str(BUSY_RETRY_S)
    return response


def _of_csrf(_error: Exception) -> Response:
    return problem_response(HTTPStatus.BAD_REQUEST, "a change from a browser's session needs its X-CSRFToken header; reload the page")


def _of_bug(error: Exception) -> Response:
    _log.error("a request failed", exc_info=error, extra={"path": request.path, "method": request.method})
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "the farm failed to do this; its log says why")


def _http_detail(code: int) -> str:
    if code == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {request.path}; GET /api/v1/openapi.json lists what there is"
    if code == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.method} does not work at {request.path}; the Allow header says what does"
    return HTTPStatus(code).description or HTTPStatus(code).phrase
