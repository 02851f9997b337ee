"""The regions that show money and what decides on it: a job's cost, its cap, its scout frames, the month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from app.auth import may_change
from app.current import current_farm
from app.views.regions import WAITS, Region, region, trigger_of
from supervisor import queries
from supervisor.domain.errors import Rejected
from supervisor.domain.estimate import Estimate, basis_in_words, price_in_words, time_in_words
from supervisor.domain.job import ENDED, JobStatus
from supervisor.domain.wording import dollars
from supervisor.queries import JobDetail

#: What a job's cost is made of, as its page calls it.
_PARTS = {
    "rendering_usd": "Rendering",
    "booting_usd": "Booting",
    "idle_usd": "Waiting and lost attempts",
    "preparing_usd": "Preparing the files",
    "volumes_usd": "Volumes",
    "snapshots_usd": "Snapshot",
    "storage_usd": "Storage",
}


def rents() -> bool:
    """Say whether anything costs money on this farm: elsewhere no page speaks of it."""
    return current_farm().config.cloud.provider != "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateWords:
    """An estimate as pages show it."""

    time: str  #: empty: unknown
    unknown: str  #: what is unknown then, as a sentence begins
    price: str  #: empty: unknown, or it costs nothing
    basis: str
    is_over: bool  #: it is beyond the job's cap, in any case


def estimate_of(job: str, detail: JobDetail | None = None) -> EstimateWords | None:
    """What is left of a job would take. Returns: None if nobody can tell what would be rendered"""
    farm = current_farm()
    detail = detail or queries.job_detail(farm, job)
    try:
        found = queries.job_estimate(farm, job)
    except Rejected:
        return None  # what is wrong is said beside the field
    return _words(found, detail) if found else None


def _words(found: Estimate, detail: JobDetail) -> EstimateWords:
    usd, left = found.usd, None if detail.cap_usd is None else detail.cap_usd - detail.cost.total_usd
    return EstimateWords(
        time=time_in_words(found.wall_s) if found.wall_s else "",
        unknown="Time and price" if rents() else "The time",
        price=price_in_words(usd) if usd else "",
        basis=basis_in_words(found),
        is_over=usd is not None and left is not None and usd.low > left,
    )


def has_scouted(detail: JobDetail) -> bool:
    """Say whether the job waits for a person's yes to the rest."""
    return detail.summary.status is JobStatus.PAUSED and detail.scouting is not None and detail.scouting.has_ended


def cost_region(job: str, detail: JobDetail | None = None) -> Region:
    """What a job costs so far, by what it is spent on."""
    detail = detail or queries.job_detail(current_farm(), job)
    parts = [(words, usd) for name, words in _PARTS.items() if (usd := getattr(detail.cost, name)) >= Decimal("0.00005")]
    cap = detail.cap_usd
    return region(
        "jobs/_cost.html",
        shows=([(words, dollars(usd)) for words, usd in parts], dollars(detail.cost.total_usd), cap),
        job=detail.summary,
        total=detail.cost.total_usd,
        parts=parts,
        cap=cap,
        pct=min(int(100 * detail.cost.total_usd / cap), 100) if cap else 0,
        trigger=trigger_of(detail.summary.status),
    )


def cap_region(job: str, detail: JobDetail | None = None, *, typed: str | None = None, errors: Mapping[str, str] | None = None) -> Region:
    """The form of a job's cap. It is not replaced under a person's hands: only actions change it."""
    detail = detail or queries.job_detail(current_farm(), job)
    own = detail.settings.max_cost_usd
    allowed = may_change(detail.summary) and detail.summary.status not in ENDED
    return region(
        "jobs/_cap.html",
        shows=(own, detail.farm_cap_usd, allowed),
        job=detail.summary,
        value=typed if typed is not None else ("" if own is None else f"{own:f}"),
        farm_cap=detail.farm_cap_usd,
        may_change=allowed,
        errors=errors or {},
        trigger=WAITS,
    )


def scout_region(job: str, detail: JobDetail | None = None) -> Region:
    """The scout frames: how far they are; when they are there, what the rest would take."""
    detail = detail or queries.job_detail(current_farm(), job)
    waits, allowed = has_scouted(detail), may_change(detail.summary)
    estimate = estimate_of(job, detail) if waits else None
    return region(
        "jobs/_scout.html",
        shows=(
            detail.scouting,
            waits,
            estimate,
            detail.summary.frames.received,
            dollars(detail.cost.total_usd),
            allowed,
        ),
        job=detail.summary,
        detail=detail,
        scouting=detail.scouting,
        waits=waits,
        estimate=estimate,
        rents=rents(),
        may_change=allowed,
        trigger=trigger_of(detail.summary.status),
    )


def month_region() -> Region:
    """What this month costs, and whether its cap is near."""
    month = queries.month(current_farm())
    return region(
        "jobs/_month.html",
        shows=month and (month.month, dollars(month.cost.total_usd), month.cap_usd, month.is_near, month.is_reached),
        month=month,
        trigger="every 10s" if month else "",
    )
