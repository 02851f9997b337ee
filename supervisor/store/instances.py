"""Launches and instances in the database: what was asked for, what the cloud and the nodes say came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from nodeimage.protocol import Heartbeat
from supervisor.domain.instance import RENTED, UP, InstanceStatus, Market, is_left_to_cloud

from .encoding import heartbeat_from_json, heartbeat_to_json
from .schema import instances, launches


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Instances asked for at once."""

    request_id: str
    job: str
    count: int
    market: Market
    workspace: str
    granted: int | None  #: None: not known yet
    at: datetime  #: when it was asked for last
    problem: str
    shown: int  #: instances of it that the cloud has shown so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance as it was read."""

    id: str
    job: str  #: that it was launched for; empty: of the shared pool
    works_for: str  #: of the shared pool: the job that its node is at, or was at when it ended; empty: none
    request_id: str
    node: str
    status: InstanceStatus
    market: Market
    instance_type: str
    price_usd_per_h: Decimal
    launched_at: datetime
    ended_at: datetime | None
    note: str
    beat_etag: str
    beat_at: datetime | None  #: when we saw it change
    heartbeat: Heartbeat | None  #: the last one
    interruption_at: datetime | None  #: the cloud takes it back then, by its notice
    was_interrupted: bool  #: the cloud took it back
    given_back: bool  #: we ended it because it was needed no more
    claims_freed: bool

    @property
    def is_rented(self) -> bool:
        return self.status in RENTED

    @property
    def is_up(self) -> bool:
        """Say whether it runs or is about to, as far as anybody knows: one that is stopped or ending is not."""
        return self.status in UP

    @property
    def at_job(self) -> str:
        """The job that its node is at. Empty: none at present"""
        return self.job or self.works_for

    @property
    def is_taken_back(self) -> bool:
        """Say whether the cloud took it back, or is about to."""
        return self.was_interrupted or self.interruption_at is not None

    def is_left_to_cloud(self, now: datetime) -> bool:
        return is_left_to_cloud(self.interruption_at, now=now)


def add_launch(connection: Connection, request_id: str, *, job: str, count: int, market: Market, workspace: str, at: datetime) -> Launch:
    """Write down that the cloud is about to be asked."""
    asked = {"count": count, "market": market, "workspace": workspace, "at": at}
    connection.execute(insert(launches).values(request_id=request_id, job_id=job, **asked))
    return Launch(request_id=request_id, job=job, count=count, market=market, workspace=workspace, granted=None, at=at, problem="", shown=0)


def note_asked_again(connection: Connection, request_id: str, *, at: datetime) -> None:
    """What comes of a launch is waited for from its last asking on."""
    connection.execute(update(launches).where(launches.c.request_id == request_id).values(at=at))


def record_granted(connection: Connection, request_id: str, granted: int, *, problem: str = "") -> None:
    connection.execute(update(launches).where(launches.c.request_id == request_id).values(granted=granted, problem=problem))


def launches_of(connection: Connection, job: str) -> list[Launch]:
    """A job's launches by time, with how many instances of each have been seen."""
    seen = select(instances.c.request_id, func.count().label("shown")).where(instances.c.job_id == job).group_by(instances.c.request_id)
    shown = seen.subquery()
    joined = launches.outerjoin(shown, shown.c.request_id == launches.c.request_id)
    chosen = select(launches, func.coalesce(shown.c.shown, 0).label("shown")).select_from(joined).where(launches.c.job_id == job)
    return [
        Launch(
            request_id=row.request_id,
            job=row.job_id,
            count=row._mapping["count"],  # a row has a method of that name
            market=Market(row.market),
            workspace=row.workspace,
            granted=row.granted,
            at=row.at,
            problem=row.problem,
            shown=row.shown,
        )
        for row in connection.execute(chosen.order_by(launches.c.at, launches.c.request_id))
    ]


def find_instances(connection: Connection, ids: Iterable[str]) -> dict[str, Instance]:
    """Those of the ids that are known, by id."""
    chosen = select(instances).where(instances.c.id.in_(list(ids)))
    return {row.id: _instance(row) for row in connection.execute(chosen)}


def put_instance(connection: Connection, instance: Instance) -> None:
    """Write an instance as the cloud shows it; what its node says is left as it is."""
    shown = {
        "status": instance.status,
        "market": instance.market,
        "instance_type": instance.instance_type,
        "price_usd_per_h": str(instance.price_usd_per_h),
        "ended_at": instance.ended_at,
        "note": instance.note,
        "was_interrupted": instance.was_interrupted,
        "claims_freed": instance.claims_freed,
    }
    names = {"id": instance.id, "job_id": instance.job or None, "request_id": instance.request_id, "node": instance.node}
    row = upsert(instances).values(**names, **shown, launched_at=instance.launched_at)
    connection.execute(row.on_conflict_do_update(index_elements=["id"], set_=shown))


def end_instances(connection: Connection, ids: Iterable[str], *, note: str, given_back: bool) -> None:
    """Remember that the cloud is asked to end those.

    Shape:   given_back: they are needed no more; otherwise something is wrong with them
    """
    values: dict[str, Any] = {"status": InstanceStatus.TERMINATING, "note": note, "given_back": given_back}
    rented = instances.c.status != InstanceStatus.TERMINATED
    connection.execute(update(instances).where(instances.c.id.in_(list(ids)) & rented).values(**values))


