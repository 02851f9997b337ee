"""The shared pool: what its nodes work on, in which order, and how many of them there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import takewhile

import structlog

from nodeimage.launch import PoolJob, PoolOrder
from nodeimage.protocol import POOL_KEY, NodeState
from supervisor.cloud.ports import Pool
from supervisor.domain import eta
from supervisor.domain.blender import numbers_of, series_name, series_of
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.pool import Waiting, instances_wanted, lives_for
from supervisor.farm import Farm
from supervisor.renting import most_of_pool
from supervisor.scouts import wanted_counts
from supervisor.store import files, frames, instances, jobs, runs
from supervisor.store.database import Connection
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .blenders import blender_for
from .hands import is_at_work
from .tick import PoolWatch, Tick, Watch

log = structlog.get_logger(__name__)

_S = InstanceStatus
_ALIVE = frozenset({_S.PENDING, _S.RUNNING})
#: How often the cloud is asked why there are fewer instances than are wanted.
_LOOK_FOR_PROBLEM_EVERY = timedelta(seconds=30)
#: Instances in a row that ended before they came to any job; from then on one is tried at a time.
_MOST_LOST = 5
_LOST_LATELY = timedelta(hours=1)
#: What is known of instances that ended is kept so long: the costs of jobs are split by it.
_KEPT = timedelta(days=62)
_FORGET_EVERY = timedelta(hours=1)


def tend_pool(farm: Farm, tick: Tick, watch: Watch) -> None:
    """Let the pool's order and size follow what waits. Does nothing where there is no shared pool.

    Repeat:  safe
    Errors:  CloudError - the next tick tries again
    """
    if farm.cloud.pool is None:
        return
    with farm.db.read() as connection:
        served = _served(connection)
        waiting = [_waiting(connection, job) for job in served]
        members = instances.pool_instances(connection, ended_after=tick.now - _LOST_LATELY)
        is_failing = _is_failing(connection, members, tick)
    _keep_order(farm, served, watch.pool)
    alive = _replace_doomed(farm.cloud.pool, members, tick)
    wanted = instances_wanted(waiting, least=farm.config.pool.min_instances, most=most_of_pool(farm))
    if is_failing:
        wanted = min(wanted, 1)
    alive = _release_idle(farm, farm.cloud.pool, alive, tick, watch.pool, wanted=wanted)
    size = max(wanted, len(alive))
    farm.cloud.pool.resize(size, until=tick.now + lives_for(waiting, instances=size))
    _look_for_problem(farm.cloud.pool, watch.pool, tick, lacks=len(alive) < wanted, is_failing=is_failing)
    _forget_old(farm, tick, watch.pool)


def _served(connection: Connection) -> list[Job]:
    """The jobs that nodes may work on, those to be taken first come first."""
    ready = jobs.jobs_in(connection, {JobStatus.LAUNCHING, JobStatus.RENDERING})
    return sorted((job for job in ready if job.order_revision), key=lambda job: -job.settings.priority)


def _waiting(connection: Connection, job: Job) -> Waiting:
    newest = frames.newest_render_times(connection, job.id, limit=eta.MEASURED_FRAMES)
    unended = wanted_counts(connection, job).unended
    return Waiting(frames=unended, frame_s=eta.seconds_per_frame(newest), is_ordered=job.ordered)


def _keep_order(farm: Farm, served: Sequence[Job], pool: PoolWatch) -> None:
    """Write the pool's order where it is another one."""
    order = PoolOrder(jobs=tuple(PoolJob(job=job.id, blender=_blender(farm, job)) for job in served)).to_bytes()
    if order != pool.order:
        farm.cloud.objects.put(POOL_KEY, order)
        pool.order = order
        log.info("pool order written", jobs=[job.id for job in served])


def _blender(farm: Farm, job: Job) -> str:
    """The series of Blender that a job is rendered with."""
    if numbers_of(job.blender_version):  # as of all but those that an older farm submitted; asked with every tick
        return series_name(series_of(job.blender_version))
    with farm.db.read() as connection:
        main = files.file_by_id(connection, job.main_file_id or "", job=job.id)
    assert main is not None, "a submitted job has a main file, and its files stay"
    assert main.inspection is not None, "no job is submitted whose main file was not read"
    major, minor, *_ = blender_for(farm, job, main.inspection)
    return series_name((major, minor))


def _replace_doomed(pool: Pool, members: Iterable[Instance], tick: Tick) -> list[Instance]:
    """Have others in the place of instances that the cloud takes back. Returns: those that are there and stay"""
    alive = [one for one in members if one.status in _ALIVE]
    doomed = [one.id for one in alive if one.is_left_to_cloud(tick.now)]
    if doomed:
        pool.let_go(doomed)
    return [one for one in alive if not one.is_taken_back]


def _release_idle(farm: Farm, pool: Pool, alive: list[Instance], tick: Tick, seen: PoolWatch, *, wanted: int) -> list[Instance]:
    """End instances that have had no job for long, of more than are wanted. Returns: those that stay"""
    idle = [one for one in alive if _is_idle(one)]
    seen.idle_since = {one.id: seen.idle_since.get(one.id, tick.now) for one in idle}
    patience = timedelta(seconds=farm.config.node.idle_s)
    long_idle = [one for one in idle if tick.now - seen.idle_since[one.id] >= patience]
    surplus = long_idle[: max(0, len(alive) - wanted)]
    if surplus:
        ids = [one.id for one in surplus]
        with farm.db.write() as connection:
            instances.end_instances(connection, ids, note="given back: no job had work for it", given_back=True)
        pool.release(ids)
        log.info("idle instances of the pool given back", instances=ids)
    return [one for one in alive if one not in surplus]


def _is_idle(instance: Instance) -> bool:
    beat = instance.heartbeat
    return is_at_work(instance) and beat is not None and beat.state is NodeState.IDLE and not instance.works_for


def _is_failing(connection: Connection, members: Sequence[Instance], tick: Tick) -> bool:
    """Say whether the pool's instances end before they come to a job, one after the other: then no crowd of them is paid for."""
    ended = sorted((one for one in members if one.ended_at), key=lambda one: one.ended_at or one.launched_at, reverse=True)
    lately = [one for one in ended if one.ended_at and tick.now - one.ended_at < _LOST_LATELY and not one.is_taken_back]
    lost = list(takewhile(lambda one: not one.given_back and not runs.has_had_job(connection, one.id), lately))
    return len(lost) >= _MOST_LOST


def _look_for_problem(pool: Pool, seen: PoolWatch, tick: Tick, *, lacks: bool, is_failing: bool) -> None:
    if not lacks:
        seen.problem, seen.problem_seen_at = "", None
        if is_failing:
            seen.problem = f"the pool's last {_MOST_LOST} instances ended before they came to a job; one is tried at a time"
        return
    if seen.problem_seen_at is None or tick.now - seen.problem_seen_at >= _LOOK_FOR_PROBLEM_EVERY:
        why = pool.problem()
        seen.problem = f"waiting for an instance of the shared pool{f': {why}' if why else ''}"
        seen.problem_seen_at = tick.now


def _forget_old(farm: Farm, tick: Tick, seen: PoolWatch) -> None:
    if seen.forgot_at is None or tick.now - seen.forgot_at >= _FORGET_EVERY:
        seen.forgot_at = tick.now
        with farm.db.write() as connection:
            instances.forget_pool_instances(connection, ended_before=tick.now - _KEPT)
