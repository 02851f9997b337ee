"""What jobs and months cost so far, and how that stands to their caps. Read by pages, by commands, and by the tick."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from supervisor.config import MoneyConfig
from supervisor.domain.budget import AtWork, OverBudget, ahead_usd, how_many_fit, launch_usd
from supervisor.domain.cost import Cost, MonthCost, cost_of, month_cost, month_of
from supervisor.domain.eta import MEASURED_FRAMES, seconds_per_frame
from supervisor.domain.instance import Market
from supervisor.domain.settings import JobSettings
from supervisor.domain.wording import dollars
from supervisor.farm import Farm
from supervisor.measuring import boot_s
from supervisor.renting import as_rented
from supervisor.scouts import wanted_counts
from supervisor.store import attempts, facts, frames, holdings, instances, ledger, runs
from supervisor.store.database import Connection
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job
from supervisor.store.ledger import Entry


def is_counted(farm: Farm) -> bool:
    """Say whether anything costs money here: this machine's own rendering does not."""
    return farm.config.cloud.provider != "local"


def job_cost(connection: Connection, job: str, *, now: datetime) -> Cost:
    """What a job costs so far, by the second; what is stored, by the minute."""
    stored = ledger.totals(connection, [job]).get(job, MonthCost()).storage_usd
    mine = runs.runs_of(connection, job)
    rendered = _rendered_s(connection, job, instances.find_instances(connection, {run.instance for run in mine}).values())
    return cost_of(mine, holdings.holdings_of(connection, job), rendered_s=rendered, storage_usd=stored, now=now)


def job_totals(connection: Connection, job_ids: Iterable[str], *, now: datetime) -> dict[str, Decimal]:
    """What several jobs cost so far, in a handful of reads: from the ledger; of those whose instances run, by the second."""
    ids = set(job_ids)
    found = ledger.totals(connection, ids)
    totals = {job: found[job].total_usd if job in found else Decimal(0) for job in ids}
    live = runs.jobs_running_since(connection, facts.last_books(connection)) & ids
    for job, mine in runs.runs_of_jobs(connection, live).items():
        stored = found[job].storage_usd if job in found else Decimal(0)
        held = holdings.holdings_of(connection, job)
        totals[job] = cost_of(mine, held, rendered_s={}, storage_usd=stored, now=now).total_usd
    return totals


def month_spent(connection: Connection, *, now: datetime) -> list[Entry]:
    """What each job costs in this calendar month so far, the dearest first."""
    month = month_of(now)
    entries = {entry.job: entry for entry in ledger.entries_of(connection, month)}
    live = runs.runs_of_jobs(connection, runs.jobs_running_since(connection, facts.last_books(connection)))
    for job, mine in live.items():
        entry = entries.get(job) or Entry(month=month, job=job, name="", cost=MonthCost())
        of_instances = month_cost(mine, (), month=month, now=now).instances_usd
        entries[job] = replace(entry, cost=replace(entry.cost, instances_usd=of_instances))
    return sorted(entries.values(), key=lambda entry: (-entry.cost.total_usd, entry.job))


def sum_of(entries: Iterable[Entry]) -> MonthCost:
    return sum((entry.cost for entry in entries), MonthCost())


def _rendered_s(connection: Connection, job: str, mine: Collection[Instance]) -> dict[str, float]:
    """Seconds of each instance that went into frames, the one under way included."""
    delivered = attempts.rendered_by_node(connection, job)
    now = {one.id: _elapsed_s(one) or 0.0 for one in mine if one.at_job == job}
    return {one.id: delivered.get(one.node, (0, 0.0))[1] + now.get(one.id, 0.0) for one in mine}


def _elapsed_s(instance: Instance) -> float | None:
    beat = instance.heartbeat
    return beat.elapsed_s if beat and instance.is_rented and beat.frame is not None else None


def farm_cap_usd(money: MoneyConfig) -> Decimal | None:
    """What a job may cost that has no cap of its own. None: there is no cap"""
    return _cap(money.max_usd_per_job)


def month_cap_usd(money: MoneyConfig) -> Decimal | None:
    return _cap(money.max_usd_per_month)


def cap_usd(settings: JobSettings, money: MoneyConfig) -> Decimal | None:
    """What a job may cost: its own cap, which was checked when it was given, else the farm's. None: there is no cap"""
    return settings.max_cost_usd or farm_cap_usd(money)


