"""Who asks of the API: a bearer token, or the browser's session with its CSRF token."""

from __future__ import annotations

from http import HTTPStatus

from app.auth import bearer_token, csrf, signed_in_user
from supervisor.commands.accounts import User

from .problems import Refusal


def require_user() -> User:
    """Errors: Refusal 401 - no token and no session, or a token that is none; CSRFError (400) - a session's change without its token"""
    user = signed_in_user()
    token = bearer_token()
    if user is None and token is None:
        raise Refusal(
            HTTPStatus.UNAUTHORIZED,
            "send a token, as Authorization: Bearer TOKEN; `kiln token create USER` makes one",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if user is None:
        raise Refusal(
            HTTPStatus.UNAUTHORIZED,
            "this token is not valid (any more); `kiln token create USER` makes one",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    if token is None:
        csrf.protect()
    return user
