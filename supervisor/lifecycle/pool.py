"""Keep a job's instances at the number it asked for, while there is work for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from nodeimage.protocol import NodeState
from supervisor.cloud.ports import LaunchSpec, NoCapacity, Refused
from supervisor.domain.frame import FrameCounts
from supervisor.domain.ids import new_id
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.scouts import wanted_counts
from supervisor.store import events, files, instances, jobs
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .budget import within_budget
from .launches import expected
from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: Launches in a row whose instances all ended without a finished frame; then the job fails instead of going on for ever.
MOST_LOST_LAUNCHES = 5
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(seconds=120)
_PRESENT = frozenset({InstanceStatus.REQUESTED, InstanceStatus.PENDING, InstanceStatus.RUNNING})


def is_at_work(instance: Instance) -> bool:
    """Say whether an instance's node renders or is about to: it is not gone, not being ended, and has not said goodbye."""
    said_goodbye = instance.heartbeat is not None and instance.heartbeat.state is NodeState.GONE
    return instance.status in _PRESENT and not said_goodbye


def refill(farm: Farm, job: Job, tick: Tick, watch: Watch, *, snapshot: str) -> None:
    """Launch instances that the job lacks; say what it waits for. Moves the job to RELEASING where nothing will come of it.

    Repeat:  safe: a launch is written down with its request id before it is asked for
    """
    with farm.db.read() as connection:
        launches = instances.launches_of(connection, job.id)
        mine = instances.instances_of(connection, job.id)
        counted = wanted_counts(connection, job)
    here = sum(1 for one in mine if is_at_work(one))
    in_doubt = [launch for launch in launches if launch.granted is None]
    for launch in in_doubt:  # the server ended, or the cloud did not answer, between the asking and the answer
        _ask(farm, job, launch.request_id, launch.count, tick, watch, snapshot=snapshot)
    lacking = within_budget(farm, job, tick, watch, _lacking(job, counted, present=here + expected(launches, now=tick.now)))
    if in_doubt or lacking <= 0:
        _say(farm, job, here)
    elif job.launch_failures >= MOST_LOST_LAUNCHES:
        give_up(farm, job, _why_lost(mine), tick)
    elif job.launch_after and tick.now < job.launch_after:
        _say(farm, job, here, "the next launch waits a little, because the last one came to nothing")
    else:
        _launch(farm, job, lacking, tick, watch, snapshot=snapshot, here=here)


def give_up(farm: Farm, job: Job, why: str, tick: Tick) -> None:
    """Let a job end failed, by way of RELEASING."""
    with farm.db.write() as connection:
        jobs.move(connection, job, JobStatus.RELEASING, because=why, at=tick.now, then=JobStatus.FAILED, then_reason=why)


def _lacking(job: Job, counted: FrameCounts, *, present: int) -> int:
    """How many instances to ask for: as many as wished, but never more than frames that are left, nor than frames that none renders."""
    wished = 1 if job.ordered else min(job.settings.instances, counted.unended)
    return min(wished - present, counted.queued)


def _launch(farm: Farm, job: Job, lacking: int, tick: Tick, watch: Watch, *, snapshot: str, here: int) -> None:
    stopped = _stopped(farm, job)[:lacking]
    if stopped:
        farm.cloud.compute.start([one.id for one in stopped])
        _say(farm, job, here)
        return
    free = farm.cloud.compute.free_slots()
    if free == 0:
        _say(farm, job, here, _who_has_the_slots(farm, job))
        return
    request_id, count = new_id("launch"), lacking if free is None else min(lacking, free)
    with farm.db.write() as connection:
        instances.add_launch(connection, request_id, job=job.id, count=count, at=tick.now)
    _ask(farm, job, request_id, count, tick, watch, snapshot=snapshot)


def _stopped(farm: Farm, job: Job) -> list[Instance]:
    with farm.db.read() as connection:
        return [one for one in instances.instances_of(connection, job.id) if one.status is InstanceStatus.STOPPED]


def _ask(farm: Farm, job: Job, request_id: str, count: int, tick: Tick, watch: Watch, *, snapshot: str) -> None:
    """Ask the cloud, and write down what it granted."""
    try:
        granted = farm.cloud.compute.launch(_spec(farm, job, count, snapshot), request_id=request_id)
    except NoCapacity as error:
        _record(farm, job, request_id, 0, problem=str(error))
        _wait_for_capacity(farm, job, str(error), tick, watch)
        return
    except Refused as error:
        _record(farm, job, request_id, 0, problem=str(error))
        give_up(farm, job, f"no instance can be launched: {error}", tick)
        return
    watch.refusals.pop(job.id, None)
    _record(farm, job, request_id, granted)
    log.info("instances launched", job=job.id, request=request_id, asked=count, granted=granted)


def _record(farm: Farm, job: Job, request_id: str, granted: int, *, problem: str = "") -> None:
    with farm.db.write() as connection:
        instances.record_granted(connection, request_id, granted, problem=problem)
        if granted:
            text = "an instance was launched" if granted == 1 else f"{granted} instances were launched"
            events.add_event(connection, job.id, at=farm.now(), text=text)
        jobs.touch(connection, job.id)


def _wait_for_capacity(farm: Farm, job: Job, why: str, tick: Tick, watch: Watch) -> None:
    refused = watch.refusals[job.id] = watch.refusals.get(job.id, 0) + 1
    pause = min(_FIRST_PAUSE * 2 ** min(refused - 1, 10), _LONGEST_PAUSE)
    with farm.db.write() as connection:
        jobs.change_job(connection, job.id, launch_after=tick.now + pause)
        jobs.say_what_it_waits_for(connection, job, f"waiting for an instance: {why}; the farm asks again")


def _spec(farm: Farm, job: Job, count: int, snapshot: str) -> LaunchSpec:
    with farm.db.read() as connection:
        main = files.file_by_id(connection, job.main_file_id or "", job=job.id)
    assert main is not None, "a submitted job has a main file, and its files stay"
    assert main.inspection is not None, "no job is submitted whose main file was not read"
    return LaunchSpec(
        job=job.id,
        count=count,
        market=job.settings.market,
        max_price_usd_per_h=job.settings.max_price_usd_per_h,
        instance_types=job.settings.instance_types,
        workspace=snapshot,
        blender_version=main.inspection.version,
    )


def _why_lost(mine: Sequence[Instance]) -> str:
    last = max((one for one in mine if one.ended_at), key=lambda one: one.ended_at or one.launched_at, default=None)
    words = [last.note] if last and last.note else []
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
    if job.status is JobStatus.RENDERING:
        text = f"rendering on {here} instance{'' if here == 1 else 's'}" + (f"; {why}" if why and here else "")
    else:
        text = why or "waiting for the first instance to run"
    with farm.db.read() as connection:
        current = jobs.find_job(connection, job.id)
    if current and current.reason != text:
        with farm.db.write() as connection:
            jobs.say_what_it_waits_for(connection, current, text)
