"""What is held and paid for by its size, in the database: volumes and snapshots, from when they were made until they were missed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from supervisor.domain.cost import Held

from .schema import holdings, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Something held, as it was seen last."""

    job: str  #: empty: the farm's own
    gib: Decimal
    held: Held
    seen_at: datetime


def put_holdings(connection: Connection, shown: Iterable[Holding]) -> None:
    """Write what the cloud shows; what is there already keeps its beginning."""
    known = set(connection.execute(select(holdings.c.id)).scalars())
    for one in shown:
        held = one.held
        seen = {"gib": str(one.gib), "usd_per_month": str(held.usd_per_month), "seen_at": one.seen_at, "ended_at": None}
        if held.id in known:
            connection.execute(update(holdings).where(holdings.c.id == held.id).values(**seen))
        else:
            connection.execute(insert(holdings).values(id=held.id, job_id=one.job, kind=held.kind, began_at=held.began_at, **seen))


def end_holding(connection: Connection, holding_id: str, *, at: datetime) -> None:
    connection.execute(update(holdings).where(holdings.c.id == holding_id).values(ended_at=at))


def open_holdings(connection: Connection) -> list[Holding]:
    """Of all jobs, and the farm's own."""
    return [_holding(row) for row in connection.execute(select(holdings).where(holdings.c.ended_at.is_(None)))]


def holdings_of(connection: Connection, job: str) -> list[Held]:
    return [_holding(row).held for row in connection.execute(select(holdings).where(holdings.c.job_id == job))]


def jobs_holding_since(connection: Connection, at: datetime | None) -> set[str]:
    """The jobs (empty: the farm) of which something is held, or was until later than that. None: of which anything ever was"""
    chosen = select(holdings.c.job_id).distinct()
    if at is not None:
        chosen = chosen.where(holdings.c.ended_at.is_(None) | (holdings.c.ended_at >= at))
    return set(connection.execute(chosen).scalars())


def forget_holdings(connection: Connection, *, ended_before: datetime) -> None:
    """Forget what ended before then of jobs that are gone: the ledger has it."""
    is_gone = holdings.c.job_id.not_in(select(jobs.c.id))
    connection.execute(delete(holdings).where(is_gone & (holdings.c.ended_at < ended_before)))


def _holding(row: Row[Any]) -> Holding:
    values = row._mapping
    held = Held(
        id=values["id"],
        kind=values["kind"],
        usd_per_month=Decimal(values["usd_per_month"]),
        began_at=values["began_at"],
        ended_at=values["ended_at"],
    )
    return Holding(job=values["job_id"], gib=Decimal(values["gib"]), held=held, seen_at=values["seen_at"])
