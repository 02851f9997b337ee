"""Signing in, the first set-up, and a person's own account."""

from __future__ import annotations

from flask import Blueprint, Response, flash, make_response, redirect, render_template, request, url_for
from flask_login import login_user, logout_user
from werkzeug.wrappers import Response as AnyResponse

from app.auth import (
    SignedIn,
    current_person,
    forget_setup_code,
    may_set_up,
    safe_next,
    signed_in_user,
    slows_guessing,
    start_session,
)
from app.current import current_farm
from app.views.regions import Region, region
from supervisor.commands import accounts
from supervisor.commands.accounts import User
from supervisor.domain.errors import Conflict, Rejected

blueprint = Blueprint("accounts", __name__)


@blueprint.route("/login", methods=["GET", "POST"])
@slows_guessing
def login() -> AnyResponse | str:
    if signed_in_user():
        return redirect(safe_next(request.args.get("next")), 303)
    if request.method == "GET":
        if not accounts.has_users(current_farm()):
            return redirect(url_for("accounts.setup"), 303)
        return render_template("accounts/login.html", name="", problem="")
    name = request.form.get("name", "").strip()
    user = accounts.authenticate(current_farm(), name=name, password=request.form.get("password", ""))
    if user is None:
        page = render_template("accounts/login.html", name=name, problem="That name and password don't go together.")
        return make_response(page, 422)
    return _enter(user, safe_next(request.args.get("next")))


def _enter(user: User, then: str) -> AnyResponse:
    start_session()
    login_user(SignedIn(user))
    return redirect(then, 303)


@blueprint.post("/logout")
def logout() -> AnyResponse:
    logout_user()
    start_session()
    return redirect(url_for("accounts.login"), 303)


@blueprint.route("/setup", methods=["GET", "POST"])
@slows_guessing
def setup() -> AnyResponse | str:
    """Make the first account, an admin's. Works only while there are no users."""
    farm = current_farm()
    if accounts.has_users(farm):
        return redirect(url_for("accounts.login"), 303)
    code = request.values.get("code", "")
    if not may_set_up(code, data=farm.data, trusted_proxies=farm.config.server.trusted_proxies):
        return make_response(render_template("accounts/setup.html", may=False, name="", code="", errors={}, had_code=bool(code)), 403)
    if request.method == "GET":
        return render_template("accounts/setup.html", may=True, name="", code=code, errors={}, had_code=bool(code))
    return _set_up(code)


def _set_up(code: str) -> AnyResponse:
    farm = current_farm()
    name, password = request.form.get("name", "").strip(), request.form.get("password", "")
    try:
        if password != request.form.get("again", ""):
            raise Rejected("The two passwords differ; type them again.", field="again")
        user = accounts.add_user(farm, name=name, password=password, role="admin", only_if_first=True)
    except Rejected as error:
        page = render_template("accounts/setup.html", may=True, name=name, code=code, errors={error.field: str(error)}, had_code=bool(code))
        return make_response(page, 422)
    except Conflict:  # somebody else was faster
        return redirect(url_for("accounts.login"), 303)
    forget_setup_code(farm.data)
    return _enter(user, url_for("jobs.index"))


@blueprint.get("/account")
def detail() -> str:
    return _page(password_region(), tokens_region())


def _page(password: Region, tokens: Region) -> str:
    return render_template("accounts/detail.html", person=current_person(), password=password.html(), tokens=tokens.html())


def _shown(changed: Region, other: Region, *, status: int = 200) -> Response:
    """The region that an action changed; to a plain form, the whole page with it."""
    if request.headers.get("HX-Request"):
        return changed.answer(status=status)
    password, tokens = (changed, other) if "password" in changed.template else (other, changed)
    return make_response(_page(password, tokens), status)


def password_region(errors: dict[str, str] | None = None, *, done: bool = False) -> Region:
    return region("accounts/_password.html", shows=(errors, done), errors=errors or {}, done=done)


@blueprint.get("/account/password")
def password() -> Response:
    return password_region().answer()


@blueprint.post("/account/password")
@slows_guessing
def change_password() -> AnyResponse:
    """Signs the person's other sessions out; this one goes on."""
    person, form = current_person(), request.form
    try:
        if form.get("new", "") != form.get("again", ""):
            raise Rejected("The two new passwords differ; type them again.", field="again")
        accounts.change_password(current_farm(), person.id, old=form.get("old", ""), new=form.get("new", ""))
    except Rejected as error:
        return _shown(password_region({error.field: str(error)}), tokens_region(), status=422)
    changed = accounts.user(current_farm(), person.id)
    assert changed is not None, "it changed its password just now"
    login_user(SignedIn(changed))
    return _shown(password_region(done=True), tokens_region())


def tokens_region(new: str = "") -> Region:
    """Shape:   new: a token made just now; it is shown this once"""
    held = accounts.tokens(current_farm(), current_person().id)
    return region("accounts/_tokens.html", shows=(held, new), held=held, new=new)


@blueprint.get("/account/tokens")
def tokens() -> Response:
    return tokens_region().answer()


@blueprint.post("/account/tokens")
def create_token() -> Response:
    name = request.form.get("name", "").strip()[:100]
    token = accounts.create_token(current_farm(), user_name=current_person().name, name=name)
    return _shown(tokens_region(token), password_region())


@blueprint.post("/account/tokens/<token>/revoke")
def revoke_token(token: str) -> AnyResponse:
    accounts.revoke_token(current_farm(), current_person().id, token)
    if not request.headers.get("HX-Request"):
        flash("The token is revoked.")
        return redirect(url_for("accounts.detail"), 303)
    return tokens_region().answer()
