"""People: who may sign in. For admins alone; `app.auth` sees to that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from app.auth import current_person
from app.current import current_farm
from app.views.regions import Region, region
from supervisor.commands import accounts
from supervisor.domain.errors import Conflict, Rejected

blueprint = Blueprint("people", __name__)

_NOTHING_TYPED = {"name": "", "role": "artist"}


@blueprint.get("/people")
def index() -> str:
    return _page(people_region())


@blueprint.post("/people")
def add() -> AnyResponse:
    typed = {"name": request.form.get("name", "").strip(), "role": request.form.get("role", "artist")}
    role = cast("accounts.Role", typed["role"])  # the command checks it
    try:
        made = accounts.add_user(current_farm(), name=typed["name"], password=request.form.get("password", ""), role=role)
    except Rejected as error:
        return _shown(people_region(typed=typed, errors={error.field: str(error)}), status=422)
    return _shown(people_region(done=f"{made.name} can sign in now."))


@blueprint.post("/people/<user>/password")
def set_password(user: str) -> AnyResponse:
    """Give somebody else a new password. One's own is changed on the account page, which asks for the old one."""
    if user == current_person().id:
        raise Conflict("that is you; change your own password on your account page")
    try:
        accounts.set_password(current_farm(), user, new=request.form.get("password", ""))
    except Rejected as error:
        return _shown(people_region(errors={f"password-{user}": str(error)}), status=422)
    person = accounts.user(current_farm(), user)
    name = person.name if person else "somebody"
    return _shown(people_region(done=f"{name} has a new password and is signed out everywhere; tokens go on working."))


@blueprint.post("/people/<user>/remove")
def remove(user: str) -> AnyResponse:
    accounts.remove_user(current_farm(), user, by=current_person())
    return _shown(people_region(done="Removed. Their jobs stay."))


def people_region(*, typed: Mapping[str, str] = _NOTHING_TYPED, errors: Mapping[str, str] | None = None, done: str = "") -> Region:
    people = accounts.users(current_farm())
    return region(
        "people/_list.html",
        shows=(people, typed, errors, done),
        people=people,
        me=current_person().id,
        typed=typed,
        errors=errors or {},
        done=done,
    )


def _page(people: Region) -> str:
    return render_template("people/index.html", people=people.html())


def _shown(people: Region, *, status: int = 200) -> Response:
    """The list; to a plain form, the whole page with it."""
    if request.headers.get("HX-Request"):
        return people.answer(status=status)
    return make_response(_page(people), status)
