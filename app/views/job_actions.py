"""What a person does to a job. Each action answers with the region it changed; as a plain form, with the job's page."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.auth import current_person
from app.current import current_farm
from app.views import job_regions
from app.views.jobs import blueprint
from app.views.regions import Region
from app.views.settings_form import priority_of
from supervisor import queries
from supervisor.commands import downloads as download_commands
from supervisor.commands import jobs as commands
from supervisor.domain.errors import Rejected
from supervisor.farm import Farm


@blueprint.post("/jobs")
def create() -> AnyResponse:
    job = commands.create_job(current_farm(), name="", owner_id=current_person().id)
    return redirect(url_for("jobs.detail", job=job), 303)


@blueprint.post("/jobs/<job>/pause")
def pause(job: str) -> AnyResponse:
    return _act(commands.pause_job, job)


@blueprint.post("/jobs/<job>/resume")
def resume(job: str) -> AnyResponse:
    return _act(commands.resume_job, job)


@blueprint.post("/jobs/<job>/cancel")
def cancel(job: str) -> AnyResponse:
    return _act(commands.cancel_job, job)


@blueprint.post("/jobs/<job>/retry")
def retry(job: str) -> AnyResponse:
    return _act(commands.retry_job, job)


@blueprint.post("/jobs/<job>/delete")
def delete(job: str) -> AnyResponse:
    name = queries.job_summary(current_farm(), job).name
    commands.delete_job(current_farm(), job)
    flash(f"“{name}” is deleted.")
    return leave_for(url_for("jobs.index"))


@blueprint.post("/jobs/<job>/pack")
def pack(job: str) -> AnyResponse:
    download_commands.begin_download(current_farm(), job)
    return _shown(job, job_regions.downloads_region(job))


@blueprint.post("/jobs/<job>/render-again")
def render_again(job: str) -> AnyResponse:
    """Have the frames again that are known to be damaged."""
    commands.render_again(current_farm(), job)
    return _shown(job, job_regions.downloads_region(job))


@blueprint.post("/jobs/<job>/change-priority")
def change_priority(job: str) -> AnyResponse:
    try:
        commands.change_priority(current_farm(), job, priority_of(request.form))
    except Rejected as error:
        if not request.headers.get("HX-Request"):
            raise
        typed = request.form.get("priority", "")
        return job_regions.priority_region(job, typed=typed, errors={"priority": str(error)}).answer(status=422)
    return _shown(job, job_regions.priority_region(job))


def _act(command: Callable[[Farm, str], None], job: str) -> AnyResponse:
    command(current_farm(), job)
    return _shown(job, job_regions.status_region(job))


def _shown(job: str, region: Region) -> AnyResponse:
    if request.headers.get("HX-Request"):
        return region.answer(changed=True)
    return redirect(url_for("jobs.detail", job=job), 303)


def leave_for(url: str) -> AnyResponse:
    if request.headers.get("HX-Request"):
        return Response(status=200, headers={"HX-Redirect": url})
    return redirect(url, 303)
