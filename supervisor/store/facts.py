"""What is true of the farm as a whole: the version of its jobs, its last good tick."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from .schema import farm_facts, jobs

_REMOVED_VERSIONS = "removed_versions"
_TICK = "tick"
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
        row = insert(farm_facts).values(name=name, at=at)
        connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"at": at}))


def last_look(connection: Connection) -> datetime | None:
    """When the last tick was, good or skipped. Returns: None if there was none yet"""
    return connection.execute(select(farm_facts.c.at).where(farm_facts.c.name == _LOOK)).scalar()


def last_tick(connection: Connection) -> datetime | None:
    """When the last good tick was. Returns: None if there was none yet"""
    return connection.execute(select(farm_facts.c.at).where(farm_facts.c.name == _TICK)).scalar()
