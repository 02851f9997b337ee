"""Keep jobs within their caps and the month's: warn, pause, end what still runs, and launch no more than there is money for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import structlog

from supervisor.domain.budget import HARD_LIMIT, NEAR_CAP, Month, Standing, how_many_fit, standing
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import ACTIVE, JobStatus, can_pause
from supervisor.domain.problem import Problem
from supervisor.domain.wording import dollars
from supervisor.farm import Farm
from supervisor.spending import Outlook, cap_usd, is_counted, month_cap_usd, month_spent, outlook, sum_of, unpriced_text
from supervisor.store import events, instances, jobs
from supervisor.store.jobs import Job

from .hands import give_back
from .launches import expected
from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: How often a job's money is looked at: a tick may be ten times as frequent as it can matter.
_LOOK_EVERY = timedelta(seconds=2)
#: The month adds up every active job: looked at less often.
_LOOK_AT_MONTH_EVERY = timedelta(seconds=5)
_END_NOTE = "ended by the farm: its job's cost passed its cap before the frame was done"


def keep_within_budget(farm: Farm, job: Job, tick: Tick, watch: Watch) -> None:
    """Warn of a job that nears its cap; pause one that reaches it, or the month's; end what still runs of one that passed it.

    Repeat:  safe; looks every two seconds
    """
    looked_at = watch.money_seen_at.get(job.id)
    if not _is_capped(farm, job) or (looked_at and tick.now - looked_at < _LOOK_EVERY):
        return
    watch.money_seen_at[job.id] = tick.now
    with farm.db.read() as connection:
        seen = jobs.find_job(connection, job.id)
        found = outlook(farm, connection, seen, now=tick.now) if seen else None
    if seen is None or found is None:
        return
    watch.ahead_usd[job.id] = found.ahead_usd
    _keep(farm, seen, tick, found, _month(farm, tick, watch))


def _keep(farm: Farm, job: Job, tick: Tick, found: Outlook, month: Month | None) -> None:
    money = farm.config.money
    cap, of_month = cap_usd(job.settings, money), month_cap_usd(money)
    first = _first_usd(job, found)
    if of_month and month:
        stands = standing(spent_usd=month.spent_usd, ahead_usd=month.ahead_usd + first, cap_usd=of_month, warn_pct=money.warn_pct)
        because = f"all jobs together reached the farm's cap of {dollars(of_month)} a month"
        _hold(farm, job, tick, stands, because + _spent(month.spent_usd, of_month))
    if cap:
        stands = standing(spent_usd=found.spent_usd, ahead_usd=found.ahead_usd + first, cap_usd=cap, warn_pct=money.warn_pct)
        _warn(farm, job, tick, stands, cap, pct=money.warn_pct)
        _hold(farm, job, tick, stands, f"its cost reached its cap of {dollars(cap)}" + _spent(found.spent_usd, cap))
    if (cap or of_month) and found.launch_usd is None and not found.at_work and job.status is JobStatus.LAUNCHING:
        _pause(farm, job, tick, unpriced_text(farm, job.settings))


def _spent(spent: Decimal, cap: Decimal) -> str:
    return f" ({dollars(spent)} spent)" if spent >= cap else f": {dollars(spent)} is spent, and the next frames would pass it"


def _first_usd(job: Job, found: Outlook) -> Decimal:
    """What the first minutes cost of the instance that a job waits for: without money for these, nothing comes of it."""
    is_waiting = job.status is JobStatus.LAUNCHING and not found.at_work
    return (found.launch_usd or Decimal(0)) if is_waiting else Decimal(0)


def _warn(farm: Farm, job: Job, tick: Tick, stands: Standing, cap: Decimal, *, pct: int) -> None:
    """Keep the warning about the job's cap as it stands."""
    reached = stands in {Standing.REACHED, Standing.PASSED}
    if job.then is JobStatus.PAUSED and not reached:
        return  # it pauses for what it was told then: with no frame ahead, less is as good as spent
    if stands is Standing.FINE or job.then not in {None, JobStatus.PAUSED}:
        with farm.db.write() as connection:
            if events.clear_problem(connection, job.id, NEAR_CAP):
                jobs.touch(connection, job.id)
        return
    text = f"its cost reached its cap of {dollars(cap)}" if reached else f"more than {pct} % of its cap of {dollars(cap)} is spent"
    remedy = (
        "What was received stays. Raise the cap on this page and resume it, or leave it at that."
        if reached
        else "At the cap it pauses. Raise the cap on this page if it may cost more."
    )
    problem = Problem(code=NEAR_CAP, severity="warning", text=text, remedy=remedy, since=tick.now)
    with farm.db.write() as connection:
        if events.put_problem(connection, job.id, problem):
            jobs.touch(connection, job.id)


