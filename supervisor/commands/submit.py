"""Submitting a job: every check that its files and settings must pass, then its frames, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath

from supervisor.cloud.ports import Check, JobNeeds
from supervisor.domain.dependencies import resolve_dependencies
from supervisor.domain.errors import Conflict
from supervisor.domain.frame import format_frames
from supervisor.domain.job import JobStatus
from supervisor.domain.problem import Problem
from supervisor.domain.scene import DependencyFound, FoundAs
from supervisor.domain.scouting import scout_frames
from supervisor.domain.settings import JobSettings
from supervisor.domain.submission import chosen_frames, chosen_scene
from supervisor.farm import Farm
from supervisor.readiness import blenders_of, check_cloud, check_files, check_kept_blender, check_main_file, limits_of, main_file, needs_of
from supervisor.renting import as_rented
from supervisor.room import check_room
from supervisor.spending import check_budget
from supervisor.store import events, frames, inventory
from supervisor.store import jobs as store
from supervisor.store.database import Connection
from supervisor.store.jobs import Job

_CLOUD_CHECK = "cloud_check"
#: Problems that a new submission begins without.
FOUND_BEFORE = ("frame_failed", "node_lost", "disk_full", "lost_output", "unreadable", "inbox", "cost_cap", _CLOUD_CHECK)


def submit(farm: Farm, job: Job, settings: JobSettings) -> None:
    """Check a draft, queue its frames, and move it to SUBMITTED.

    Errors:  Rejected, Conflict, OverBudget, OutOfSpace
    """
    blenders = blenders_of(farm)
    with farm.db.read() as connection:
        needs = _checked_needs(farm, connection, job.id, settings, blenders=blenders)
    check_room(farm, needs.bytes, what="the copy of this job's files that is rendered")
    warnings = check_cloud(farm, needs)
    with farm.db.write() as connection:
        check_files(inventory.inventory(connection, job.id))
        main = main_file(connection, job.id)
        inspection, blender = check_main_file(main, settings, limits_of(farm), blenders=blenders)
        check_budget(farm, connection, replace(job, settings=settings))
        numbers = chosen_frames(settings, chosen_scene(settings, inspection), max_frames=farm.config.render.max_frames)
        said = f"frames {shortened(format_frames(numbers))} on {_instances(farm, settings)}"
        if not store.move(connection, job, JobStatus.SUBMITTED, because=said, at=farm.now()):
            raise Conflict("this job was submitted or changed by somebody else meanwhile; look at it again")
        for code in FOUND_BEFORE:
            events.clear_problem(connection, job.id, code)
        frames.add_frames(connection, job.id, numbers)
        named = job.name or PurePosixPath(main.path).stem
        scouts = scout_frames(numbers) if settings.scout else ()
        decided = {"main_file_id": main.id, "frame_total": len(numbers), "scout_frames": list(scouts), "blender_version": blender}
        store.change_job(connection, job.id, name=named, **decided)
        store.change_settings(connection, job.id, settings)
        warn_of_cloud(connection, job.id, warnings, at=farm.now())
        _warn_of_missing(connection, job.id, resolve_dependencies(main.path, inventory.usable_files(connection, job.id)), at=farm.now())


def _checked_needs(farm: Farm, connection: Connection, job: str, settings: JobSettings, *, blenders: tuple[str, ...]) -> JobNeeds:
    """What a draft needs of the cloud, if it passes every check that needs no cloud. Errors: Rejected"""
    held = inventory.inventory(connection, job)
    check_files(held)
    main = main_file(connection, job)
    _, blender = check_main_file(main, settings, limits_of(farm), blenders=blenders)
    return needs_of(main, as_rented(farm, settings), bytes=held.bytes, blender=blender)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What becomes of a job that goes on."""

    blender: str  #: version that renders the rest
    warnings: tuple[Check, ...]  #: of the cloud


def check_rest(farm: Farm, job: Job) -> Rest:
    """Check whether a job that was submitted before would be rendered now, and by which Blender; the cloud is asked. Errors: Rejected"""
    blenders = blenders_of(farm)
    with farm.db.read() as connection:
        main = main_file(connection, job.id)
        received = frames.counts(connection, job.id).received
        bytes = inventory.inventory(connection, job.id).bytes
    blender = check_kept_blender(job, main, limits_of(farm), blenders=blenders, received=received)
    return Rest(blender=blender, warnings=check_cloud(farm, needs_of(main, as_rented(farm, job.settings), bytes=bytes, blender=blender)))


def begin_rest(connection: Connection, job: str, rest: Rest, *, at: datetime) -> None:
    """Write down what `check_rest` found."""
    store.change_job(connection, job, blender_version=rest.blender)
    warn_of_cloud(connection, job, rest.warnings, at=at)


def warn_of_cloud(connection: Connection, job: str, warnings: tuple[Check, ...], *, at: datetime) -> None:
    """Keep what the cloud warned of, in the place of what it warned of before."""
    events.clear_problem(connection, job, _CLOUD_CHECK)
    for check in warnings:
        problem = Problem(code=_CLOUD_CHECK, about=check.name, severity="warning", text=check.text, remedy=check.remedy, since=at)
        events.put_problem(connection, job, problem)


def _warn_of_missing(connection: Connection, job: str, found: tuple[DependencyFound, ...], *, at: datetime) -> None:
    """Keep a warning for each file that the job lacks: it will render pink, or not at all, but that is for a person to judge."""
    for lacking in found:
        if lacking.found is not FoundAs.PRESENT:
            events.put_problem(connection, job, missing_file(lacking, at=at))


def missing_file(lacking: DependencyFound, *, at: datetime) -> Problem:
    """The warning about a file that the job lacks."""
    text, remedy = {
        FoundAs.MISSING: ("is not among the job's files", "Upload it in its place beside the .blend, or pack it into the .blend."),
        FoundAs.ELSEWHERE: (f"is among the job's files in another place (“{lacking.at}”)", "Upload it where the .blend looks for it."),
        FoundAs.ABSOLUTE: (
            "is a place on the artist's machine, which no node has",
            "In Blender: File, External Data, Make Paths Relative; then upload the file too.",
        ),
    }[lacking.found]
    path = lacking.dependency.path
    said = f"“{path}”, which “{lacking.in_file}” uses, {text}: what depends on it renders pink or empty"
    return Problem(code="missing_file", about=path, severity="warning", text=said, remedy=remedy, since=at)


def _instances(farm: Farm, settings: JobSettings) -> str:
    if farm.cloud.pool:
        return "the shared pool"
    return "one instance" if settings.instances == 1 else f"{settings.instances} instances"


def shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:80] + "…"
