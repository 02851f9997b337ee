"""Jobs as lists show them, what happened to them, and whether the supervisor works."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import PurePosixPath

from supervisor.domain import eta
from supervisor.domain.errors import NotFound
from supervisor.domain.frame import FrameCounts
from supervisor.domain.job import ACTIVE, JobStatus
from supervisor.farm import Farm
from supervisor.scouts import scouts_of, wanted_counts
from supervisor.spending import is_counted, job_totals
from supervisor.store import accounts, events, facts, files, frames, instances, jobs
from supervisor.store.database import Connection
from supervisor.store.events import Event
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .models import Health, JobSummary

#: A supervisor whose last good tick is older than this, or than ten of its ticks, has stopped.
_SILENT_AFTER_S = 60.0
_SILENT_AFTER_TICKS = 10
_UNFINISHED = ACTIVE | {JobStatus.PAUSED}


def job_list(farm: Farm, *, after: str | None = None, limit: int = 100) -> list[JobSummary]:
    """Jobs, newest first, following job `after`."""
    with farm.db.read() as connection:
        return summaries(farm, connection, jobs.jobs_page(connection, after=after, limit=limit))


def jobs_version(farm: Farm) -> int:
    """A number that changes whenever any job does."""
    with farm.db.read() as connection:
        return facts.jobs_version(connection)


def job_summary(farm: Farm, job: str) -> JobSummary:
    """Errors: NotFound"""
    with farm.db.read() as connection:
        return summaries(farm, connection, [found_job(connection, job)])[0]


def unfinished_blenders(farm: Farm) -> dict[str, str]:
    """The Blenders that jobs which have not ended are rendered with. Shape: version -> one of those jobs"""
    with farm.db.read() as connection:
        return {job.blender_version: job.id for job in jobs.jobs_in(connection, _UNFINISHED) if job.blender_version}


def job_events(farm: Farm, job: str, *, limit: int = 200) -> list[Event]:
    """What happened to a job, newest first. Errors: NotFound"""
    with farm.db.read() as connection:
        found_job(connection, job)
        return events.events_of(connection, job, limit=limit)


def health(farm: Farm) -> Health:
    """Whether the supervisor works. One that only waits for the cloud does: restarting it would not help."""
    with farm.db.read() as connection:
        last, looked = facts.last_tick(connection), facts.last_look(connection)
    silent_s = max((farm.now() - looked).total_seconds(), 0.0) if looked else None
    allowed_s = max(_SILENT_AFTER_S, _SILENT_AFTER_TICKS * farm.config.tick_s)
    return Health(
        is_alive=silent_s is not None and silent_s <= allowed_s,
        last_tick_s=max((farm.now() - last).total_seconds(), 0.0) if last else None,
        provider=farm.config.cloud.provider,
        trouble=farm.standing.trouble,
    )


def found_job(connection: Connection, job: str) -> Job:
    """Errors: NotFound"""
    found = jobs.find_job(connection, job)
    if found is None:
        raise NotFound("there is no such job (any more)")
    return found


def summaries(farm: Farm, connection: Connection, chosen: Sequence[Job]) -> list[JobSummary]:
    """Jobs with what a list shows of them, in a handful of reads however many they are."""
    ids = [job.id for job in chosen]
    spent = job_totals(connection, ids, now=farm.now()) if is_counted(farm) else {}
    counted = frames.counts_of(connection, ids)
    running = instances.running_counts(connection, ids)
    at_work = instances.up_of_jobs(connection, [job.id for job in chosen if job.status is JobStatus.RENDERING])
    names = {user.id: user.name for user in accounts.all_users(connection)}
    return [
        JobSummary(
            id=job.id,
            name=job.name or _name_of_main_file(connection, job.id),
            owner=names.get(job.owner_id or "", ""),
            owner_id=job.owner_id,
            status=job.status,
            reason=job.reason,
            status_since=job.status_since,
            created_at=job.created_at,
            submitted_at=job.submitted_at,
            ended_at=job.ended_at,
            frames=counted[job.id],
            instances_running=running.get(job.id, 0),
            eta_s=_eta_s(connection, job, counted[job.id], at_work.get(job.id, ())),
            cost_usd=spent.get(job.id, Decimal(0)),
            cover_frame=frames.newest_with_preview(connection, job.id) if counted[job.id].received else None,
            version=job.version,
        )
        for job in chosen
    ]


def _name_of_main_file(connection: Connection, job: str) -> str:
    main = files.main_file_id(connection, job)
    found = files.file_by_id(connection, main, job=job) if main else None
    return PurePosixPath(found.path).stem if found else "Untitled"


def _eta_s(connection: Connection, job: Job, counted: FrameCounts, at_work: Sequence[Instance]) -> float | None:
    """Shape:   counted: of all its frames; at_work: empty where it is not being rendered"""
    if job.status is not JobStatus.RENDERING:
        return None
    beats = [instance.heartbeat for instance in at_work]
    return eta.remaining_s(
        frame_s=eta.seconds_per_frame(frames.newest_render_times(connection, job.id, limit=eta.MEASURED_FRAMES)),
        unended=(wanted_counts(connection, job) if scouts_of(job) else counted).unended,
        instances=len(beats),
        elapsed=[beat.elapsed_s for beat in beats if beat and beat.frame is not None],
    )
