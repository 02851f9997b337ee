"""Writing down what a job cost in each month and how fast it was, so that both outlive it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from supervisor.domain.cost import Held, MonthCost, Run, Span, month_cost, months_in, span_of, stored_usd
from supervisor.measuring import paces_of
from supervisor.store import holdings, ledger, paces, runs
from supervisor.store.database import Connection
from supervisor.store.jobs import Job
from supervisor.store.ledger import Entry


def write_down(connection: Connection, job: Job, *, now: datetime) -> None:
    """Bring a job's months in the ledger, but for what it stores, and its paces up to date. Repeat: safe"""
    mine, held = runs.runs_of(connection, job.id), holdings.holdings_of(connection, job.id)
    for month in _months(mine, held, now):
        cost = month_cost(mine, held, month=month, now=now)
        ledger.put_entry(connection, Entry(month=month, job=job.id, name=job.name, cost=cost), ledger.COUNTED)
    paces.put_paces(connection, job.id, paces_of(connection, job, now=now))


def write_down_held(connection: Connection, job: str, *, now: datetime) -> None:
    """Bring into the ledger what is held of a job that is gone, or (empty) for none: there with what the shared pool ran between jobs.

    Repeat:  safe
    """
    held = holdings.holdings_of(connection, job)
    mine = [] if job else runs.runs_of(connection, job)
    parts = ledger.HELD if job else ledger.COUNTED
    for month in _months(mine, held, now):
        there = ledger.entry_of(connection, month, job)
        cost = month_cost(mine, held, month=month, now=now)
        ledger.put_entry(connection, Entry(month=month, job=job, name=there.name if there else "", cost=cost), parts)


def _months(mine: list[Run], held: list[Held], now: datetime) -> Iterator[str]:
    spans = [run.paid(now) for run in mine] + [Span(since=one.began_at, until=one.ended_at or now) for one in held]
    if spans:
        yield from months_in(Span(since=min(span.since for span in spans), until=max(span.until for span in spans)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a job has in the bucket."""

    name: str
    bytes: int


def add_storage(connection: Connection, stored: Mapping[str, Stored], *, usd_per_gib_month: Decimal, span: Span) -> None:
    """Add to the ledger what jobs stored in that time. Repeat: not safe: the caller goes on where it stopped, in the same transaction"""
    for month in months_in(span):
        there = {entry.job: entry.cost for entry in ledger.entries_of(connection, month)}
        within = span.within(span_of(month))
        for job, one in stored.items():
            usd = there.get(job, MonthCost()).storage_usd + stored_usd(one.bytes, usd_per_gib_month, within)
            ledger.put_entry(connection, Entry(month=month, job=job, name=one.name, cost=MonthCost(storage_usd=usd)), ledger.STORED)
