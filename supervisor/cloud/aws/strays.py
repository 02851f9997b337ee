"""What of the farm's things on AWS nobody owns: rules alone, over everything that there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nodeimage.launch import Role

from .inventory import FarmInstance, FarmSnapshot, FarmVolume, Fleet
from .staging_plan import best_snapshot

#: What is younger may belong to something that was written down after the owners were looked at.
GRACE = timedelta(minutes=10)
#: Versions of the launch template of a job that has no instance at present: one that waits for room makes them anew when it needs them.
TEMPLATE_GRACE = timedelta(hours=1)


class Kind(StrEnum):
    """What can be left over, in the order in which it is removed: what holds something comes before what it holds."""

    INSTANCE = "instance"
    FLEET = "fleet"
    HELD_VOLUME = "held_volume"  #: attached to the farm's own instance; detached now, it is deleted the next time
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    TEMPLATE = "template"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """Something that nobody owns."""

    kind: Kind
    id: str  #: TEMPLATE: the job that the versions are for
    what: str  #: for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """Everything of the farm's that there is."""

    instances: Sequence[FarmInstance] = ()
    volumes: Sequence[FarmVolume] = ()
    snapshots: Sequence[FarmSnapshot] = ()
    fleets: Sequence[Fleet] = ()
    templates: Mapping[str, datetime]  #: job -> when the newest version for it was made
    image_snapshots: frozenset[str] | None  #: that images are made of; None: not known, and none of an image is removed
    old_groups: frozenset[str] = frozenset()  #: security groups that no launch uses any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What workspaces can't do without."""

    tokens: Mapping[str, str]  #: request ids of staging instances and of the volumes that they fill -> content of these
    contents: frozenset[str]  #: of snapshots


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Who may own something."""

    jobs: frozenset[str]
    needed: Needed  #: by the workspaces of these jobs
    builds: frozenset[str]  #: of images, unfinished


def strays_in(stock: Stock, owners: Owners, *, now: datetime) -> list[Stray]:
    """Find what nobody owns, in the order in which to remove it."""
    before = now - GRACE
    return [
        *_instances(stock, owners, before),
        *_fleets(stock, owners, before),
        *_volumes(stock, owners, before),
        *_snapshots(stock, owners, before),
        *_templates(stock, owners, now),
        *(Stray(kind=Kind.GROUP, id=id, what="a security group that no launch uses any more") for id in sorted(stock.old_groups)),
    ]


def _instances(stock: Stock, owners: Owners, before: datetime) -> Iterator[Stray]:
    frozen = _frozen(stock.snapshots)
    for one in stock.instances:
        if not one.is_ending and one.launched_at < before and (why := _unowned(one, owners, frozen)):
            yield Stray(kind=Kind.INSTANCE, id=one.id, what=f"an instance {why}")


def _unowned(one: FarmInstance, owners: Owners, frozen: frozenset[str]) -> str:
    """Returns: empty if somebody owns it. What bears the farm's tag and no role of ours, a person made: it is left alone."""
    if one.role == Role.RENDER and one.job not in owners.jobs:
        return f"of the unknown job {one.job}"
    if one.role == Role.STAGE and not _is_staging(one.request, owners, frozen):
        return f"that copied files for {one.job}, which needs it no more"
    if one.role == Role.BUILD and one.request not in owners.builds:
        return "that built an image, and is needed no more"
    # a spot instance was let go by the farm, because AWS is about to take it back: that is left to AWS, and to the lifecycle
    if one.role == Role.POOL and not one.group and not one.is_spot:
        return "of the shared pool that is in no group any more"
    return ""


def _is_staging(request: str, owners: Owners, frozen: frozenset[str]) -> bool:
    """Whether a workspace still needs what was rented with this request: its files are in no finished snapshot yet."""
    return request in owners.needed.tokens and owners.needed.tokens[request] not in frozen


def _frozen(snapshots: Sequence[FarmSnapshot]) -> frozenset[str]:
    return frozenset(each.content for each in snapshots if each.content and each.state == "completed")


def _fleets(stock: Stock, owners: Owners, before: datetime) -> Iterator[Stray]:
    for fleet in stock.fleets:
        if fleet.job and fleet.job not in owners.jobs and fleet.created_at < before:
            yield Stray(kind=Kind.FLEET, id=fleet.id, what=f"a fleet of the unknown job {fleet.job}")


def _volumes(stock: Stock, owners: Owners, before: datetime) -> Iterator[Stray]:
    frozen = _frozen(stock.snapshots)
    being_frozen = {each.volume for each in stock.snapshots if each.state == "pending"}
    for volume in stock.volumes:
        if volume.id in being_frozen or _is_filled_or_built_on(volume, owners, frozen) or not _is_old(volume, owners, before):
            continue
        if volume.is_free:
            what = f"a volume of {volume.job or volume.role} that nothing is attached to"
            yield Stray(kind=Kind.VOLUME, id=volume.id, what=what)
        elif volume.is_at_host:
            what = f"a volume of {volume.job} on {volume.instance}, where the farm was to fill it"
            yield Stray(kind=Kind.HELD_VOLUME, id=volume.id, what=what)


def _is_old(volume: FarmVolume, owners: Owners, before: datetime) -> bool:
    """Whether its owner must be known by now. What the farm fills itself was written down before it was asked for, for a known job."""
    return volume.created_at < before or bool(volume.host and volume.job in owners.jobs)


def _is_filled_or_built_on(volume: FarmVolume, owners: Owners, frozen: frozenset[str]) -> bool:
    """Whether somebody still needs a volume that nothing is attached to. Those of nodes go with their nodes."""
    if volume.role == Role.STAGE:
        return _is_staging(volume.request, owners, frozen)
    if volume.role == Role.BUILD:
        return volume.request in owners.builds
    return volume.role not in {Role.RENDER, Role.POOL}


def _snapshots(stock: Stock, owners: Owners, before: datetime) -> Iterator[Stray]:
    for snapshot in stock.snapshots:
        if snapshot.started_at < before and (what := _unneeded(snapshot, stock, owners)):
            yield Stray(kind=Kind.SNAPSHOT, id=snapshot.id, what=what)


def _unneeded(snapshot: FarmSnapshot, stock: Stock, owners: Owners) -> str:
    """Returns: empty if somebody needs it"""
    if snapshot.content and snapshot.content not in owners.needed.contents:
        return f"a snapshot of the files of {snapshot.job}, which no job needs"
    if snapshot.content:
        best = best_snapshot([each for each in stock.snapshots if each.content == snapshot.content])
        is_twin = best is not None and best.state == "completed" and best.id != snapshot.id
        return f"a second snapshot of the files of {snapshot.job}" if is_twin else ""
    if not snapshot.image or stock.image_snapshots is None:
        return ""
    is_used = snapshot.id in stock.image_snapshots or snapshot.request in owners.builds
    return "" if is_used else "a snapshot of an image that is gone"


def _templates(stock: Stock, owners: Owners, now: datetime) -> Iterator[Stray]:
    renting = {one.job for one in stock.instances if not one.is_ending}
    for job, made_at in stock.templates.items():
        if job not in owners.jobs and now - made_at > GRACE:
            yield Stray(kind=Kind.TEMPLATE, id=job, what=f"launch template versions of the unknown job {job}")
        elif job in owners.jobs - renting and now - made_at > TEMPLATE_GRACE:
            yield Stray(kind=Kind.TEMPLATE, id=job, what=f"launch template versions of {job}, which has no instances")
