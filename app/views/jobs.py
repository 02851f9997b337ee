"""Jobs: the list, a job's page, and its regions as they are polled."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.auth import may_change
from app.current import current_farm
from app.views import draft_regions, frame_regions, job_regions, money_regions
from app.views.draft_regions import FormInput
from app.views.regions import CHANGED, Region
from supervisor import queries
from supervisor.domain.job import JobStatus
from supervisor.queries import JobDetail

blueprint = Blueprint("jobs", __name__)


@blueprint.get("/")
def home() -> AnyResponse:
    return redirect(url_for("jobs.index"), 303)


@blueprint.get("/jobs")
def index() -> str:
    jobs = job_regions.list_region(request.args.get("after")).html()
    month = money_regions.month_region().html() if money_regions.rents() else None
    return render_template("jobs/index.html", jobs=jobs, month=month)


@blueprint.get("/jobs/list", endpoint="list")
def list_of_jobs() -> Response:
    return job_regions.list_region(request.args.get("after")).answer()


@blueprint.get("/jobs/<job>")
def detail(job: str) -> str:
    return page(queries.job_detail(current_farm(), job))


def page(detail: JobDetail, *, typed: FormInput | None = None) -> str:
    """A job's page: the form of a draft, or how the job goes."""
    job = detail.summary.id
    regions: dict[str, Region] = {"status": job_regions.status_region(job, detail)}
    if detail.summary.status is JobStatus.DRAFT:
        regions |= {
            "files": draft_regions.files_region(job),
            "scene": draft_regions.scene_region(job),
            "form": draft_regions.form_region(job, typed),
            "check": draft_regions.check_region(job),
        }
        return render_template("jobs/draft.html", job=detail.summary, may_change=may_change(detail.summary), **_painted(regions))
    regions |= {
        "problems": job_regions.problems_region(job, detail),
        "scout": money_regions.scout_region(job, detail),
        "cost": money_regions.cost_region(job, detail),
        "cap": money_regions.cap_region(job, detail),
        "previews": frame_regions.previews_region(job),
        "frames": frame_regions.frames_region(job, request.args.get("first", type=int)),
        "instances": job_regions.instances_region(job),
        "priority": job_regions.priority_region(job, detail),
        "downloads": job_regions.downloads_region(job),
        "events": job_regions.events_region(job),
    }
    return render_template("jobs/detail.html", job=detail.summary, detail=detail, rents=money_regions.rents(), **_painted(regions))


def _painted(regions: dict[str, Region]) -> dict[str, str]:
    return {name: each.html() for name, each in regions.items()}


@blueprint.get("/jobs/<job>/status")
def status(job: str) -> Response:
    return job_regions.status_region(job).answer()


@blueprint.get("/jobs/<job>/problems")
def problems(job: str) -> Response:
    return job_regions.problems_region(job).answer()


@blueprint.get("/jobs/<job>/previews")
def previews(job: str) -> Response:
    if _is_as_it_was(job):
        return Response(status=204)
    return frame_regions.previews_region(job).answer()


@blueprint.get("/jobs/<job>/frames")
def frames(job: str) -> Response:
    if _is_as_it_was(job):
        return Response(status=204)
    return frame_regions.frames_region(job, request.args.get("first", type=int)).answer()


def _is_as_it_was(job: str) -> bool:
    """Say whether nothing of the job changed since the page looked: spares the reading of a hundred thousand frames every two seconds."""
    at = request.args.get("at")
    return at is not None and at == str(queries.job_summary(current_farm(), job).version)


@blueprint.get("/jobs/<job>/instances")
def instances(job: str) -> Response:
    return job_regions.instances_region(job).answer()


@blueprint.get("/jobs/<job>/downloads")
def downloads(job: str) -> Response:
    return job_regions.downloads_region(job).answer()


@blueprint.get("/jobs/<job>/priority")
def priority(job: str) -> Response:
    return job_regions.priority_region(job).answer()


@blueprint.get("/jobs/<job>/events")
def events(job: str) -> Response:
    return job_regions.events_region(job).answer()


@blueprint.get("/jobs/<job>/files")
def files(job: str) -> Response:
    """The files. A page that watched them, and finds the last one checked, looks at what is in them, and at what the job is called now."""
    shown = draft_regions.files_region(job)
    answer = shown.answer()
    if "watched" in request.args and not shown.context["is_watched"]:
        answer.headers["HX-Trigger-After-Settle"] = CHANGED
    return answer


@blueprint.get("/jobs/<job>/scene")
def scene(job: str) -> Response:
    return draft_regions.scene_region(job).answer()


@blueprint.get("/jobs/<job>/form")
def form(job: str) -> Response:
    return draft_regions.form_region(job).answer()


@blueprint.get("/jobs/<job>/check")
def check(job: str) -> Response:
    return draft_regions.check_region(job).answer()
