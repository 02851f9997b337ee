"""What came of jobs, deleted ones too, on each kind of instance, in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from supervisor.domain.estimate import Pace, Work

from .schema import paces

_WORK = tuple(part.name for part in fields(Work) if part.name != "job")
_REST = tuple(part.name for part in fields(Pace) if part.name not in {"work", "usd"})


def put_paces(connection: Connection, job: str, found: Iterable[Pace]) -> None:
    """Write a job's paces anew. Nothing found: those that are there stay"""
    rows = [_row(pace) for pace in found]
    if rows:
        connection.execute(delete(paces).where(paces.c.job_id == job))
        connection.execute(insert(paces), rows)


def newest_paces(connection: Connection, *, limit: int | None = None) -> list[Pace]:
    """The newest first; None: all of them."""
    return [_pace(row) for row in connection.execute(select(paces).order_by(paces.c.at.desc(), paces.c.job_id).limit(limit))]


def boots_of(connection: Connection, instance_type: str) -> tuple[int, float]:
    """How many starts of a kind of instance were measured, and the seconds that they took together."""
    counted = select(func.coalesce(func.sum(paces.c.boots), 0), func.coalesce(func.sum(paces.c.boot_s), 0.0))
    boots, seconds = connection.execute(counted.where(paces.c.instance_type == instance_type)).one()
    return boots, seconds


def _row(pace: Pace) -> dict[str, Any]:
    work = asdict(pace.work)
    return {"job_id": work.pop("job"), **work, **{name: getattr(pace, name) for name in _REST}, "usd": str(pace.usd)}


def _pace(row: Row[Any]) -> Pace:
    values = row._mapping
    work = Work(job=row.job_id, **{name: values[name] for name in _WORK})
    return Pace(work=work, usd=Decimal(row.usd), **{name: values[name] for name in _REST})
