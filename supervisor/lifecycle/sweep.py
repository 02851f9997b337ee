"""Give back whatever bears the farm's mark and nobody owns: the guard behind the lifecycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from nodeimage.protocol import NODES_PREFIX
from supervisor.cloud.ports import RentedInstance
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import HOLDING, JobStatus
from supervisor.farm import Farm
from supervisor.store import files, instances, jobs

log = structlog.get_logger(__name__)

#: Status objects of nodes are kept so long after their last change: their last words may still be wanted.
_STATUS_KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Something that nobody owns."""

    id: str
    what: str


def sweep(farm: Farm) -> list[Swept]:
    """Give back what nobody owns. Returns: what was given back. Repeat: safe. The caller keeps ticks from running meanwhile"""
    swept = sweep_report(farm, dry_run=False)
    for thing in swept:
        log.warning("swept", id=thing.id, what=thing.what)
    return swept


def sweep_report(farm: Farm, *, dry_run: bool) -> list[Swept]:
    """Find what nobody owns; give it back unless `dry_run`."""
    # the cloud first: whatever it shows had its job's row before it was asked for
    rented = farm.cloud.compute.instances()
    workspaces = farm.cloud.workspaces.jobs()
    with farm.db.read() as connection:
        known, uploads = jobs.statuses(connection), files.open_uploads(connection)
        long_ended = jobs.ended_before(connection, farm.now() - timedelta(hours=farm.config.workspace.keep_hours))
    stray = _stray_instances([shown for shown in rented if shown.job or farm.cloud.pool is None], known)
    left = _left_workspaces(workspaces, known, long_ended)
    if dry_run:
        orphans: Mapping[str, str] = farm.cloud.premises.orphans(frozenset(known), uploads)
    else:
        if stray:
            farm.cloud.compute.terminate([thing.id for thing in stray])
        for thing in left:
            farm.cloud.workspaces.delete(thing.id)
        orphans = farm.cloud.premises.remove_orphans(frozenset(known), uploads)
    return [*stray, *left, *(Swept(id=id, what=what) for id, what in orphans.items())]


def _stray_instances(rented: Iterable[RentedInstance], known: Mapping[str, JobStatus]) -> list[Swept]:
    """Instances of jobs that are gone or have ended."""
    gone = {InstanceStatus.TERMINATED, InstanceStatus.TERMINATING}
    return [
        Swept(id=shown.id, what=f"an instance of {shown.job or 'a shared pool'}, which {_is(known.get(shown.job))}")
        for shown in rented
        if shown.status not in gone and known.get(shown.job) not in HOLDING
    ]


def _is(status: JobStatus | None) -> str:
    return f"is {status}" if status else "is gone"


def _left_workspaces(workspaces: Iterable[str], known: Mapping[str, JobStatus], long_ended: frozenset[str]) -> list[Swept]:
    """Workspaces of jobs that are gone, and of those that ended long ago: until then, a retry starts at once."""
    found = []
    for job in workspaces:
        if job not in known:
            found.append(Swept(id=job, what="the workspace of a job that is gone"))
        elif job in long_ended:
            found.append(Swept(id=job, what=f"the workspace of a job that has been {known[job]} for long"))
    return found


def delete_old_heartbeats(farm: Farm) -> None:
    """Delete the status objects that nodes left behind: every tick lists them while something is rented. Repeat: safe"""
    before = farm.now() - _STATUS_KEPT
    old = [listed.key for listed in farm.cloud.objects.list(NODES_PREFIX) if listed.modified_at < before]
    if not old:
        return
    with farm.db.read() as connection:
        rented = {instance.node for instance in instances.rented_instances(connection)}
    farm.cloud.objects.delete(_of_others(old, rented))


def _of_others(keys: Iterable[str], nodes: set[str]) -> list[str]:
    return [key for key in keys if key.removeprefix(NODES_PREFIX).partition("/")[0] not in nodes]
