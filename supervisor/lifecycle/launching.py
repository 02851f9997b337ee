"""Get the first instance to run: the order is written before anything is asked for, so that a quick node finds it."""

from __future__ import annotations

from nodeimage.protocol import Action
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.store import jobs
from supervisor.store.jobs import Job

from .claims import free_ended_claims
from .complete import conclude
from .hands import look_at_hands
from .orders import keep_order
from .pool import refill
from .tick import Tick, Watch, soon_s


def step_launching(farm: Farm, job: Job, tick: Tick, watch: Watch) -> float | None:
    """Launch; go on to rendering when an instance runs."""
    hands = look_at_hands(farm, job, now=tick.now)
    if not hands.unended:
        return conclude(farm, job, tick)
    keep_order(farm, job, Action.RENDER)
    free_ended_claims(farm, job)
    running = sum(1 for one in hands.at_work if one.status is InstanceStatus.RUNNING)
    if running:
        with farm.db.write() as connection:
            count = f"{running} instance{'' if running == 1 else 's'}"
            jobs.move(connection, job, JobStatus.RENDERING, because=f"rendering on {count}", at=tick.now)
        return None
    refill(farm, job, hands, tick, watch)
    return soon_s(job, tick)
