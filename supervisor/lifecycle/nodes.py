"""Settle what instances and nodes are, by the cloud's word and their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from nodeimage.protocol import Heartbeat, NodeState
from supervisor.cloud.ports import RentedInstance
from supervisor.domain.instance import UP, InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.problem import Problem
from supervisor.farm import Farm
from supervisor.store import attempts, events, frames, instances, jobs
from supervisor.store.database import Connection
from supervisor.store.instances import Heard, Instance

from .blenders import note_blender
from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: An instance that the cloud showed and shows no more is gone after so long: listings may be late.
_MISSING_IS_GONE = timedelta(seconds=60)
#: Pause after a launch whose instances all ended without a frame: doubled each time.
_LONGEST_BACK_OFF = timedelta(seconds=60)
#: Clouds give two minutes. A notice that says more is not believed: we would leave the instance alone for as long.
_LONGEST_NOTICE = timedelta(minutes=15)

#: What is said of instances of the shared pool in place of a job.
_POOL = ""


def settle_nodes(farm: Farm, tick: Tick, watch: Watch) -> None:
    """Write down what was seen of instances and nodes. Repeat: safe"""
    with farm.db.read() as connection:
        known = {instance.id: instance for instance in instances.rented_instances(connection)}
        known |= instances.find_instances(connection, [shown.id for shown in tick.rented if shown.id not in known])
        known_jobs = jobs.job_ids(connection)
    changed = _as_shown(tick, known, known_jobs if farm.cloud.pool is None else known_jobs | {_POOL}) + _gone_missing(tick, known, watch)
    if changed or tick.beats:
        with farm.db.write() as connection:
            for seen, instance in changed:
                _settle_instance(connection, seen, instance)
            _settle_losses(connection, changed, tick)
            _settle_beats(connection, tick, known_jobs)


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
    if seen and seen.status is InstanceStatus.TERMINATING and status in UP:
        status = InstanceStatus.TERMINATING  # we asked for its end: the cloud is only late in saying so
    is_gone = status is InstanceStatus.TERMINATED
    was_gone = seen is not None and seen.status is InstanceStatus.TERMINATED
    return Instance(
        id=shown.id,
        job=shown.job,
        works_for=seen.works_for if seen else "",
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
        interruption_at=seen.interruption_at if seen else None,
        was_interrupted=shown.was_interrupted or bool(seen and seen.was_interrupted),
        given_back=bool(seen and seen.given_back),
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
    jobs.touch(connection, instance.at_job)
    if seen is None or seen.status is not instance.status:
        log.info("instance changed", job=instance.at_job, instance=instance.id, to=str(instance.status), note=instance.note)


def _settle_losses(connection: Connection, changed: Iterable[tuple[Instance | None, Instance]], tick: Tick) -> None:
    """Instances ended that were to render on: tell people, and let the next launch wait where nothing came of this one.

    What the cloud took back says nothing of the launch: the next one does not wait.
    """
    launches = {}
    for seen, instance in changed:
        job = jobs.find_job(connection, instance.at_job)
        is_lost = instance.status is InstanceStatus.TERMINATED and not _ended_in_good_order(seen, tick)
        if not is_lost or job is None or job.status not in {JobStatus.LAUNCHING, JobStatus.RENDERING}:
            continue
        is_taken_back = _is_taken_back(instance, tick)
        if not is_taken_back and instance.job != _POOL:
            launches[instance.request_id] = instance
        if seen is None or seen.is_up:  # that others were given up was told when they were
            text = f"instance {instance.id} was taken back by the cloud" if is_taken_back else _loss(instance, tick)
            events.add_event(connection, job.id, at=tick.now, text=text)
    for instance in launches.values():
        _note_lost_launch(connection, instance, tick)


def _ended_in_good_order(seen: Instance | None, tick: Tick) -> bool:
    """Say whether its end was expected: we gave it back, or its node said goodbye, if only in this very tick."""
    if seen is None or _is_taken_back(seen, tick):
        return False
    beat = _last_beat(seen, tick)
    return seen.given_back or (beat is not None and beat.state is NodeState.GONE)


def _is_taken_back(instance: Instance, tick: Tick) -> bool:
    beat = _last_beat(instance, tick)
    return instance.is_taken_back or (beat is not None and beat.interruption_at_ms > 0)


def _last_beat(instance: Instance, tick: Tick) -> Heartbeat | None:
    changed = tick.beats.get(instance.node)
    return (changed.heartbeat if changed else None) or instance.heartbeat


def _loss(instance: Instance, tick: Tick) -> str:
    beat = _last_beat(instance, tick)
    said = f"; its node said: {beat.problem}" if beat and beat.problem else ""
    return f"instance {instance.id} ended" + (f": {instance.note}" if instance.note else "") + said


def _note_lost_launch(connection: Connection, instance: Instance, tick: Tick) -> None:
    """Count a launch whose instances have all ended without a finished frame, and pause before the next: longer each time."""
    mates = [mate for mate in instances.instances_of(connection, instance.job) if mate.request_id == instance.request_id]
    if any(mate.is_rented or attempts.finished_by(connection, instance.job, mate.node) for mate in mates):
        return
    job = jobs.find_job(connection, instance.job)
    assert job is not None, "it was read in this transaction"
    failures = job.launch_failures + 1
    pause = min(timedelta(seconds=2.0**failures), _LONGEST_BACK_OFF)
    jobs.change_job(connection, job.id, launch_failures=failures, launch_after=tick.now + pause)
    text = f"{_loss(instance, tick)}; none of its launch had finished a frame"
    remedy = "The farm launches others, more slowly each time. The instance's last words often say why."
    events.put_problem(connection, job.id, Problem(code="node_lost", severity="warning", text=text, remedy=remedy, since=tick.now))


def _settle_beats(connection: Connection, tick: Tick, known_jobs: frozenset[str]) -> None:
    by_node = {instance.node: instance for instance in instances.rented_instances(connection)}
    by_node |= {instance.node: instance for instance in instances.with_nodes(connection, tick.beats.keys() - by_node.keys())}
    heard = [(by_node[node], beat) for node, beat in tick.beats.items() if node in by_node]
    kept = [Heard(instance=instance.id, etag=beat.etag, heartbeat=beat.heartbeat) for instance, beat in heard]
    instances.record_heartbeats(connection, kept, at=tick.now)
    by_job: dict[str, list[tuple[Instance, Heartbeat | None]]] = {}
    for instance, beat in heard:
        if beat.heartbeat and beat.heartbeat.interruption_at_ms > 0 and instance.interruption_at is None:
            _note_interruption(connection, instance, beat.heartbeat, at=tick.now)
        is_at = _settle_work(connection, instance, beat.heartbeat, known_jobs) if beat.heartbeat and instance.job == _POOL else instance
        by_job.setdefault(is_at.at_job, []).append((is_at, beat.heartbeat))
    for job, mine in by_job.items():
        if job:
            _begin_frames(connection, job, [(one, beat) for one, beat in mine if beat and one.is_up], at=tick.now)
            jobs.touch(connection, job)


def _settle_work(connection: Connection, instance: Instance, beat: Heartbeat, known_jobs: frozenset[str]) -> Instance:
    """Note which job a node of the shared pool says that it is at. What it was at when it said goodbye stays: frames may be left there."""
    job = beat.job if beat.job in known_jobs else ""
    if job == instance.works_for or beat.state is NodeState.GONE:
        return instance
    instances.change_work(connection, instance.id, job=job)
    jobs.touch(connection, instance.works_for)
    log.info("pool node changed jobs", instance=instance.id, node=instance.node, origin=instance.works_for, to=job)
    return replace(instance, works_for=job)


def _note_interruption(connection: Connection, instance: Instance, beat: Heartbeat, *, at: datetime) -> None:
    """The cloud has given notice: the node takes no more frames, and `pool` asks for another instance at once."""
    latest_ms = int((at + _LONGEST_NOTICE).timestamp() * 1000)
    interruption_at = datetime.fromtimestamp(min(beat.interruption_at_ms, latest_ms) / 1000, UTC)
    instances.note_interruption(connection, instance.id, at=interruption_at)
    if instance.is_rented and instance.at_job:
        text = f"the cloud is about to take instance {instance.id} back; it takes no more frames"
        events.add_event(connection, instance.at_job, at=at, text=text)
    log.info("interruption announced", job=instance.at_job, instance=instance.id, at_ms=beat.interruption_at_ms)


def _begin_frames(connection: Connection, job_id: str, said: Sequence[tuple[Instance, Heartbeat]], *, at: datetime) -> None:
    at_hand = {number: instance.node for instance, beat in said for number in _at_hand(beat)}
    if at_hand:
        frames.begin(connection, job_id, at_hand, at=at)
    job = jobs.find_job(connection, job_id)
    assert job is not None, "an instance's row goes with its job's, and a node of the pool is at known jobs alone"
    if at_hand and job.began_at is None:
        jobs.change_job(connection, job.id, began_at=at)
    for version in {beat.blender_version for _, beat in said}:
        note_blender(connection, job, version)


def _at_hand(beat: Heartbeat) -> list[int]:
    """The frames that a node renders or delivers."""
    return list(beat.uploading) + ([beat.frame] if beat.frame is not None and beat.state is NodeState.RENDERING else [])
