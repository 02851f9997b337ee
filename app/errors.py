"""Refusals and failures as pages, or as toasts where htmx asks. The API answers its own, as problem documents."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus

from flask import Flask, Response, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from supervisor.cloud.ports import SIGN_IN, CloudError, Refused, SignedOut
from supervisor.domain.errors import CommandError, Conflict, Forbidden, NotFound, OutOfSpace, Rejected

log = logging.getLogger(__name__)

STATUS_OF: dict[type[CommandError], HTTPStatus] = {
    Rejected: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    OutOfSpace: HTTPStatus.INSUFFICIENT_STORAGE,
    Forbidden: HTTPStatus.FORBIDDEN,
}

_WORDS = {
    400: ("That request can't be read", "Go back, reload the page and try again."),
    403: ("You may not do that", "Ask whoever runs this farm."),
    404: ("There is nothing here", "The job may have been deleted, or the address is not quite right."),
    405: ("That can't be done here", "Go back and try again."),
    413: ("That is too large", "Send less at once."),
    429: ("Too many tries", "Wait a minute, then try again."),
}


def init_errors(app: Flask) -> None:
    """Make every refusal and failure of `app` answer in the form that was asked for."""
    app.register_error_handler(CommandError, _command_error)
    app.register_error_handler(CloudError, _cloud_error)
    app.register_error_handler(CSRFError, _csrf_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _failure)


def status_of(error: CommandError) -> HTTPStatus:
    return next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), HTTPStatus.UNPROCESSABLE_ENTITY)


def _command_error(error: Exception) -> Response:
    assert isinstance(error, CommandError), "registered for it"
    status = status_of(error)
    title = _WORDS[status][0] if status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN} else "That did not work"
    return _answer(status, title, str(error))


def _cloud_error(error: Exception) -> Response:
    log.warning("the cloud failed a request", extra={"path": request.path, "error": str(error)})
    if isinstance(error, SignedOut):
        return _answer(
            HTTPStatus.SERVICE_UNAVAILABLE, "The farm is not signed in to AWS", f"Nothing was changed. {SIGN_IN[:1].upper()}{SIGN_IN[1:]}."
        )
    if isinstance(error, Refused):
        return _answer(HTTPStatus.BAD_GATEWAY, "The farm's cloud refused", str(error))
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "The farm's store does not answer", "Nothing was changed. Try again in a moment.")


def _csrf_error(error: Exception) -> Response:
    return _answer(HTTPStatus.BAD_REQUEST, "This page is out of date", "Nothing was changed. Reload the page and try again.")


def _http_error(error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    status = HTTPStatus(error.code or 500)
    title, advice = _WORDS.get(status, (status.phrase, error.description or ""))
    answer = _answer(status, title, advice)
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            answer.headers[name] = value
    return answer


def _failure(error: Exception) -> Response:
    """A bug: what the person sees names the log line."""
    failure = secrets.token_hex(4)
    log.exception("request failed", extra={"failure": failure, "method": request.method, "path": request.path})
    advice = f"It is our fault, not yours. The farm's log says more under the number {failure}."
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong", advice)


def _answer(status: HTTPStatus, title: str, advice: str) -> Response:
    if request.headers.get("HX-Request"):
        answer = make_response(render_template("_toast.html", title=title, advice=advice), status)
        answer.headers.update({"HX-Retarget": "#toasts", "HX-Reswap": "beforeend"})
        return answer
    return make_response(render_template("errors/page.html", title=title, advice=advice, status=status.value), status)
