"""Who is asking: signed-in sessions, bearer tokens, the one-time code of the set-up, and what may be asked without any."""

from __future__ import annotations

import hmac
import os
import secrets
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, redirect, request, session, url_for
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, current_user
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response as AnyResponse

from app.addresses import is_loopback, plain_address
from app.current import current_farm
from supervisor.commands import accounts
from supervisor.commands.accounts import User
from supervisor.config import ServerConfig
from supervisor.domain.account import may_change as user_may_change
from supervisor.queries import JobSummary

SETUP_CODE_FILE = "setup-code"
#: Endpoints that answer anybody. The API answers for itself, with problem documents.
PUBLIC = frozenset({"static", "accounts.login", "accounts.setup", "health.healthz", "downloads.file"})
#: Blueprints that answer admins alone.
ADMINS = frozenset({"aws", "doctor", "images", "people"})
#: What everybody may ask of every job, though it is no GET: a zip leaves the job as it is.
EVERYBODYS = frozenset({"jobs.pack"})
_READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_GUESSES = "10 per minute; 60 per hour"


def _guesser() -> str:
    """Whose guesses count together: an IPv4 address, or what one connection to the internet gets of IPv6, which is 2^64 addresses."""
    asked_from = get_remote_address()
    try:
        ip = plain_address(asked_from)
        return str(ip_network(f"{ip}/64", strict=False)) if ip.version == 6 else str(ip)
    except ValueError:  # with the zone of a link-local address
        return asked_from


#: Counts in memory: the farm is one process, and forgetting the counts at a restart costs nothing.
limiter = Limiter(_guesser, storage_uri="memory://", headers_enabled=False)
csrf = CSRFProtect()
login_manager = LoginManager()


class SignedIn:
    """A user as Flask-Login carries one through a request."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, user: User) -> None:
        self.user = user

    def get_id(self) -> str:
        """The epoch is part of it: raising a user's epoch signs every session of that user out."""
        return f"{self.user.id}:{self.user.session_epoch}"


def _was_a_guess(answer: Response) -> bool:
    return answer.status_code in {403, 422}


#: On a view: refuses an address that sent its form too often with what was wrong. Who gets in does not count: a whole studio may have one.
slows_guessing = limiter.limit(_GUESSES, methods=["POST"], deduct_when=_was_a_guess)


def signed_in_user() -> User | None:
    """Who is asking. None: nobody known."""
    return current_user.user if isinstance(current_user._get_current_object(), SignedIn) else None


def current_person() -> User:
    """Who is asking, where only a signed-in user gets."""
    user = signed_in_user()
    assert user is not None, "require_sign_in let nobody else through"
    return user


def may_change(job: JobSummary) -> bool:
    """Say whether who is asking may change this job: whether pages show the buttons that do."""
    return user_may_change(current_person(), owner_id=job.owner_id)


def is_admin() -> bool:
    """Say whether who is asking is an administrator."""
    return current_person().role == "admin"


def init_auth(app: Flask, server: ServerConfig) -> None:
    """Make every request of `app` need a user, and every change from a browser a CSRF token, but for the few that say otherwise."""
    app.config.update(
        SESSION_COOKIE_NAME="kiln_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=server.secure_cookies,
        PERMANENT_SESSION_LIFETIME=timedelta(days=30),
        WTF_CSRF_CHECK_DEFAULT=False,  # _check_csrf decides
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a job page may stay open for days
        WTF_CSRF_SSL_STRICT=False,  # behind a proxy the referrer's scheme and ours may differ; the token is what counts
    )
    login_manager.user_loader(_user_of_session)
    login_manager.request_loader(_user_of_token)
    login_manager.init_app(app)
    csrf.init_app(app)
    limiter.init_app(app)
    app.before_request(_require_sign_in)  # before the CSRF token, which ends with the session: who lost it is told to sign in
    app.before_request(_check_csrf)
    app.before_request(_check_rights)


def _user_of_session(session_user: str) -> SignedIn | None:
    if bearer_token() is not None:
        return None  # whoever sends a token is asked by that token alone, or a stale cookie would stand in for a wrong token
    user_id, _, epoch = session_user.partition(":")
    user = accounts.user(current_farm(), user_id)
    return SignedIn(user) if user and str(user.session_epoch) == epoch else None


def _user_of_token(_request: Any) -> SignedIn | None:
    token = bearer_token()
    user = accounts.user_of_token(current_farm(), token) if token else None
    return SignedIn(user) if user else None


def bearer_token() -> str | None:
    """The token that the request bears. Returns: None if it bears none; empty if the header is not a token."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _check_csrf() -> None:
    """A browser sends cookies along whoever's page asks: only they need the second proof. The API asks for it where it uses the session."""
    if request.endpoint and request.blueprint != "api" and request.method not in _READING:
        csrf.protect()


def _require_sign_in() -> AnyResponse | None:
    if request.endpoint is None or request.endpoint in PUBLIC or request.blueprint == "api" or signed_in_user():
        return None
    if not accounts.has_users(current_farm()):
        return _send_to(url_for("accounts.setup"))
    return _send_to(url_for("accounts.login", next=_wanted()))


def _wanted() -> str | None:
    """The page to come back to after signing in: the one asked for, or the one whose script asks. Returns: None where that is no page"""
    if request.headers.get("HX-Request"):
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
        return f"{page.path}?{page.query}".rstrip("?") if page.path else None
    return request.full_path.rstrip("?") if request.method == "GET" else None


def _check_rights() -> None:
    """Any change of a job is for its owner and admins, unless named otherwise. The API looks at its own table.

    Errors:  Forbidden, NotFound
    """
    if request.blueprint in ADMINS:
        accounts.check_is_admin(current_person())
    job = (request.view_args or {}).get("job")
    if job and request.blueprint != "api" and request.method not in _READING and request.endpoint not in EVERYBODYS:
        accounts.check_may_change(current_farm(), current_person(), job)


def _send_to(url: str) -> AnyResponse:
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": url})
    return redirect(url, 303)


def safe_next(path: str | None) -> str:
    """Where to go after signing in: a path of ours, never another site."""
    if path and path.startswith("/") and not path.startswith(("//", "/\\")) and not any(ord(c) < 32 for c in path):
        return path
    return url_for("jobs.index")


def setup_code(data: Path) -> str:
    """The code that a set-up from another machine needs, made at the first call. Repeat: safe, the same until the set-up is done."""
    file = data / SETUP_CODE_FILE
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text().strip()
    with os.fdopen(handle, "w") as out:
        code = secrets.token_urlsafe(12)
        out.write(code + "\n")
    return code


def forget_setup_code(data: Path) -> None:
    (data / SETUP_CODE_FILE).unlink(missing_ok=True)


def may_set_up(code: str, *, data: Path, trusted_proxies: int) -> bool:
    """Say whether this request may make the first account: it comes from this machine, or bears the code."""
    return _is_from_here(trusted_proxies) or (bool(code) and hmac.compare_digest(code.strip().encode(), setup_code(data).encode()))


def _is_from_here(trusted_proxies: int) -> bool:
    """A proxy on this machine that we were not told of makes everybody look local: its headers give it away.

    The Host header must name this machine too, or any web page could reach us through a name of its own (DNS rebinding).
    """
    if not trusted_proxies and any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")):
        return False
    host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    return is_loopback(request.remote_addr or "") and (host == "localhost" or is_loopback(host.strip("[]")))


def start_session() -> None:
    """Begin a session that outlives the browser window, free of whatever the visitor had before."""
    session.clear()
    session.permanent = True
