"""Ask the cloud for instances: written down first, asked with the row's id, and what came of it written down; back off, and fall back."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from supervisor.cloud.ports import LaunchSpec, NoCapacity, Refused, Throttled, Unreachable
from supervisor.domain.ids import new_id
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.farm import Farm
from supervisor.store import events, files, instances, inventory, jobs
from supervisor.store.instances import Launch
from supervisor.store.jobs import Job

from .blenders import blender_for
from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: Pause after an asking that got nothing: doubled each time.
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(seconds=120)
#: After one that was not answered; its launch is in doubt until it is.
_FIRST_PAUSE_IN_DOUBT = timedelta(seconds=1)


def ask_for(farm: Farm, job: Job, count: int, tick: Tick, watch: Watch, *, workspace: str) -> None:
    """Ask for instances of the market that the job wishes; of the other one where that has been in vain for long.

    Repeat:  safe: one that is not answered stays in doubt, and is asked again
    """
    _ask(farm, job, _planned(farm, job, count, job.settings.market, tick, workspace=workspace), tick, watch)


def ask_again(farm: Farm, job: Job, launch: Launch, tick: Tick, watch: Watch) -> None:
    """Ask with the id of a launch in doubt, for the same as before. Repeat: safe"""
    state = farm.cloud.workspaces.state(job.id)
    if state is None or state.snapshot != launch.workspace:
        # what came of it, if anything, will be seen; asking for a workspace that is gone would be refused
        _record(farm, job, launch, launch.shown, problem="its workspace was gone before the cloud answered")
        return
    with farm.db.write() as connection:
        instances.note_asked_again(connection, launch.request_id, at=tick.now)
    _ask(farm, job, launch, tick, watch)


def give_up(farm: Farm, job: Job, why: str, tick: Tick) -> None:
    """Let a job end failed, by way of RELEASING."""
    with farm.db.write() as connection:
        jobs.move(connection, job, JobStatus.RELEASING, because=why, at=tick.now, then=JobStatus.FAILED, then_reason=why)


def _planned(farm: Farm, job: Job, count: int, market: Market, tick: Tick, *, workspace: str) -> Launch:
    with farm.db.write() as connection:
        return instances.add_launch(connection, new_id("launch"), job=job.id, count=count, market=market, workspace=workspace, at=tick.now)


def _ask(farm: Farm, job: Job, launch: Launch, tick: Tick, watch: Watch) -> None:
    """Ask the cloud, and write down what it granted."""
    try:
        granted = farm.cloud.compute.launch(_spec(farm, job, launch), request_id=launch.request_id)
    except NoCapacity as error:
        _miss(farm, job, launch, str(error), tick, watch)
    except (Throttled, Unreachable) as error:
        log.warning("launch not answered", job=job.id, request=launch.request_id, error=str(error))
        _wait(farm, job, str(error), tick, watch, first=_FIRST_PAUSE_IN_DOUBT)
    except Refused as error:
        _record(farm, job, launch, 0, problem=str(error))
        give_up(farm, job, f"no instance can be launched: {error}", tick)
    else:
        watch.refusals.pop(job.id, None)
        _record(farm, job, launch, granted)
        log.info("instances launched", job=job.id, request=launch.request_id, asked=launch.count, granted=granted)


def _record(farm: Farm, job: Job, launch: Launch, granted: int, *, problem: str = "") -> None:
    with farm.db.write() as connection:
        instances.record_granted(connection, launch.request_id, granted, problem=problem)
        if granted:
            events.add_event(connection, job.id, at=farm.now(), text=_launched(job, launch, granted, now=farm.now()))
        if granted and launch.market is Market.SPOT:
            jobs.change_job(connection, job.id, spot_missed_since=None)
        jobs.touch(connection, job.id)


def _launched(job: Job, launch: Launch, granted: int, *, now: datetime) -> str:
    falls_back = launch.market is not job.settings.market
    kind = "on-demand " if falls_back else ""
    text = f"{'an' if granted == 1 else granted} {kind}instance{'' if granted == 1 else 's'} {'was' if granted == 1 else 'were'} launched"
    if falls_back and job.spot_missed_since:
        text += f", because no spot instance could be had for {_minutes(now - job.spot_missed_since)}"
    return text


def _minutes(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    return f"{minutes} minutes" if minutes != 1 else "a minute"


def _miss(farm: Farm, job: Job, launch: Launch, why: str, tick: Tick, watch: Watch) -> None:
    """There is nothing to rent: wait, or ask for on-demand instances where spot ones have been asked for in vain for long enough.

    Spot is asked for first the next time too: the fall-back lasts for one launch.
    """
    since = job.spot_missed_since or tick.now
    falls_back_at = since + timedelta(minutes=farm.config.launch.fallback_minutes)
    may_fall_back = launch.market is Market.SPOT and falls_back_at > since
    is_due = may_fall_back and tick.now >= falls_back_at
    is_too_dear = is_due and _affordable_types(farm, job) is None
    if is_too_dear:
        bid = job.settings.max_price_usd_per_h
        why = f"{why}; on demand, each of its types costs more than its highest price of ${bid} an hour"
    _record(farm, job, launch, 0, problem=why)
    if launch.market is Market.SPOT:
        with farm.db.write() as connection:
            jobs.change_job(connection, job.id, spot_missed_since=since)
    if is_due and not is_too_dear:
        _ask(farm, job, _planned(farm, job, launch.count, Market.ON_DEMAND, tick, workspace=launch.workspace), tick, watch)
    else:
        _wait(farm, job, why, tick, watch, until=falls_back_at if may_fall_back and not is_due else None)


def _wait(
    farm: Farm, job: Job, why: str, tick: Tick, watch: Watch, *, first: timedelta = _FIRST_PAUSE, until: datetime | None = None
) -> None:
    """Let the next asking wait, longer each time; `until` at the latest."""
    refused = watch.refusals[job.id] = watch.refusals.get(job.id, 0) + 1
    next_at = tick.now + min(first * 2 ** min(refused - 1, 10), _LONGEST_PAUSE)
    with farm.db.write() as connection:
        jobs.change_job(connection, job.id, launch_after=min(next_at, until) if until else next_at)
        jobs.say_what_it_waits_for(connection, job, f"waiting for an instance: {why}; the farm asks again")


def _spec(farm: Farm, job: Job, launch: Launch) -> LaunchSpec:
    with farm.db.read() as connection:
        main = files.file_by_id(connection, job.main_file_id or "", job=job.id)
        workspace_bytes = inventory.inventory(connection, job.id).bytes
    assert main is not None, "a submitted job has a main file, and its files stay"
    assert main.inspection is not None, "no job is submitted whose main file was not read"
    falls_back = launch.market is not job.settings.market
    return LaunchSpec(
        job=job.id,
        count=launch.count,
        market=launch.market,
        max_price_usd_per_h=None if falls_back else job.settings.max_price_usd_per_h,
        instance_types=(_affordable_types(farm, job) if falls_back else None) or job.settings.instance_types,
        workspace=launch.workspace,
        workspace_bytes=workspace_bytes,
        blender_version=blender_for(farm, job, main.inspection),
    )


def _affordable_types(farm: Farm, job: Job) -> tuple[str, ...] | None:
    """The types that a spot job may get on demand: a highest price holds there too. Returns: None if there is none"""
    bid, prices = job.settings.max_price_usd_per_h, farm.cloud.prices
    if bid is None:
        return job.settings.instance_types
    wished = job.settings.instance_types or tuple(prices.instance_types())
    asked = {name: prices.instance_usd_per_h(name, market=Market.ON_DEMAND) for name in wished}
    return tuple(name for name, price in asked.items() if price is not None and price <= bid) or None
