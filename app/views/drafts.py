"""What a person does to a draft: name it, pick its main file, settle it, take files out, submit it."""

from __future__ import annotations

from flask import make_response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.auth import is_admin
from app.current import current_farm
from app.views import draft_regions, job_regions
from app.views.draft_regions import FormInput
from app.views.job_actions import leave_for
from app.views.jobs import blueprint, page
from app.views.regions import Region
from app.views.settings_form import settings_of, typed_values
from supervisor import queries
from supervisor.commands import files as file_commands
from supervisor.commands import jobs as commands
from supervisor.domain.errors import Rejected
from supervisor.domain.settings import JobSettings


@blueprint.post("/jobs/<job>/rename")
def rename(job: str) -> AnyResponse:
    commands.rename_job(current_farm(), job, name=request.form.get("name", "").strip())
    return _shown(job, job_regions.status_region(job))


@blueprint.post("/jobs/<job>/files/<file>/remove")
def remove_file(job: str, file: str) -> AnyResponse:
    file_commands.remove_file(current_farm(), job, file)
    return _shown(job, draft_regions.files_region(job))


@blueprint.post("/jobs/<job>/choose-main-file")
def choose_main_file(job: str) -> AnyResponse:
    commands.choose_main_file(current_farm(), job, file=request.form.get("main_file", ""))
    return _shown(job, draft_regions.form_region(job))


@blueprint.post("/jobs/<job>/choose-scene")
def choose_scene(job: str) -> AnyResponse:
    """Keep the form as it is now, the scene above all, and show it anew: another scene has other cameras and frames."""
    try:
        commands.change_settings(current_farm(), job, _settings(), by_admin=is_admin())
    except Rejected as error:
        return _refused(job, error)
    return _shown(job, draft_regions.form_region(job))


@blueprint.post("/jobs/<job>/keep-settings")
def keep_settings(job: str) -> AnyResponse:
    """Keep the form as it is now. Answers with the check alone, so that nothing changes under a person's hands."""
    try:
        commands.change_settings(current_farm(), job, _settings(), by_admin=is_admin())
    except Rejected as error:
        return draft_regions.check_region(job, {error.field: str(error)}).answer()
    return _shown(job, draft_regions.check_region(job), changed=False)


@blueprint.post("/jobs/<job>/submit")
def submit(job: str) -> AnyResponse:
    try:
        commands.submit_job(current_farm(), job, _settings(), by_admin=is_admin())
    except Rejected as error:
        return _refused(job, error)
    return leave_for(url_for("jobs.detail", job=job))


def _settings() -> JobSettings:
    return settings_of(request.form, persistent_default=current_farm().config.render.persistent_data)


def _refused(job: str, error: Rejected) -> AnyResponse:
    typed = FormInput(values=typed_values(request.form), errors={error.field: str(error)})
    if request.headers.get("HX-Request"):
        return draft_regions.form_region(job, typed).answer(status=422)
    return make_response(page(queries.job_detail(current_farm(), job), typed=typed), 422)


def _shown(job: str, region: Region, *, changed: bool = True) -> AnyResponse:
    if request.headers.get("HX-Request"):
        return region.answer(changed=changed)
    return redirect(url_for("jobs.detail", job=job), 303)
