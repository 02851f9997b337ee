"""Jobs in the database. `move` is the only writer of a job's status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row, delete, func, insert, literal, select, update

from supervisor.domain.job import ENDED, JobStatus, check_move
from supervisor.domain.settings import JobSettings

from .encoding import settings_from_json, settings_to_json
from .events import add_event
from .facts import keep_removed_version
from .schema import Utc, jobs

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was read."""

    id: str
    name: str  #: empty: the main file's, once there is one
    owner_id: str | None
    status: JobStatus
    status_since: datetime
    reason: str  #: of the last move, or what it waits for
    then: JobStatus | None  #: RELEASING only: the status that follows
    then_reason: str
    main_file_id: str | None
    settings: JobSettings
    version: int
    frame_total: int
    order_revision: int
    order_written: str
    journal_ms: int
    ordered: bool
    launch_after: datetime | None
    launch_failures: int
    spot_missed_since: datetime | None
    blender_version: str
    scout_frames: tuple[int, ...]  #: rendered first, then a person is asked; empty: all are wanted
    created_at: datetime
    submitted_at: datetime | None
    began_at: datetime | None
    ended_at: datetime | None


def add_job(connection: Connection, job_id: str, *, name: str, owner_id: str | None, at: datetime) -> None:
    """Make a draft."""
    values = {"id": job_id, "name": name, "owner_id": owner_id, "settings": settings_to_json(JobSettings())}
    connection.execute(insert(jobs).values(**values, status=JobStatus.DRAFT, status_since=at, created_at=at))
    add_event(connection, job_id, at=at, text="created", to=JobStatus.DRAFT)
    touch(connection, job_id)


def find_job(connection: Connection, job_id: str) -> Job | None:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    return _job(row) if row else None


def jobs_in(connection: Connection, statuses: Iterable[JobStatus]) -> list[Job]:
    """Jobs in those statuses, those submitted first first."""
    chosen = select(jobs).where(jobs.c.status.in_(list(statuses)))
    return [_job(row) for row in connection.execute(chosen.order_by(jobs.c.submitted_at, jobs.c.created_at, jobs.c.id))]


def jobs_page(connection: Connection, *, after: str | None, limit: int) -> list[Job]:
    """Jobs, newest first, following job `after` (from the newest if there is no such job)."""
    chosen = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
    last = find_job(connection, after) if after else None
    if last:
        at_once = (jobs.c.created_at == last.created_at) & (jobs.c.id < last.id)
        chosen = chosen.where((jobs.c.created_at < last.created_at) | at_once)
    return [_job(row) for row in connection.execute(chosen)]


def job_ids(connection: Connection) -> frozenset[str]:
    return frozenset(connection.execute(select(jobs.c.id)).scalars())


def statuses(connection: Connection) -> dict[str, JobStatus]:
    """Every job's status, by id."""
    return {job: JobStatus(status) for job, status in connection.execute(select(jobs.c.id, jobs.c.status))}


def ended_before(connection: Connection, at: datetime) -> frozenset[str]:
    """Jobs that ended before then and were not taken up again."""
    long_ago = jobs.c.status.in_(list(ENDED)) & (jobs.c.ended_at < at)
    return frozenset(connection.execute(select(jobs.c.id).where(long_ago)).scalars())


def move(
    connection: Connection,
    seen: Job,
    to: JobStatus,
    *,
    because: str,
    at: datetime,
    then: JobStatus | None = None,
    then_reason: str = "",
) -> bool:
    """Move a job along an edge of the table, with its event, if it still stands where it was seen.

    Shape:   then: what follows RELEASING, and only that
    Returns: False if somebody else moved it meanwhile: the caller stops
    Errors:  IllegalMove - a bug
    """
    check_move(seen.status, to)
    assert (then is not None) == (to is JobStatus.RELEASING), "RELEASING says what follows; nothing else does"
    values: dict[str, Any] = {"status": to, "status_since": at, "reason": because, "then": then, "then_reason": then_reason}
    if to is JobStatus.SUBMITTED:
        values |= {"submitted_at": at, "ended_at": None}
    if to in ENDED:
        values["ended_at"] = at
    if to is JobStatus.SUBMITTED or seen.status is JobStatus.PAUSED:
        values |= {"launch_after": None, "launch_failures": 0, "spot_missed_since": None}
    if not _change_if(connection, seen, values):
        return False
    add_event(connection, seen.id, at=at, text=because, came_from=seen.status, to=to)
    log.info("job moved", job=seen.id, origin=str(seen.status), to=str(to), because=because)
    return True


def change_what_follows(connection: Connection, seen: Job, then: JobStatus, *, because: str, at: datetime) -> bool:
    """Let a job that is RELEASING end otherwise than it was to. Returns: False if somebody else moved it meanwhile"""
    assert seen.status is JobStatus.RELEASING, "only a job that is being released has something that follows"
    if not _change_if(connection, seen, {"then": then, "then_reason": because, "reason": because}):
        return False
    add_event(connection, seen.id, at=at, text=because)
    return True


def _change_if(connection: Connection, seen: Job, values: dict[str, Any]) -> bool:
    stands = (jobs.c.id == seen.id) & (jobs.c.status == seen.status) & (jobs.c.then.is_not_distinct_from(seen.then))
    if connection.execute(update(jobs).where(stands).values(**values)).rowcount != 1:
        return False
    touch(connection, seen.id)
    return True


def touch(connection: Connection, job_id: str) -> None:
    """Raise the job's version: every change of a job or anything of it does, in the same transaction."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(version=jobs.c.version + 1))


def change_job(connection: Connection, job_id: str, **values: Any) -> None:
    """Change columns of a job other than its status."""
    assert not {"status", "then", "status_since"} & values.keys(), "a status is changed by `move` alone"
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    touch(connection, job_id)


def leave_to_nobody(connection: Connection, owner_id: str) -> None:
    """Make the jobs of a user nobody's."""
    theirs = update(jobs).where(jobs.c.owner_id == owner_id)
    connection.execute(theirs.values(owner_id=None, version=jobs.c.version + 1))


def note_finished_frame(connection: Connection, job_id: str, *, at: datetime) -> None:
    """A node finished a frame: launches come to something, and the job has begun."""
    jobs_row = (jobs.c.id == job_id) & ((jobs.c.launch_failures > 0) | jobs.c.began_at.is_(None))
    fresh = {"launch_failures": 0, "launch_after": None, "began_at": func.coalesce(jobs.c.began_at, literal(at, Utc))}
    connection.execute(update(jobs).where(jobs_row).values(**fresh))


def change_settings(connection: Connection, job_id: str, settings: JobSettings) -> None:
    change_job(connection, job_id, settings=settings_to_json(settings))


def say_what_it_waits_for(connection: Connection, seen: Job, text: str) -> None:
    """Make `text` the reason that the page shows, if the job still stands where it was seen."""
    if text != seen.reason:
        _change_if(connection, seen, {"reason": text})


def remove_job(connection: Connection, job_id: str) -> None:
    """Remove a job with everything that its row owns."""
    version = connection.execute(delete(jobs).where(jobs.c.id == job_id).returning(jobs.c.version)).scalar()
    if version is not None:
        keep_removed_version(connection, version)


def _job(row: Row[Any]) -> Job:
    values = {name: value for name, value in row._mapping.items() if name in Job.__dataclass_fields__}
    values["status"] = JobStatus(row.status)
    values["then"] = JobStatus(row.then) if row.then else None
    values["settings"] = settings_from_json(row.settings)
    values["scout_frames"] = tuple(row.scout_frames)
    return Job(**values)
