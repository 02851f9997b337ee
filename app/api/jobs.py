"""Calls about jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any  # Any: a field of a request, checked by its model

from app.auth import current_person, is_admin, may_change
from app.current import base_url, current_farm
from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.domain.frame import parse_frames
from supervisor.domain.instance import Market
from supervisor.domain.settings import JobSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.farm import Farm

from . import models
from .answers import job_answer, summary_answer
from .endpoint import Page


def list_jobs(query: models.JobsQuery) -> Page:
    jobs = queries.job_list(current_farm(), after=query.after, limit=query.limit)
    items = [summary_answer(job, base_url=base_url()) for job in jobs]
    return Page(items=items, after=jobs[-1].id if len(jobs) == query.limit else None)


def create_job(body: models.NewJob) -> models.Job:
    return _shown(commands.create_job(current_farm(), name=body.name, owner_id=current_person().id))


def show_job(job: str) -> models.Job:
    return _shown(job)


def change_job(job: str, body: models.JobChange) -> models.Job:
    farm = current_farm()
    detail = queries.job_detail(farm, job)
    if body.main_file is not None:
        ids = {file.path: file.id for file in detail.main_candidates}
        commands.choose_main_file(farm, job, file=ids.get(body.main_file, body.main_file))
    if body.settings is not None:
        commands.change_settings(farm, job, changed_settings(detail.settings, body.settings), by_admin=is_admin())
    if body.priority is not None:
        commands.change_priority(farm, job, body.priority)
    if body.name is not None:
        commands.rename_job(farm, job, name=body.name)
    return _shown(job)


def submit_job(job: str, body: models.SettingsChange) -> models.Job:
    farm = current_farm()
    settings = changed_settings(queries.job_detail(farm, job).settings, body) if body.model_fields_set else None
    commands.submit_job(farm, job, settings, by_admin=is_admin())
    return _shown(job)


def change_cap(job: str, body: models.CapChange) -> models.Job:
    commands.change_cap(current_farm(), job, amount(body.max_cost_usd), by_admin=is_admin())
    return _shown(job)


def pause_job(job: str) -> models.Job:
    commands.pause_job(current_farm(), job)
    return _shown(job)


def resume_job(job: str) -> models.Job:
    commands.resume_job(current_farm(), job)
    return _shown(job)


def cancel_job(job: str) -> models.Job:
    commands.cancel_job(current_farm(), job)
    return _shown(job)


def retry_job(job: str) -> models.Job:
    commands.retry_job(current_farm(), job)
    return _shown(job)


def render_again(job: str, body: models.FramesAgain) -> models.Job:
    farm = current_farm()
    numbers = parse_frames(body.frames, max_frames=farm.config.render.max_frames) if body.frames is not None else ()
    commands.render_again(farm, job, numbers)
    return _shown(job)


def delete_job(job: str) -> None:
    commands.delete_job(current_farm(), job)


def _shown(job: str) -> models.Job:
    farm: Farm = current_farm()
    detail = queries.job_detail(farm, job)
    return job_answer(detail, queries.job_instances(farm, job), base_url=base_url(), may_change=may_change(detail.summary))


def amount(number: float | None) -> Decimal | None:
    """An amount of money as JSON had it, to the digits that it was written with."""
    return None if number is None else Decimal(str(number))


def _mode(name: str | None) -> WorkspaceMode | None:
    return None if name is None else WorkspaceMode(name)


#: What JSON can't hold as it is kept.
_DECODED: Mapping[str, Callable[[Any], Any]] = {
    "market": Market,
    "max_price_usd_per_h": amount,
    "max_cost_usd": amount,
    "instance_types": tuple,
    "workspace_mode": _mode,
}


def changed_settings(kept: JobSettings, change: models.SettingsChange) -> JobSettings:
    """The settings kept so far with the fields that the request names."""
    settings = kept
    for name in change.model_fields_set - {"output"}:
        given = getattr(change, name)
        settings = replace(settings, **{name: _DECODED[name](given) if name in _DECODED else given})
    if "output" in change.model_fields_set:
        named = {name: getattr(change.output, name) for name in change.output.model_fields_set}
        settings = replace(settings, output=replace(kept.output, **named))
    return settings
