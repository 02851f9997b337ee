"""Get the first instance to run: the order is written before anything is asked for, so that a quick node finds it."""

from __future__ import annotations

from nodeimage.protocol import Action
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.scouts import wanted_counts
from supervisor.store import instances, jobs
from supervisor.store.jobs import Job

from .claims import free_ended_claims
from .complete import conclude
from .orders import keep_order
from .pool import is_at_work, refill
from .tick import Tick, Watch, soon_s


def step_launching(farm: Farm, job: Job, tick: Tick, watch: Watch) -> float | None:
    """Launch; go on to rendering when an instance runs."""
    state = farm.cloud.workspaces.state(job.id)
    if state is None or not state.snapshot:
        with farm.db.write() as connection:
            because = "its workspace is gone; the files are copied again"
            jobs.move(connection, job, JobStatus.STAGING, because=because, at=tick.now)
        return None
    with farm.db.read() as connection:
        counted = wanted_counts(connection, job)
        running = [one for one in instances.instances_of(connection, job.id) if _runs(one.status) and is_at_work(one)]
    if not counted.unended:
        return conclude(farm, job, tick)
    keep_order(farm, job, Action.RENDER)
    free_ended_claims(farm, job)
    if running:
        with farm.db.write() as connection:
            count = f"{len(running)} instance{'' if len(running) == 1 else 's'}"
            jobs.move(connection, job, JobStatus.RENDERING, because=f"rendering on {count}", at=tick.now)
        return None
    refill(farm, job, tick, watch, snapshot=state.snapshot)
    return soon_s(job, tick)


def _runs(status: InstanceStatus) -> bool:
    return status is InstanceStatus.RUNNING
