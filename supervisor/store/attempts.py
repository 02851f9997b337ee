"""Attempts at frames in the database: the journal entries taken in, each once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from nodeimage.protocol import Failure, Outcome

from .schema import attempts

#: Outcomes besides those of the protocol: of an entry that can't be read; of one that tells what another one told: the answer to that was
#: lost on its way, so the node wrote it once more.
UNREADABLE, REPEATED = "unreadable", "repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A journal entry that was taken in."""

    entry: str  #: its name in the bucket
    frame: int | None
    attempt: int
    node: str
    nonce: str  #: of the claim
    outcome: str  #: an Outcome, UNREADABLE or REPEATED
    failure: str | None
    message: str
    render_s: float
    at: datetime  #: by the node's clock
    taken_in_at: datetime  #: by ours


def add_attempt(connection: Connection, job: str, attempt: Attempt) -> bool:
    """Returns: False if that entry was taken in already: whatever it tells was done then"""
    values = {name: getattr(attempt, name) for name in Attempt.__dataclass_fields__}
    return connection.execute(insert(attempts).values(job_id=job, **values).on_conflict_do_nothing()).rowcount == 1


def is_told(connection: Connection, job: str, *, nonce: str, outcome: Outcome) -> bool:
    """Say whether an entry was taken in that tells of a claim's outcome."""
    of_claim = (attempts.c.job_id == job) & (attempts.c.nonce == nonce) & (attempts.c.outcome == outcome)
    return bool(nonce) and connection.execute(select(attempts.c.entry).where(of_claim).limit(1)).first() is not None


def entries_from(connection: Connection, job: str, name: str) -> set[str]:
    """Names of the entries taken in, from that name on."""
    return set(connection.execute(select(attempts.c.entry).where((attempts.c.job_id == job) & (attempts.c.entry >= name))).scalars())


def ended_nonces(connection: Connection, job: str, nonces: Iterable[str]) -> set[str]:
    """Those of the claims' nonces whose outcome was taken in."""
    chosen = select(attempts.c.nonce).where((attempts.c.job_id == job) & attempts.c.nonce.in_(list(nonces)) & (attempts.c.nonce != ""))
    return set(connection.execute(chosen).scalars())


def failures_since(connection: Connection, job: str, failure: Failure, at: datetime) -> int:
    """How many attempts failed that way and were taken in since."""
    of_job = (attempts.c.job_id == job) & (attempts.c.failure == failure) & (attempts.c.taken_in_at >= at)
    return connection.execute(select(func.count()).where(of_job)).scalar_one()


def failed_frames_since(connection: Connection, job: str, at: datetime) -> int:
    """How many frames had an attempt that failed and was taken in since."""
    of_job = (attempts.c.job_id == job) & (attempts.c.outcome == Outcome.FAILED) & (attempts.c.taken_in_at >= at)
    return connection.execute(select(func.count(attempts.c.frame.distinct())).where(of_job)).scalar_one()


def last_failure(connection: Connection, job: str, *, since: datetime) -> Attempt | None:
    """The attempt that failed last, taken in since. Returns: None if none did"""
    of_job = (attempts.c.job_id == job) & (attempts.c.outcome == Outcome.FAILED) & (attempts.c.taken_in_at >= since)
    row = connection.execute(
        select(attempts).where(of_job).order_by(attempts.c.taken_in_at.desc(), attempts.c.entry.desc()).limit(1)
    ).first()
    return Attempt(**{name: row._mapping[name] for name in Attempt.__dataclass_fields__}) if row else None


def finished_by(connection: Connection, job: str, node: str) -> int:
    """How many frames a node delivered."""
    of_node = (attempts.c.job_id == job) & (attempts.c.node == node) & (attempts.c.outcome == Outcome.FINISHED)
    return connection.execute(select(func.count()).where(of_node)).scalar_one()


def finished_by_node(connection: Connection, job: str) -> dict[str, int]:
    """How many frames each node delivered; nodes without any are left out."""
    of_job = (attempts.c.job_id == job) & (attempts.c.outcome == Outcome.FINISHED)
    chosen = select(attempts.c.node, func.count()).where(of_job).group_by(attempts.c.node)
    return {node: number for node, number in connection.execute(chosen)}


def rendered_by_node(connection: Connection, job: str) -> dict[str, tuple[int, float]]:
    """How many frames each node delivered, and the seconds that it rendered them in; nodes without any are left out."""
    of_job = (attempts.c.job_id == job) & (attempts.c.outcome == Outcome.FINISHED)
    chosen = select(attempts.c.node, func.count(), func.sum(attempts.c.render_s)).where(of_job).group_by(attempts.c.node)
    return {node: (number, seconds) for node, number, seconds in connection.execute(chosen)}


def newest_finished_at(connection: Connection, job: str) -> datetime | None:
    """When a frame was taken in last. Returns: None if none was"""
    of_job = (attempts.c.job_id == job) & (attempts.c.outcome == Outcome.FINISHED)
    return connection.execute(select(func.max(attempts.c.taken_in_at)).where(of_job)).scalar()
