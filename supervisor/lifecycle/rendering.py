"""Keep a job rendering: its order, its claims, its instances; and see when it is done."""

from __future__ import annotations

from nodeimage.protocol import Action
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.store import jobs
from supervisor.store.jobs import Job

from .claims import free_ended_claims
from .complete import conclude, end_if_hopeless
from .hands import look_at_hands
from .orders import keep_order
from .pool import refill
from .surplus import end_idle, end_surplus
from .tick import Tick, Watch


def step_rendering(farm: Farm, job: Job, tick: Tick, watch: Watch) -> float | None:
    """Let nodes render until every frame has ended."""
    hands = look_at_hands(farm, job, now=tick.now)
    if not hands.unended:
        return conclude(farm, job, tick)
    if end_if_hopeless(farm, job, tick):
        return None
    if not hands.at_work and not hands.due:
        with farm.db.write() as connection:
            left = "one frame is" if hands.unended == 1 else f"{hands.unended} frames are"
            others = "the pool is waited for" if farm.cloud.pool else "others are launched"
            because = f"no instance is at work any more and {left} left; {others}"
            jobs.move(connection, job, JobStatus.LAUNCHING, because=because, at=tick.now)
        return None
    if job.ordered:
        end_surplus(farm, hands, tick)
    end_idle(farm, job, hands, tick, watch)
    keep_order(farm, job, Action.RENDER)
    free_ended_claims(farm, job)
    refill(farm, job, hands, tick, watch)
    return None
