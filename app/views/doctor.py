"""The doctor's findings, as `kiln doctor` prints them. For admins alone; `app.auth` sees to that."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request

from app.current import current_farm
from app.views.regions import Region, region
from supervisor import queries
from supervisor.cloud.ports import Check

blueprint = Blueprint("doctor", __name__)


@blueprint.get("/doctor")
def index() -> str:
    """The page. Looking takes seconds: the findings load by themselves, or at once where `?look=1` says so."""
    return render_template("doctor/index.html", findings=findings_region(looks="look" in request.args).html())


@blueprint.get("/doctor/findings")
def findings() -> Response:
    return findings_region(looks=True).answer()


def findings_region(*, looks: bool) -> Region:
    """What was found, the wrong first. Shape: looks: False: nothing yet, the region asks when it is there"""
    found = sorted(queries.farm_checks(current_farm(), is_served=True), key=_rank) if looks else []
    return region("doctor/_findings.html", shows=(looks, found), looks=looks, found=found, wrong=sum(_is_wrong(check) for check in found))


def _is_wrong(check: Check) -> bool:
    return not check.is_ok and not check.is_warning


def _rank(check: Check) -> int:
    if check.is_ok:
        return 2
    return 1 if check.is_warning else 0
