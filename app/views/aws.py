"""The farm's AWS account: credentials, what is set up there, the policy. For admins alone; `app.auth` sees to that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.current import base_url, current_farm
from app.setup_run import Progress, current_run
from app.views.regions import Region, region
from supervisor.cloud.ports import CloudError, SetupStep, SignedIn, SignedOut, StepState
from supervisor.commands import cloud_account
from supervisor.domain.errors import Rejected

blueprint = Blueprint("aws", __name__)

#: Event on the page's body that makes the plan look again: other keys see other things.
CHANGED = "aws-changed"


@blueprint.get("/aws")
def index() -> str:
    """The page. Its regions ask AWS, which takes seconds: they load by themselves, or at once where `?look=1` says so."""
    looks = "look" in request.args
    return _page(credentials_region(looks=looks), plan_region(looks=looks))


@blueprint.get("/aws/credentials")
def credentials() -> Response:
    return credentials_region(looks=True).answer()


@blueprint.post("/aws/keys")
def change_keys() -> AnyResponse:
    access_key, secret_key = (request.form.get(name, "").strip() for name in ("access_key", "secret_key"))
    try:
        cloud_account.sign_in(current_farm(), access_key=access_key, secret_key=secret_key)
    except Rejected as error:
        return _shown(credentials_region(looks=True, typed=access_key, errors={error.field: str(error)}), status=422)
    return _shown(credentials_region(looks=True, done="The farm signs in with these keys from now on."))


@blueprint.post("/aws/keys/forget")
def forget_keys() -> AnyResponse:
    cloud_account.sign_out(current_farm())
    return _shown(
        credentials_region(looks=True, done="The keys are forgotten. Delete them in the AWS console too, if nothing else uses them.")
    )


@blueprint.get("/aws/plan")
def plan() -> Response:
    return plan_region(looks=True).answer()


@blueprint.post("/aws/set-up")
def set_up() -> AnyResponse:
    current_run().start(cloud_account.account_of(current_farm()), origin=_origin())
    if request.headers.get("HX-Request"):
        return plan_region(looks=True).answer()
    return redirect(url_for("aws.index", look=1), 303)


def credentials_region(*, looks: bool, typed: str = "", errors: Mapping[str, str] | None = None, done: str = "") -> Region:
    """Who the farm is to AWS, and the form for keys. Shape: looks: False: nobody is asked yet, the region asks when it is there"""
    who, problem = _who() if looks else (None, "")
    profile = current_farm().config.aws.profile
    return region(
        "aws/_credentials.html",
        shows=(looks, who, problem, typed, errors, done, profile),
        looks=looks,
        who=who,
        problem=problem,
        profile=profile,
        typed=typed,
        errors=errors or {},
        done=done,
    )


def _who() -> tuple[SignedIn | None, str]:
    try:
        return cloud_account.account_of(current_farm()).who(), ""
    except SignedOut:
        return None, ""
    except CloudError as error:
        return None, str(error)


def plan_region(*, looks: bool) -> Region:
    """What is there of what the farm needs; while it is being set up, how far that is."""
    progress = current_run().progress()
    steps, problem = _plan() if looks and not progress.is_running else ((), "")
    return region(
        "aws/_plan.html",
        shows=(looks, progress, steps, problem),
        looks=looks or progress.is_running,
        progress=progress,
        steps=steps,
        problem=problem,
        trigger=_trigger(looks, progress),
        is_ready=bool(steps) and all(step.state is StepState.READY for step in steps),
    )


def _trigger(looks: bool, progress: Progress) -> str:
    if progress.is_running:
        return "every 1s"
    return f"{CHANGED} from:body" if looks else "load"


def _plan() -> tuple[tuple[SetupStep, ...], str]:
    try:
        return tuple(cloud_account.account_of(current_farm()).plan(origin=_origin())), ""
    except SignedOut:
        return (), "The farm signs in first: give it credentials above."
    except CloudError as error:
        return (), str(error)


def _origin() -> str:
    """Where this browser sees the farm."""
    parts = urlsplit(base_url())
    return f"{parts.scheme}://{parts.netloc}"


def _page(credentials: Region, plan: Region) -> str:
    policy = json.dumps(cloud_account.account_of(current_farm()).policy(), indent=1)
    return render_template("aws/index.html", credentials=credentials.html(), plan=plan.html(), policy=policy)


def _shown(changed: Region, *, status: int = 200) -> Response:
    """The credentials; to a plain form, the whole page with them."""
    if not request.headers.get("HX-Request"):
        return make_response(_page(changed, plan_region(looks=True)), status)
    answer = changed.answer(status=status)
    answer.headers["HX-Trigger-After-Settle"] = CHANGED
    return answer
