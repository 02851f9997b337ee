"""Settle what instances and nodes are by the cloud's and their own word; give up those that are silent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from nodeimage.protocol import Heartbeat, NodeState
from supervisor.cloud.ports import RentedInstance
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.problem import Problem
from supervisor.farm import Farm
from supervisor.store import attempts, events, frames, instances, jobs
from supervisor.store.database import Connection
from supervisor.store.instances import Instance

from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: An instance that the cloud showed and shows no more is gone after so long: listings may be late.
_MISSING_IS_GONE = timedelta(seconds=60)
#: A node is given so long from its instance's start to its first heartbeat: the machine boots, the workspace comes.
_FIRST_BEAT = timedelta(seconds=300)
#: Pause after a launch whose instances all ended without a frame: doubled each time.
_LONGEST_BACK_OFF = timedelta(seconds=60)

_AT_WORK = frozenset({InstanceStatus.REQUESTED, InstanceStatus.PENDING, InstanceStatus.RUNNING})


def settle_nodes(farm: Farm, tick: Tick, watch: Watch) -> None:
    """Write down what was seen of instances and nodes, and end those that are given up."""
    with farm.db.read() as connection:
        known = {instance.id: instance for instance in instances.rented_instances(connection)}
        known |= instances.find_instances(connection, [shown.id for shown in tick.rented if shown.id not in known])
        known_jobs = jobs.job_ids(connection)
    changed = _as_shown(tick, known, known_jobs) + _gone_missing(tick, known, watch)
    if changed or tick.beats:
        with farm.db.write() as connection:
            for seen, instance in changed:
                _settle_instance(connection, seen, instance)
            _settle_losses(connection, changed, at=tick.now)
            _settle_beats(connection, tick)
    _give_up_silent(farm, tick, watch)


def _as_shown(tick: Tick, known: dict[str, Instance], known_jobs: frozenset[str]) -> list[tuple[Instance | None, Instance]]:
    """The instances that are not as we know them: (as known, as shown)."""
    pairs = []
    for shown in tick.rented:
        seen = known.get(shown.id)
        now_is = _instance(shown, seen, at=tick.now)
        if shown.job in known_jobs and now_is != seen:
            pairs.append((seen, now_is))
    return pairs


def _instance(shown: RentedInstance, seen: Instance | None, *, at: datetime) -> Instance:
    status = shown.status
    if seen and seen.status is InstanceStatus.TERMINATING and status in _AT_WORK:
        status = InstanceStatus.TERMINATING  # we asked for its end: the cloud is only late in saying so
    is_gone = status is InstanceStatus.TERMINATED
    was_gone = seen is not None and seen.status is InstanceStatus.TERMINATED
    return Instance(
        id=shown.id,
        job=shown.job,
        request_id=shown.request_id,
        node=shown.node,
        status=status,
        market=shown.market,
        instance_type=shown.instance_type,
        price_usd_per_h=shown.price_usd_per_h,
        launched_at=seen.launched_at if seen else shown.launched_at,
        ended_at=(seen.ended_at if seen and was_gone else at) if is_gone else None,
        note=(seen.note if seen else "") or shown.note,
        beat_etag=seen.beat_etag if seen else "",
        beat_at=seen.beat_at if seen else None,
        heartbeat=seen.heartbeat if seen else None,
        # its last moments count: what it claimed after it was given up is freed when it is gone for sure
        claims_freed=bool(seen and seen.claims_freed and (was_gone or not is_gone)),
    )


def _gone_missing(tick: Tick, known: dict[str, Instance], watch: Watch) -> list[tuple[Instance | None, Instance]]:
    """Rented instances that the cloud has not shown for long: they are gone."""
    shown = {instance.id for instance in tick.rented}
    missing = {id: instance for id, instance in known.items() if id not in shown and instance.is_rented}
    watch.missing_since = {id: watch.missing_since.get(id, tick.now) for id in missing}
    gone = [instance for id, instance in missing.items() if tick.now - watch.missing_since[id] > _MISSING_IS_GONE]
    note = "the cloud does not show it any more"
    ended = {"status": InstanceStatus.TERMINATED, "ended_at": tick.now, "claims_freed": False}
    return [(seen, replace(seen, **ended, note=seen.note or note)) for seen in gone]  # type: ignore[arg-type]


def _settle_instance(connection: Connection, seen: Instance | None, instance: Instance) -> None:
    instances.put_instance(connection, instance)
    jobs.touch(connection, instance.job)
    if seen is None or seen.status is not instance.status:
        log.info("instance changed", job=instance.job, instance=instance.id, to=str(instance.status), note=instance.note)


def _settle_losses(connection: Connection, changed: Iterable[tuple[Instance | None, Instance]], *, at: datetime) -> None:
    """Instances ended that were to render on: tell people, and let the next launch wait where nothing came of this one."""
    launches = {}
    for seen, instance in changed:
        job = jobs.find_job(connection, instance.job)
        is_lost = instance.status is InstanceStatus.TERMINATED and not _ended_in_good_order(seen)
        if not is_lost or job is None or job.status not in {JobStatus.LAUNCHING, JobStatus.RENDERING}:
            continue
        launches[instance.request_id] = instance
        if seen is None or seen.status in _AT_WORK:  # that others were given up was told when they were
            events.add_event(connection, job.id, at=at, text=_loss(instance))
    for instance in launches.values():
        _note_lost_launch(connection, instance, at=at)


def _ended_in_good_order(seen: Instance | None) -> bool:
    beat = seen.heartbeat if seen else None
    return beat is not None and beat.state is NodeState.GONE


def _loss(instance: Instance) -> str:
    return f"instance {instance.id} ended" + (f": {instance.note}" if instance.note else "")


def _note_lost_launch(connection: Connection, instance: Instance, *, at: datetime) -> None:
    """Count a launch whose instances have all ended without a finished frame, and pause before the next: longer each time."""
    mates = [mate for mate in instances.instances_of(connection, instance.job) if mate.request_id == instance.request_id]
    if any(mate.is_rented or attempts.finished_by(connection, instance.job, mate.node) for mate in mates):
        return
    job = jobs.find_job(connection, instance.job)
    assert job is not None, "it was read in this transaction"
    failures = job.launch_failures + 1
    pause = min(timedelta(seconds=2.0**failures), _LONGEST_BACK_OFF)
    jobs.change_job(connection, job.id, launch_failures=failures, launch_after=at + pause)
    text = f"{_loss(instance)}; none of its launch had finished a frame"
    remedy = "The farm launches others, more slowly each time. The instance's last words often say why."
    events.put_problem(connection, job.id, Problem(code="node_lost", severity="warning", text=text, remedy=remedy, since=at))


def _settle_beats(connection: Connection, tick: Tick) -> None:
    by_node = {instance.node: instance for instance in instances.rented_instances(connection)}
    by_node |= {instance.node: instance for instance in instances.with_nodes(connection, tick.beats.keys() - by_node.keys())}
    for node, beat in tick.beats.items():
        instance = by_node.get(node)
        if instance is None:
            continue
        instances.record_heartbeat(connection, instance.id, etag=beat.etag, heartbeat=beat.heartbeat, at=tick.now)
        if beat.heartbeat and instance.status in _AT_WORK:
            _begin_frames(connection, instance, beat.heartbeat, at=tick.now)
        jobs.touch(connection, instance.job)


def _begin_frames(connection: Connection, instance: Instance, beat: Heartbeat, *, at: datetime) -> None:
    at_hand = list(beat.uploading) + ([beat.frame] if beat.frame is not None and beat.state is NodeState.RENDERING else [])
    for number in at_hand:
        frames.begin(connection, instance.job, number, node=instance.node, at=at)
    job = jobs.find_job(connection, instance.job)
    assert job is not None, "an instance's row goes with its job's"
    if at_hand and job.began_at is None:
        jobs.change_job(connection, job.id, began_at=at)
    if beat.blender_version and beat.blender_version != job.blender_version:
        jobs.change_job(connection, job.id, blender_version=beat.blender_version)


def _give_up_silent(farm: Farm, tick: Tick, watch: Watch) -> None:
    """End the instances whose node has been silent for longer than its lease, and ask again for those that we asked to end."""
    with farm.db.read() as connection:
        rented = instances.rented_instances(connection)
    running = [instance for instance in rented if instance.status is InstanceStatus.RUNNING]
    watch.running_since = {instance.id: watch.running_since.get(instance.id, tick.now) for instance in running}
    lease = timedelta(seconds=farm.config.node.lease_s)
    silent = [instance for instance in running if _silence(instance, tick, watch) > _allowed(instance, watch, lease)]
    if silent:
        with farm.db.write() as connection:
            for instance in silent:
                _give_up(connection, instance, tick)
    still_there = {shown.id for shown in tick.rented if shown.status in _AT_WORK}
    ending = [instance.id for instance in rented if instance.status is InstanceStatus.TERMINATING and instance.id in still_there]
    _terminate(farm, [instance.id for instance in silent] + ending)


def _silence(instance: Instance, tick: Tick, watch: Watch) -> timedelta:
    """How long we have watched a node in vain."""
    heard = [watch.running_since[instance.id], tick.watching_since] + ([instance.beat_at] if instance.beat_at else [])
    return tick.now - max(heard)


def _allowed(instance: Instance, watch: Watch, lease: timedelta) -> timedelta:
    return lease if instance.beat_at else max(lease, _FIRST_BEAT)


def _give_up(connection: Connection, instance: Instance, tick: Tick) -> None:
    since = f"for {(tick.now - instance.beat_at).total_seconds():.0f} s" if instance.beat_at else "since its launch"
    note = f"given up: its node has been silent {since}"
    instances.end_instances(connection, [instance.id], note=note)
    jobs.touch(connection, instance.job)
    events.add_event(connection, instance.job, at=tick.now, text=f"instance {instance.id} is {note}")
    log.warning("node given up", job=instance.job, instance=instance.id, node=instance.node)


def _terminate(farm: Farm, ids: Iterable[str]) -> None:
    chosen = list(ids)
    if chosen:
        farm.cloud.compute.terminate(chosen)
