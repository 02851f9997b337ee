"""What happened to jobs, and what a person should know about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from supervisor.domain.job import JobStatus
from supervisor.domain.problem import Problem

from .schema import job_events, problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a job; with statuses, a move."""

    at: datetime
    from_status: JobStatus | None
    to_status: JobStatus | None
    text: str


def add_event(
    connection: Connection, job_id: str, *, at: datetime, text: str, came_from: JobStatus | None = None, to: JobStatus | None = None
) -> None:
    connection.execute(insert(job_events).values(job_id=job_id, at=at, from_status=came_from, to_status=to, text=text))


def events_of(connection: Connection, job_id: str, *, limit: int) -> list[Event]:
    """The newest first."""
    chosen = select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.id.desc()).limit(limit)
    return [
        Event(
            at=row.at,
            from_status=JobStatus(row.from_status) if row.from_status else None,
            to_status=JobStatus(row.to_status) if row.to_status else None,
            text=row.text,
        )
        for row in connection.execute(chosen)
    ]


def put_problem(connection: Connection, job_id: str, problem: Problem) -> bool:
    """Keep a problem; one that is there keeps its `since`. Returns: False if it is there as it is"""
    said = {"severity": problem.severity, "text": problem.text, "remedy": problem.remedy}
    row = upsert(problems).values(job_id=job_id, code=problem.code, about=problem.about, since=problem.since, **said)
    differs = (problems.c.text != problem.text) | (problems.c.remedy != problem.remedy) | (problems.c.severity != problem.severity)
    kept = row.on_conflict_do_update(index_elements=["job_id", "code", "about"], set_=said, where=differs)
    return connection.execute(kept).rowcount == 1


def clear_problem(connection: Connection, job_id: str, code: str, *, about: str | None = None) -> bool:
    """Forget problems of a code; None: whatever they are about. Returns: False if there were none"""
    gone = delete(problems).where((problems.c.job_id == job_id) & (problems.c.code == code))
    if about is not None:
        gone = gone.where(problems.c.about == about)
    return connection.execute(gone).rowcount > 0


def problems_of(connection: Connection, job_id: str) -> list[Problem]:
    """Errors first, then warnings; within these by time."""
    rank = case({"error": 0, "warning": 1}, value=problems.c.severity, else_=2)
    chosen = select(problems).where(problems.c.job_id == job_id).order_by(rank, problems.c.since, problems.c.code, problems.c.about)
    return [_problem(row) for row in connection.execute(chosen)]


def jobs_with_problem(connection: Connection, code: str) -> set[str]:
    return set(connection.execute(select(problems.c.job_id).where(problems.c.code == code)).scalars())


def _problem(row: Any) -> Problem:
    return Problem(code=row.code, about=row.about, severity=row.severity, text=row.text, remedy=row.remedy, since=row.since)