def begin_anew(connection: Connection, ids: Iterable[str]) -> None:
    """Remember that stopped instances are asked to start again: what their nodes said before they were stopped counts no more."""
    fresh = {"status": InstanceStatus.PENDING, "beat_at": None, "beat": None, "heartbeat": None, "claims_freed": False}
    connection.execute(update(instances).where(instances.c.id.in_(list(ids))).values(**fresh))


def note_interruption(connection: Connection, instance_id: str, *, at: datetime) -> None:
    """Keep the time of the cloud's notice."""
    connection.execute(update(instances).where(instances.c.id == instance_id).values(interruption_at=at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A node's changed heartbeat."""

    instance: str
    etag: str
    heartbeat: Heartbeat | None  #: None: it could not be read, which is a sign of life all the same


def record_heartbeats(connection: Connection, heard: Iterable[Heard], *, at: datetime) -> None:
    """Keep nodes' changed heartbeats. One statement for all: hundreds may come with a tick."""
    changed = update(instances).where(instances.c.id == bindparam("of"))
    read: list[dict[str, Any]] = []
    unread: list[dict[str, Any]] = []
    for one in heard:
        row = {"of": one.instance, "beat_etag": one.etag, "beat_at": at}
        if one.heartbeat:
            read.append(row | {"beat": one.heartbeat.beat, "heartbeat": heartbeat_to_json(one.heartbeat)})
        else:
            unread.append(row)
    for rows in (read, unread):
        if rows:
            connection.execute(changed, rows)


def mark_claims_freed(connection: Connection, ids: Iterable[str]) -> None:
    connection.execute(update(instances).where(instances.c.id.in_(list(ids))).values(claims_freed=True))


def change_work(connection: Connection, instance_id: str, *, job: str) -> None:
    """Remember which job the node of an instance of the shared pool is at. Empty: none"""
    connection.execute(update(instances).where(instances.c.id == instance_id).values(works_for=job))


def instances_of(connection: Connection, job: str) -> list[Instance]:
    """Those launched for a job, and those of the shared pool that are at it or ended there; by launch."""
    chosen = select(instances).where((instances.c.job_id == job) | (instances.c.works_for == job))
    return [_instance(row) for row in connection.execute(chosen.order_by(instances.c.launched_at, instances.c.id))]


def rented_instances(connection: Connection) -> list[Instance]:
    """Of all jobs, those that are not known to be gone, by launch."""
    chosen = select(instances).where(instances.c.status != InstanceStatus.TERMINATED)
    return [_instance(row) for row in connection.execute(chosen.order_by(instances.c.launched_at, instances.c.id))]


def pool_instances(connection: Connection, *, ended_after: datetime | None = None) -> list[Instance]:
    """Those of the shared pool that are not gone, that ended after that, or whose claims are not free yet; by launch."""
    recent = instances.c.ended_at.is_(None) | instances.c.claims_freed.is_(False)
    if ended_after is not None:
        recent = recent | (instances.c.ended_at > ended_after)
    chosen = select(instances).where(instances.c.job_id.is_(None) & recent)
    return [_instance(row) for row in connection.execute(chosen.order_by(instances.c.launched_at, instances.c.id))]


def forget_pool_instances(connection: Connection, *, ended_before: datetime) -> None:
    """Remove what is known of instances of the shared pool that have been gone for long: no job's removal takes them along."""
    connection.execute(delete(instances).where(instances.c.job_id.is_(None) & (instances.c.ended_at < ended_before)))


def with_nodes(connection: Connection, nodes: Iterable[str]) -> list[Instance]:
    """The instances of those nodes, gone ones too."""
    return [_instance(row) for row in connection.execute(select(instances).where(instances.c.node.in_(list(nodes))))]


def up_of_jobs(connection: Connection, job_ids: Iterable[str]) -> dict[str, list[Instance]]:
    """The instances of several jobs that run or are about to, in one read; jobs without any are left out."""
    ids = list(job_ids)
    at_one = instances.c.job_id.in_(ids) | instances.c.works_for.in_(ids)
    found: dict[str, list[Instance]] = {}
    for row in connection.execute(select(instances).where(instances.c.status.in_(UP) & at_one)):
        one = _instance(row)
        found.setdefault(one.at_job, []).append(one)
    return found


def running_counts(connection: Connection, job_ids: Iterable[str]) -> dict[str, int]:
    """How many instances of each job run; jobs without any are left out."""
    at_job = func.coalesce(instances.c.job_id, instances.c.works_for)
    chosen = select(at_job, func.count()).where(at_job.in_(list(job_ids)))
    running = chosen.where(instances.c.status == InstanceStatus.RUNNING).group_by(at_job)
    return {job: number for job, number in connection.execute(running)}


def _instance(row: Row[Any]) -> Instance:
    return Instance(
        id=row.id,
        job=row.job_id or "",
        works_for=row.works_for,
        request_id=row.request_id,
        node=row.node,
        status=InstanceStatus(row.status),
        market=Market(row.market),
        instance_type=row.instance_type,
        price_usd_per_h=Decimal(row.price_usd_per_h),
        launched_at=row.launched_at,
        ended_at=row.ended_at,
        note=row.note,
        beat_etag=row.beat_etag,
        beat_at=row.beat_at,
        heartbeat=heartbeat_from_json(row.heartbeat),
        interruption_at=row.interruption_at,
        was_interrupted=row.was_interrupted,
        given_back=row.given_back,
        claims_freed=row.claims_freed,
    )
