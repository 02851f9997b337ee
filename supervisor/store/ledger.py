"""The ledger: what each job, deleted ones too, cost in each calendar month, as it was counted last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.sqlite import insert

from supervisor.domain.cost import MonthCost

from .schema import ledger

_PARTS = tuple(part.name for part in fields(MonthCost))
#: What is counted anew each time, of a job that is there; storage is added up as time goes by.
COUNTED = ("instances_usd", "preparing_usd", "volumes_usd", "snapshots_usd")
#: What goes on when a job is gone, and is all there is of what the farm holds for none.
HELD = ("preparing_usd", "volumes_usd", "snapshots_usd")
STORED = ("storage_usd",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A job's month."""

    month: str  #: 2026-01
    job: str  #: empty: what the farm holds for no job
    name: str
    cost: MonthCost


def put_entry(connection: Connection, entry: Entry, parts: tuple[str, ...]) -> None:
    """Write those parts of a job's month; the others stay as they are."""
    said = {name: str(getattr(entry.cost, name)) for name in parts}
    row = insert(ledger).values(month=entry.month, job_id=entry.job, name=entry.name, **said)
    connection.execute(row.on_conflict_do_update(index_elements=["month", "job_id"], set_={"name": entry.name, **said}))


def entries_of(connection: Connection, month: str) -> list[Entry]:
    return [_entry(row) for row in connection.execute(select(ledger).where(ledger.c.month == month))]


def entry_of(connection: Connection, month: str, job: str) -> Entry | None:
    row = connection.execute(select(ledger).where((ledger.c.month == month) & (ledger.c.job_id == job))).first()
    return _entry(row) if row else None


def totals(connection: Connection, job_ids: Iterable[str]) -> dict[str, MonthCost]:
    """What jobs cost over all months; those without an entry are left out."""
    found: dict[str, MonthCost] = {}
    for row in connection.execute(select(ledger).where(ledger.c.job_id.in_(list(job_ids)))):
        entry = _entry(row)
        found[entry.job] = found.get(entry.job, MonthCost()) + entry.cost
    return found


def _entry(row: Row[Any]) -> Entry:
    cost = MonthCost(**{name: Decimal(row._mapping[name]) for name in _PARTS})
    return Entry(month=row.month, job=row.job_id, name=row.name, cost=cost)
