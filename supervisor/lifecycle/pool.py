"""Keep a job's instances at the number it asked for, while there is work for them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from supervisor.cloud.ports import NoCapacity, Refused
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.store import instances, jobs
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .asking import ask_again, ask_for, give_up
from .budget import within_budget
from .hands import Hands, give_back
from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: Launches in a row whose instances all ended without a finished frame; then the job fails instead of going on for ever.
MOST_LOST_LAUNCHES = 5


def refill(farm: Farm, job: Job, hands: Hands, tick: Tick, watch: Watch) -> None:
    """Launch instances that the job lacks; say what it waits for. Moves the job to RELEASING where nothing will come of it, and to STAGING
    where its workspace is gone before the first instance runs.

    Repeat:  safe: a launch is written down with its request id before it is asked for
    """
    if farm.cloud.pool:
        _wait_for_pool(farm, job, hands, tick, watch)
        return
    in_doubt = [launch for launch in hands.launches if launch.granted is None]
    lacking = within_budget(farm, job, tick, watch, _lacking(job, hands))
    here = len(hands.at_work)
    if not in_doubt and lacking <= 0:
        _say(farm, job, here)
    elif not in_doubt and job.launch_failures >= MOST_LOST_LAUNCHES:
        give_up(farm, job, _why_lost(hands.all), tick)
    elif job.launch_after and tick.now < job.launch_after:
        _say(farm, job, here, _why_later(hands))
    elif in_doubt:  # the server ended, or the cloud did not answer, between the asking and the answer
        for launch in in_doubt:
            ask_again(farm, job, launch, tick, watch)
    else:
        _launch(farm, job, lacking, hands, tick, watch)


def _wait_for_pool(farm: Farm, job: Job, hands: Hands, tick: Tick, watch: Watch) -> None:
    """Say what a job waits for whose instances are launched for all jobs (`shared`)."""
    if job.status is JobStatus.LAUNCHING and _snapshot_of(farm, job) is None:
        _stage_again(farm, job, tick)  # it was paused before its files were ready, or for so long that these are gone
        return
    waits = "" if hands.at_work else "waiting for an instance of the shared pool"
    _say(farm, job, len(hands.at_work), watch.pool.problem or waits)


def _lacking(job: Job, hands: Hands) -> int:
    """How many instances to ask for: as many as wished, but no more than there are frames left, nor frames that no hand is free for."""
    wished = 1 if job.ordered else min(job.settings.instances, hands.unended)
    return min(wished - len(hands.at_work) - hands.due, hands.waiting - hands.free)


def _launch(farm: Farm, job: Job, lacking: int, hands: Hands, tick: Tick, watch: Watch) -> None:
    stopped = [one for one in hands.all if one.status is InstanceStatus.STOPPED][:lacking]
    if stopped:
        _start(farm, stopped, tick)
        _say(farm, job, len(hands.at_work))
        return
    free = farm.cloud.compute.free_slots()
    is_anothers = watch.is_slot_promised
    watch.is_slot_promised |= free is not None and free < lacking
    if free == 0 or (free is not None and is_anothers):
        _say(farm, job, len(hands.at_work), _who_has_the_slots(farm, job))
        return
    snapshot = _snapshot_of(farm, job)
    if snapshot:
        ask_for(farm, job, lacking if free is None else min(lacking, free), tick, watch, workspace=snapshot)
    elif job.status is JobStatus.LAUNCHING:
        _stage_again(farm, job, tick)


def _snapshot_of(farm: Farm, job: Job) -> str | None:
    """What instances get the job's files from. Returns: None if there is nothing such (any more)"""
    state = farm.cloud.workspaces.state(job.id)
    return state.snapshot if state else None


def _stage_again(farm: Farm, job: Job, tick: Tick) -> None:
    with farm.db.write() as connection:
        because = "its workspace is gone; its files are made ready again"
        jobs.move(connection, job, JobStatus.STAGING, because=because, at=tick.now)


def _start(farm: Farm, stopped: Sequence[Instance], tick: Tick) -> None:
    """Start stopped instances again. Those that can't be (their zone is full) are ended, so that others are launched."""
    with farm.db.write() as connection:
        instances.begin_anew(connection, [one.id for one in stopped])
    try:
        farm.cloud.compute.start([one.id for one in stopped])
    except (NoCapacity, Refused) as error:
        log.warning("instances not started again", instances=[one.id for one in stopped], error=str(error))
        give_back(farm, stopped, note=f"could not be started again: {error}", now=tick.now)


def _why_later(hands: Hands) -> str:
    """Why the next launch waits."""
    last = hands.launches[-1] if hands.launches else None
    if last and last.problem and not last.granted:
        return f"waiting for an instance: {last.problem}; the farm asks again"
    return "the next launch waits a little, because the last one came to nothing"


def _why_lost(mine: Sequence[Instance]) -> str:
    last = max((one for one in mine if one.ended_at), key=lambda one: one.ended_at or one.launched_at, default=None)
    words = [last.note] if last and last.note else []
    if last and last.heartbeat and last.heartbeat.problem:
        words.append(last.heartbeat.problem)
    if last and last.heartbeat and last.heartbeat.log_tail:
        words.append(f"its log ends with “{last.heartbeat.log_tail[-1]}”")
    said = "; ".join(words) or "it gave no reason"
    return f"{MOST_LOST_LAUNCHES} launches in a row ended without a finished frame; of the last instance: {said}"


def _who_has_the_slots(farm: Farm, job: Job) -> str:
    """Say which jobs render on the instances that this one waits for."""
    with farm.db.read() as connection:
        busy = [one.job for one in instances.rented_instances(connection)]
        others = [id for id in busy if id != job.id]
        names = [f"“{found.name}”" for id in dict.fromkeys(others) if (found := jobs.find_job(connection, id))]
    if not names:
        return "waiting for a free slot"
    if len(others) < len(busy):
        who = "the others render"
    else:
        who = {1: "the only one renders", 2: "both render"}.get(len(busy), f"all {len(busy)} render")
    return f"waiting for a free slot: {who} {' and '.join(names[:3])}"


def _say(farm: Farm, job: Job, here: int, why: str = "") -> None:
    """Make the reason that the page shows tell how many instances are at work, and what the job waits for."""
    if job.status is JobStatus.RENDERING and here:
        text = f"rendering on {here} instance{'' if here == 1 else 's'}" + (f"; {why}" if why else "")
    else:
        text = why or f"waiting for {'the first' if job.status is JobStatus.LAUNCHING else 'an'} instance to run"
    with farm.db.read() as connection:
        current = jobs.find_job(connection, job.id)
    if current and current.reason != text:
        with farm.db.write() as connection:
            jobs.say_what_it_waits_for(connection, current, text)
