"""A job's regions about money, and the change of its cap."""

from __future__ import annotations

from flask import Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.auth import is_admin
from app.current import current_farm
from app.views import money_regions
from app.views.jobs import blueprint
from app.views.settings_form import dollars_of
from supervisor.commands import jobs as commands
from supervisor.domain.errors import Rejected


@blueprint.get("/jobs/month")
def month() -> Response:
    return money_regions.month_region().answer()


@blueprint.get("/jobs/<job>/cost")
def cost(job: str) -> Response:
    return money_regions.cost_region(job).answer()


@blueprint.get("/jobs/<job>/cap")
def cap(job: str) -> Response:
    return money_regions.cap_region(job).answer()


@blueprint.get("/jobs/<job>/scout")
def scout(job: str) -> Response:
    return money_regions.scout_region(job).answer()


@blueprint.post("/jobs/<job>/change-cap")
def change_cap(job: str) -> AnyResponse:
    is_htmx = bool(request.headers.get("HX-Request"))
    try:
        wanted = dollars_of(request.form, "max_cost_usd", "Write dollars, such as 20.")
        commands.change_cap(current_farm(), job, wanted, by_admin=is_admin())
    except Rejected as error:
        if not is_htmx:
            raise
        typed = request.form.get("max_cost_usd", "")
        return money_regions.cap_region(job, typed=typed, errors={"max_cost_usd": str(error)}).answer(status=422)
    return money_regions.cap_region(job).answer(changed=True) if is_htmx else redirect(url_for("jobs.detail", job=job), 303)
