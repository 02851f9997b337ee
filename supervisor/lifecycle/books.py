"""Keep the books, each minute: what is held and by whom, what each job cost in each month, how fast it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog

from supervisor.bookkeeping import Stored, add_storage, write_down, write_down_held
from supervisor.cloud.ports import CloudError
from supervisor.cloud.ports import Holding as Shown
from supervisor.domain.cost import Held, Span
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.store import facts, frames, holdings, inventory, jobs, runs
from supervisor.store.database import Connection
from supervisor.store.holdings import Holding
from supervisor.store.jobs import Job

log = structlog.get_logger(__name__)

#: What nobody looked at for longer may be gone for as long.
_GAP = timedelta(minutes=5)
#: What is held is forgotten when it has been gone for so long, and its job too: its months are closed by then.
_KEPT = timedelta(days=62)


class Books:
    """The bookkeeper, with what it remembers between its rounds: restarting costs one round over all jobs."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._counted: dict[str, int] = {}  #: job -> its version when it was written down last
        self._stored: dict[str, tuple[int, int]] = {}  #: job -> its version when it was weighed, and the bytes

    def keep(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """Write down all that changed since the last round. Repeat: safe"""
        farm, now = self._farm, self._farm.now()
        self._note_holdings(now)
        with farm.db.read() as connection:
            since = facts.last_books(connection)
            there = {job.id: job for job in jobs.jobs_in(connection, JobStatus)}
            moving = runs.jobs_running_since(connection, since) | holdings.jobs_holding_since(connection, since)
        for job in there.values():
            if go_on() and (job.id in moving or self._counted.get(job.id) != job.version):
                self._write_down(job, now)
        with farm.db.write() as connection:
            for gone in moving - there.keys():
                write_down_held(connection, gone, now=now)
        self._add_storage(there, since=since, now=now)
        self._forget(there)

    def _write_down(self, job: Job, now: datetime) -> None:
        with self._farm.db.write() as connection:
            if jobs.find_job(connection, job.id):  # deleted meanwhile: that wrote it down
                write_down(connection, job, now=now)
        self._counted[job.id] = job.version

    def _note_holdings(self, now: datetime) -> None:
        """Take in what the cloud shows; end what it shows no more."""
        try:
            shown = self._farm.cloud.premises.holdings()
        except CloudError as error:
            log.warning("holdings not readable", error=str(error))
            return
        with self._farm.db.write() as connection:
            before = holdings.open_holdings(connection)
            holdings.put_holdings(connection, [_held(one, now) for one in shown])
            ids = {one.id for one in shown}
            for missing in (one for one in before if one.held.id not in ids):
                if ended := _ended_at(connection, missing, now):
                    holdings.end_holding(connection, missing.held.id, at=ended)

    def _add_storage(self, there: Mapping[str, Job], *, since: datetime | None, now: datetime) -> None:
        """Count what jobs stored since the last round, and write down when this one was."""
        price = self._farm.cloud.prices.stored_usd_per_gib_month()
        stored = self._weigh(there) if price and since else {}
        with self._farm.db.write() as connection:
            if stored and since:
                add_storage(connection, stored, usd_per_gib_month=price, span=Span(since=since, until=now))
            facts.record_books(connection, at=now)

    def _weigh(self, there: Mapping[str, Job]) -> dict[str, Stored]:
        found = {}
        for job in there.values():
            version, length = self._stored.get(job.id, (-1, 0))
            if version != job.version:
                with self._farm.db.read() as connection:
                    length = inventory.inventory(connection, job.id).bytes + frames.received_bytes(connection, job.id)
                self._stored[job.id] = (job.version, length)
            if length:
                found[job.id] = Stored(name=job.name, bytes=length)
        return found

    def _forget(self, there: Mapping[str, Job]) -> None:
        self._counted = {job: version for job, version in self._counted.items() if job in there}
        self._stored = {job: weighed for job, weighed in self._stored.items() if job in there}
        with self._farm.db.write() as connection:
            holdings.forget_holdings(connection, ended_before=self._farm.now() - _KEPT)


def _held(shown: Shown, now: datetime) -> Holding:
    held = Held(id=shown.id, kind=shown.kind, usd_per_month=shown.usd_per_month, began_at=min(shown.since, now))
    return Holding(job=shown.job, gib=shown.gib, held=held, seen_at=now)


def _ended_at(connection: Connection, missing: Holding, now: datetime) -> datetime | None:
    """When something ended that is not there any more: now, but where nobody looked (the farm was off), with the last of its job's
    instances.

    Returns: None if these are not known to have ended either: the next round knows more
    """
    if now - missing.seen_at <= _GAP:
        return now
    last, is_any_open = runs.last_end(connection, missing.job)
    return None if is_any_open else max(missing.seen_at, last or missing.seen_at)
