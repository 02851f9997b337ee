"""Runs of instances in the database: what is paid for, each from a start to its stop or end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from supervisor.domain.cost import Run

from .schema import runs


def add_run(connection: Connection, job: str, run: Run) -> None:
    """Shape:   job: empty: of the shared pool, between jobs"""
    names = {"instance_id": run.instance, "job_id": job or None, "began_at": run.began_at, "is_part": run.is_part}
    connection.execute(insert(runs).values(**names, **_said(run)))


def change_run(connection: Connection, run: Run) -> None:
    """Write a run anew, which is known by its instance and its beginning."""
    same = (runs.c.instance_id == run.instance) & (runs.c.began_at == run.began_at)
    connection.execute(update(runs).where(same).values(**_said(run)))


def runs_of(connection: Connection, job: str) -> list[Run]:
    """By their beginning."""
    return runs_of_jobs(connection, [job])[job]


def runs_of_jobs(connection: Connection, job_ids: Iterable[str]) -> dict[str, list[Run]]:
    """The runs of several jobs in one read. An empty id: what the shared pool ran between jobs"""
    found: dict[str, list[Run]] = {job: [] for job in job_ids}
    chosen = select(runs).where(_of(found)).order_by(runs.c.began_at, runs.c.instance_id)
    for row in connection.execute(chosen):
        found[row.job_id or ""].append(_run(row))
    return found


def newest_runs(connection: Connection, instance_ids: Iterable[str]) -> dict[str, Run]:
    """The newest run of each instance; those without any are left out."""
    chosen = select(runs).where(runs.c.instance_id.in_(list(instance_ids))).order_by(runs.c.began_at)
    return {row.instance_id: _run(row) for row in connection.execute(chosen)}


def newest_parts(connection: Connection, instance_ids: Iterable[str]) -> dict[str, tuple[str, Run]]:
    """The newest part of each instance of the shared pool, with the job that it is at (empty: none); those without any are left out."""
    chosen = select(runs).where(runs.c.instance_id.in_(list(instance_ids)) & runs.c.is_part).order_by(runs.c.began_at)
    return {row.instance_id: (row.job_id or "", _run(row)) for row in connection.execute(chosen)}


def has_had_job(connection: Connection, instance: str) -> bool:
    """Say whether an instance of the shared pool was ever at a job."""
    mine = (runs.c.instance_id == instance) & runs.c.job_id.is_not(None)
    return connection.execute(select(runs.c.began_at).where(mine).limit(1)).first() is not None


def open_instances(connection: Connection) -> set[str]:
    """The instances, of all jobs, whose run has not ended."""
    return set(connection.execute(select(runs.c.instance_id).where(runs.c.ended_at.is_(None))).scalars())


def jobs_running_since(connection: Connection, at: datetime | None) -> set[str]:
    """The jobs of which an instance runs, or ended later than that. None: all that ever had one

    Returns: with an empty id where the shared pool ran between jobs
    """
    chosen = select(runs.c.job_id).distinct()
    if at is not None:
        chosen = chosen.where(runs.c.ended_at.is_(None) | (runs.c.ended_at >= at))
    return {job or "" for job in connection.execute(chosen).scalars()}


def last_end(connection: Connection, job: str) -> tuple[datetime | None, bool]:
    """When the last of a job's runs ended (None: none has), and whether one has not yet."""
    ended, is_open = connection.execute(select(func.max(runs.c.ended_at), _is_any_open()).where(_of([job]))).one()
    return ended, bool(is_open)


def _of(job_ids: Iterable[str]) -> ColumnElement[bool]:
    """Shape:   an empty id: those of no job"""
    ids = set(job_ids)
    of_jobs = runs.c.job_id.in_(ids - {""})
    return of_jobs | runs.c.job_id.is_(None) if "" in ids else of_jobs


def _is_any_open() -> Any:
    return func.coalesce(func.max(runs.c.ended_at.is_(None)), 0)


def _said(run: Run) -> dict[str, Any]:
    return {
        "price_usd_per_h": str(run.price_usd_per_h),
        "ready_at": run.ready_at,
        "ended_at": run.ended_at,
        "was_interrupted": run.was_interrupted,
    }


def _run(row: Row[Any]) -> Run:
    return Run(
        instance=row.instance_id,
        price_usd_per_h=Decimal(row.price_usd_per_h),
        began_at=row.began_at,
        ready_at=row.ready_at,
        ended_at=row.ended_at,
        was_interrupted=row.was_interrupted,
        is_part=row.is_part,
    )