def _hold(farm: Farm, job: Job, tick: Tick, stands: Standing, because: str) -> None:
    """Pause a job whose cap is reached; end what still runs where it is passed."""
    if stands in {Standing.REACHED, Standing.PASSED}:
        _pause(farm, job, tick, because)
    if stands is Standing.PASSED:
        _end(farm, job, tick)


def _pause(farm: Farm, job: Job, tick: Tick, because: str) -> None:
    if not can_pause(job.status):
        return
    with farm.db.write() as connection:
        seen = jobs.find_job(connection, job.id)
        if seen and can_pause(seen.status):
            jobs.move(connection, seen, JobStatus.RELEASING, because=because, at=tick.now, then=JobStatus.PAUSED, then_reason=because)


def _end(farm: Farm, job: Job, tick: Tick) -> None:
    """End the instances that finish their frames for too long: what they cost is past the cap by more than a tenth."""
    with farm.db.read() as connection:
        seen = jobs.find_job(connection, job.id)
        live = {InstanceStatus.PENDING, InstanceStatus.RUNNING}
        late = [one for one in instances.instances_of(connection, job.id) if one.status in live]
    if late and seen and seen.status is JobStatus.RELEASING:
        log.warning("instances ended at the cap", job=job.id, instances=[one.id for one in late], hard_limit=str(HARD_LIMIT))
        give_back(farm, late, note=_END_NOTE, now=tick.now)


def _month(farm: Farm, tick: Tick, watch: Watch) -> Month | None:
    """How the month stands. Returns: None where it has no cap"""
    if month_cap_usd(farm.config.money) is None:
        return None
    if watch.month and tick.now - watch.month.at < _LOOK_AT_MONTH_EVERY:
        return watch.month
    with farm.db.read() as connection:
        spent = sum_of(month_spent(connection, now=tick.now)).total_usd
        active = jobs.jobs_in(connection, ACTIVE)
        for job in active:
            if job.id not in watch.ahead_usd:  # looked at every two seconds from now on
                watch.ahead_usd[job.id] = outlook(farm, connection, job, now=tick.now).ahead_usd
        ahead = sum((watch.ahead_usd[job.id] for job in active), Decimal(0))
    watch.month = Month(at=tick.now, spent_usd=spent, ahead_usd=ahead)
    return watch.month


def within_budget(farm: Farm, job: Job, tick: Tick, watch: Watch, lacking: int) -> int:
    """How many of the instances that a job lacks there is money for."""
    is_later = job.launch_after is not None and tick.now < job.launch_after
    if lacking <= 0 or is_later or not _is_capped(farm, job):
        return lacking
    cap, of_month = cap_usd(job.settings, farm.config.money), month_cap_usd(farm.config.money)
    with farm.db.read() as connection:
        found = outlook(farm, connection, job, now=tick.now)
        due = expected(instances.launches_of(connection, job.id), now=tick.now)
    if found.launch_usd is None:
        return 0  # what can't be counted can't be kept to; `keep_within_budget` says so
    month = _month(farm, tick, watch)
    left = [cap - found.spent_usd - found.ahead_usd - due * found.launch_usd] if cap else []
    left += [of_month - month.spent_usd - month.ahead_usd - month.allowed_usd] if of_month and month else []
    fit = how_many_fit(left_usd=min(left), each_usd=found.launch_usd)
    allowed = lacking if fit is None else min(lacking, fit)
    if month:
        watch.month = replace(month, allowed_usd=month.allowed_usd + allowed * found.launch_usd)
    return allowed


def _is_capped(farm: Farm, job: Job) -> bool:
    money = farm.config.money
    return is_counted(farm) and (cap_usd(job.settings, money) is not None or month_cap_usd(money) is not None)
