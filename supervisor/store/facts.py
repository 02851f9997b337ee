"""What is true of the farm as a whole: the version of its jobs, its last good tick, its last bookkeeping."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from .schema import farm_facts, jobs

_REMOVED_VERSIONS = "removed_versions"
_TICK = "tick"
_BOOKS = "books"
_LOOK = "look"


def jobs_version(connection: Connection) -> int:
    """A number that grows with every change of any job, removal included."""
    removed = connection.execute(select(farm_facts.c.number).where(farm_facts.c.name == _REMOVED_VERSIONS)).scalar() or 0
    return removed + int(connection.execute(select(func.coalesce(func.sum(jobs.c.version), 0))).scalar_one())


def keep_removed_version(connection: Connection, version: int) -> None:
    """Let `jobs_version` grow although a job of that version is removed."""
    row = insert(farm_facts).values(name=_REMOVED_VERSIONS, number=version + 1)
    raised = {"number": farm_facts.c.number + version + 1}
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=raised))


def record_tick(connection: Connection, *, at: datetime, was_good: bool = True) -> None:
    """Write down that there was a tick. Shape: was_good: False: it was skipped, for the cloud could not be read"""
    for name in (_TICK, _LOOK) if was_good else (_LOOK,):
        _record(connection, name, at)


def last_look(connection: Connection) -> datetime | None:
    """When the last tick was, good or skipped. Returns: None if there was none yet"""
    return connection.execute(select(farm_facts.c.at).where(farm_facts.c.name == _LOOK)).scalar()


def last_tick(connection: Connection) -> datetime | None:
    """When the last good tick was. Returns: None if there was none yet"""
    return _at(connection, _TICK)


def record_books(connection: Connection, *, at: datetime) -> None:
    _record(connection, _BOOKS, at)


def last_books(connection: Connection) -> datetime | None:
    """When costs were written into the ledger last. Returns: None if they never were"""
    return _at(connection, _BOOKS)


def _record(connection: Connection, name: str, at: datetime) -> None:
    row = insert(farm_facts).values(name=name, at=at)
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"at": at}))


def _at(connection: Connection, name: str) -> datetime | None:
    return connection.execute(select(farm_facts.c.at).where(farm_facts.c.name == name)).scalar()