def _cap(amount: float) -> Decimal | None:
    return Decimal(str(amount)) if amount else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a job costs, and what is as good as spent."""

    spent_usd: Decimal
    ahead_usd: Decimal
    at_work: int  #: instances that are paid for
    launch_usd: Decimal | None  #: what one more instance must find left; None: its price is not known


def outlook(farm: Farm, connection: Connection, job: Job, *, now: datetime) -> Outlook:
    """See what a job costs and is about to."""
    mine = runs.runs_of(connection, job.id)
    open_runs = [run for run in mine if run.ended_at is None]
    of_root = farm.cloud.prices.root_volume_usd_per_h()
    elapsed = {one.id: _elapsed_s(one) for one in instances.instances_of(connection, job.id)}
    at_work = [
        AtWork(usd_per_h=run.price_usd_per_h + of_root, age_s=float(run.paid(now).s), elapsed_s=elapsed.get(run.instance))
        for run in open_runs
    ]
    frame_s = seconds_per_frame(frames.newest_render_times(connection, job.id, limit=MEASURED_FRAMES))
    stored = ledger.totals(connection, [job.id]).get(job.id, MonthCost()).storage_usd
    spent = cost_of(mine, holdings.holdings_of(connection, job.id), rendered_s={}, storage_usd=stored, now=now)
    price = dearest_usd_per_h(farm, job.settings)
    slowest = max((boot_s(connection, each) for each in types_of(farm, job.settings)), default=boot_s(connection, ""))
    return Outlook(
        spent_usd=spent.total_usd,
        ahead_usd=ahead_usd(at_work, frame_s=frame_s, queued=wanted_counts(connection, job).queued),
        at_work=len(at_work),
        launch_usd=None if price is None else launch_usd(price, boot_s=slowest, frame_s=frame_s),
    )


def types_of(farm: Farm, settings: JobSettings) -> tuple[str, ...]:
    """The kinds of instance that a job may get."""
    return as_rented(farm, settings).instance_types or tuple(farm.cloud.prices.instance_types())


def usd_per_h(farm: Farm, instance_type: str, settings: JobSettings) -> Decimal | None:
    """The most that an hour of it costs a job, with its root volume. Spot never costs more than on demand. Returns: None if nobody knows"""
    prices, settings = farm.cloud.prices, as_rented(farm, settings)
    price = prices.instance_usd_per_h(instance_type, market=settings.market)
    if price is None and settings.market is Market.SPOT:
        price = prices.instance_usd_per_h(instance_type, market=Market.ON_DEMAND)
    if settings.max_price_usd_per_h is not None:
        price = settings.max_price_usd_per_h if price is None else min(price, settings.max_price_usd_per_h)
    return None if price is None else price + prices.root_volume_usd_per_h()


def dearest_usd_per_h(farm: Farm, settings: JobSettings) -> Decimal | None:
    """The hour of the dearest instance that a job may get. Returns: None if one's price is not known, or there is none to choose"""
    found = [usd_per_h(farm, each, settings) for each in types_of(farm, settings)]
    known = [price for price in found if price is not None]
    return max(known) if known and len(known) == len(found) else None


def unpriced_text(farm: Farm, settings: JobSettings) -> str:
    """Say which of the kinds of instance that a job may get have no price, and what to do."""
    which = ", ".join(each for each in types_of(farm, settings) if usd_per_h(farm, each, settings) is None) or "its instances"
    return f"the farm does not know what {which} cost, and can't keep to its cap; name other instance types"


def check_budget(farm: Farm, connection: Connection, job: Job) -> None:
    """Check that a job can be begun or gone on with within the caps. Errors: OverBudget"""
    money = farm.config.money
    cap, of_month = cap_usd(job.settings, money), month_cap_usd(money)
    if not is_counted(farm) or (cap is None and of_month is None):
        return
    seen = outlook(farm, connection, job, now=farm.now())
    if seen.launch_usd is None:
        raise OverBudget(unpriced_text(farm, job.settings))
    first = f"an instance's first minutes (about {dollars(seen.launch_usd)}) would take it over"
    if of_month is not None:
        spent = sum_of(month_spent(connection, now=farm.now())).total_usd
        what = f"all jobs together cost {dollars(spent)} this month"
        todo = "an administrator can raise [money] max_usd_per_month; next month begins anew"
        _check(spent, seen.launch_usd, of_month, f"{what}; the farm's cap of {dollars(of_month)} a month", first, todo)
    if cap is not None:
        what = f"its cost is {dollars(seen.spent_usd)}"
        _check(seen.spent_usd, seen.launch_usd, cap, f"{what}; its cap of {dollars(cap)}", first, "raise its cap first")


def _check(spent: Decimal, first_usd: Decimal, cap: Decimal, what: str, first: str, todo: str) -> None:
    if spent >= cap:
        raise OverBudget(f"{what} is reached; {todo}")
    if spent + first_usd > cap:
        raise OverBudget(f"{what} is nearly reached, and {first}; {todo}")


def fewer_than_wished(farm: Farm, connection: Connection, job: Job, *, wished: int) -> tuple[int, int] | None:
    """Say whether a job's cap lets fewer instances render than would.

    Returns: (how many it lets, how many would); None where it does not matter, or the cap is not the reason
    """
    cap = cap_usd(job.settings, farm.config.money)
    if cap is None or not is_counted(farm):
        return None
    seen = outlook(farm, connection, job, now=farm.now())
    left = cap - seen.spent_usd - seen.ahead_usd
    fit = how_many_fit(left_usd=left, each_usd=seen.launch_usd or Decimal(0))
    if fit is None or seen.at_work + fit >= wished:
        return None
    return seen.at_work + fit, wished
