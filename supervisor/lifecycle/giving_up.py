"""Give up instances: those whose node is silent for longer than its lease, and those that the cloud was to take back and did not."""

from __future__ import annotations

from datetime import timedelta

import structlog

from supervisor.domain.instance import InstanceStatus
from supervisor.farm import Farm
from supervisor.store import events, instances, jobs
from supervisor.store.database import Connection
from supervisor.store.instances import Instance

from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: A node is given so long from its instance's start to its first heartbeat: the machine boots. From then on it says itself that it is at
#: it, while it fetches its workspace too, however long that takes.
_FIRST_BEAT = timedelta(seconds=300)

_THERE = frozenset({InstanceStatus.REQUESTED, InstanceStatus.PENDING, InstanceStatus.RUNNING})


def give_up_lost(farm: Farm, tick: Tick, watch: Watch) -> None:
    """End the instances that are given up, and ask again for the end of those that we asked to end and the cloud still shows.

    Repeat:  safe
    """
    with farm.db.read() as connection:
        rented = instances.rented_instances(connection)
    running = [instance for instance in rented if instance.status is InstanceStatus.RUNNING]
    watch.running_since = {instance.id: watch.running_since.get(instance.id, tick.now) for instance in running}
    lost = [(instance, why) for instance in running if (why := _why_lost(farm, instance, tick, watch))]
    if lost:
        with farm.db.write() as connection:
            for instance, why in lost:
                _give_up(connection, instance, why, tick)
    still_there = {shown.id for shown in tick.rented if shown.status in _THERE}
    ending = [instance.id for instance in rented if instance.status is InstanceStatus.TERMINATING and instance.id in still_there]
    chosen = [instance.id for instance, _ in lost] + ending
    if chosen:
        farm.cloud.compute.terminate(chosen)


def _why_lost(farm: Farm, instance: Instance, tick: Tick, watch: Watch) -> str:
    """Why an instance that runs is given up. Empty: it is not"""
    if instance.is_left_to_cloud(tick.now):
        return ""
    if instance.interruption_at:
        return "the cloud was to take it back, and did not"
    lease = timedelta(seconds=farm.config.node_times.lease_s)
    if _silence(instance, tick, watch) <= (lease if instance.beat_at else max(lease, _FIRST_BEAT)):
        return ""
    since = f"for {(tick.now - instance.beat_at).total_seconds():.0f} s" if instance.beat_at else "since its launch"
    return f"its node has been silent {since}"


def _silence(instance: Instance, tick: Tick, watch: Watch) -> timedelta:
    """How long we have watched a node in vain."""
    heard = [watch.running_since[instance.id], tick.watching_since] + ([instance.beat_at] if instance.beat_at else [])
    return tick.now - max(heard)


def _give_up(connection: Connection, instance: Instance, why: str, tick: Tick) -> None:
    note = f"given up: {why}"
    instances.end_instances(connection, [instance.id], note=note, given_back=False)
    if instance.at_job:
        jobs.touch(connection, instance.at_job)
        events.add_event(connection, instance.at_job, at=tick.now, text=f"instance {instance.id} is {note}")
    log.warning("node given up", job=instance.at_job, instance=instance.id, node=instance.node, why=why)
