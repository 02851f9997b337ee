"""Keep a job rendering: its order, its claims, its instances; and see when it is done."""

from __future__ import annotations

from nodeimage.protocol import Action
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.scouts import wanted_counts
from supervisor.store import instances, jobs
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .claims import free_ended_claims
from .complete import conclude, end_if_hopeless
from .launches import expected
from .orders import keep_order
from .pool import is_at_work, refill
from .tick import Tick, Watch


def step_rendering(farm: Farm, job: Job, tick: Tick, watch: Watch) -> float | None:
    """Let nodes render until every frame has ended."""
    with farm.db.read() as connection:
        counted = wanted_counts(connection, job)
        mine = instances.instances_of(connection, job.id)
        due = expected(instances.launches_of(connection, job.id), now=tick.now)
    if not counted.unended:
        return conclude(farm, job, tick)
    if end_if_hopeless(farm, job, tick):
        return None
    at_work = [one for one in mine if is_at_work(one)]
    if not at_work and not due:
        with farm.db.write() as connection:
            left = "one frame is" if counted.unended == 1 else f"{counted.unended} frames are"
            because = f"every instance is gone and {left} left; others are launched"
            jobs.move(connection, job, JobStatus.LAUNCHING, because=because, at=tick.now)
        return None
    if job.ordered:
        _end_surplus(farm, at_work)
    keep_order(farm, job, Action.RENDER)
    free_ended_claims(farm, job)
    state = farm.cloud.workspaces.state(job.id)
    if state and state.snapshot:
        refill(farm, job, tick, watch, snapshot=state.snapshot)
    return None


def _end_surplus(farm: Farm, at_work: list[Instance]) -> None:
    """Leave an ordered job the one instance that renders it."""
    surplus = [one.id for one in sorted(at_work, key=lambda one: (one.launched_at, one.node))[1:]]
    if not surplus:
        return
    with farm.db.write() as connection:
        instances.end_instances(connection, surplus, note="not needed: one instance renders the frames in order")
    farm.cloud.compute.terminate(surplus)
