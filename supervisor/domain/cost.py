"""What a job costs: instances by the second, what is kept by its size, and how both fall into calendar months."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Self

#: EC2 bills Linux instances and EBS volumes by the second, from each start, and at least so long.
#: Source: aws.amazon.com/ec2/pricing/on-demand, docs.aws.amazon.com/ebs (billing of volumes), 2026-01
LEAST_PAID = timedelta(seconds=60)
#: A spot instance that the cloud takes back within its first hour costs nothing.
#: Source: docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html, 2026-01
FREE_IF_TAKEN_BACK_WITHIN = timedelta(hours=1)

_S_PER_H = Decimal(3600)
#: A month of 30 days, as in the examples of aws.amazon.com/ebs/pricing (2026-01).
S_PER_MONTH = Decimal(30 * 86400)
_GIB = Decimal(1 << 30)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time: from `since`, up to and without `until`."""

    since: datetime
    until: datetime

    @property
    def s(self) -> Decimal:
        """Its seconds; 0 where it ends before it begins."""
        length = self.until - self.since
        return max(_ZERO, Decimal(length // timedelta(microseconds=1)) / 1_000_000)

    def within(self, other: Span | None) -> Span:
        """The part of it that lies in the other. None: all of it"""
        return self if other is None else Span(since=max(self.since, other.since), until=min(self.until, other.until))


def month_of(at: datetime) -> str:
    """Name the calendar month of a time, in UTC: `2026-01`."""
    return at.astimezone(UTC).strftime("%Y-%m")


def span_of(month: str) -> Span:
    """The time from a calendar month's first moment to the next one's."""
    year, number = map(int, month.split("-"))
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    return Span(since=datetime(year, number, 1, tzinfo=UTC), until=datetime(*following, 1, tzinfo=UTC))


def months_in(span: Span) -> Iterator[str]:
    """The calendar months that a stretch of time touches, ascending."""
    at = span.since
    while at < span.until:
        month = month_of(at)
        yield month
        at = span_of(month).until


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An instance from one start to its stop or end."""

    instance: str
    price_usd_per_h: Decimal  #: at its start
    began_at: datetime
    ready_at: datetime | None = None  #: first word of its node; None: none yet
    ended_at: datetime | None = None  #: None: it runs
    was_interrupted: bool = False  #: the cloud took it back
    is_part: bool = False  #: a part of its run, at one job or between jobs: what is so of whole runs (a least, a free hour) is not of it

    def paid(self, now: datetime) -> Span:
        """The time that is paid for."""
        until = self.ended_at or now
        if self.is_part:
            return Span(since=self.began_at, until=until)
        is_free = self.was_interrupted and until - self.began_at < FREE_IF_TAKEN_BACK_WITHIN
        return Span(since=self.began_at, until=self.began_at if is_free else max(until, self.began_at + LEAST_PAID))

    def booting(self, now: datetime) -> Span:
        """The time until its node spoke first, as far as it is paid for."""
        until = self.ready_at or self.ended_at or now
        return Span(since=self.began_at, until=until).within(self.paid(now))

    def usd(self, *, now: datetime, within: Span | None = None) -> Decimal:
        return _per_h(self.price_usd_per_h, self.paid(now).within(within))


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Something that is paid for by its size for as long as it is there."""

    id: str
    kind: str  #: volume | snapshot | instance: one that prepares a job, by what it costs in a month
    usd_per_month: Decimal
    began_at: datetime
    ended_at: datetime | None = None  #: None: it is there

    def usd(self, *, now: datetime, within: Span | None = None) -> Decimal:
        until = self.ended_at or now
        if self.kind != "snapshot":
            until = max(until, self.began_at + LEAST_PAID)
        return self.usd_per_month * Span(since=self.began_at, until=until).within(within).s / S_PER_MONTH


def stored_usd(stored_bytes: int, usd_per_gib_month: Decimal, span: Span) -> Decimal:
    """What objects in the bucket cost in that time."""
    return usd_per_gib_month * stored_bytes / _GIB * span.s / S_PER_MONTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Dollars by what they are spent on."""

    @property
    def total_usd(self) -> Decimal:
        """All of it, to a hundredth of a cent."""
        return sum((getattr(self, part.name) for part in fields(self)), _ZERO).quantize(Decimal("0.0001"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost(Parts):
    """What a job costs so far."""

    rendering_usd: Decimal = _ZERO  #: instances, while they rendered frames that were received
    booting_usd: Decimal = _ZERO  #: instances, until their node spoke first
    idle_usd: Decimal = _ZERO  #: instances, the rest: opening the file, waiting, attempts that came to nothing
    preparing_usd: Decimal = _ZERO  #: instances that filled its workspace
    volumes_usd: Decimal = _ZERO  #: root and workspace volumes
    snapshots_usd: Decimal = _ZERO
    storage_usd: Decimal = _ZERO  #: its files and frames in the bucket

    @property
    def instances_usd(self) -> Decimal:
        return self.rendering_usd + self.booting_usd + self.idle_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthCost(Parts):
    """What a job, or all jobs, cost in one calendar month."""

    instances_usd: Decimal = _ZERO
    preparing_usd: Decimal = _ZERO
    volumes_usd: Decimal = _ZERO
    snapshots_usd: Decimal = _ZERO
    storage_usd: Decimal = _ZERO

    def __add__(self, other: Self) -> MonthCost:
        return MonthCost(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)})


def cost_of(
    runs: Iterable[Run], held: Iterable[Held], *, rendered_s: Mapping[str, float], storage_usd: Decimal = _ZERO, now: datetime
) -> Cost:
    """Add up a job's cost.

    Shape:   rendered_s: instance -> seconds that it spent on frames that were received, and on the one that it renders now
    """
    by_instance: dict[str, list[Run]] = {}
    for run in runs:
        by_instance.setdefault(run.instance, []).append(run)
    splits = [_split(mine, rendered_s.get(instance, 0.0), now) for instance, mine in by_instance.items()]
    kept = list(held)
    return Cost(
        rendering_usd=sum((rendering for rendering, _, _ in splits), _ZERO),
        booting_usd=sum((booting for _, booting, _ in splits), _ZERO),
        idle_usd=sum((idle for _, _, idle in splits), _ZERO),
        **_held_parts(kept, now=now, within=None),
        storage_usd=storage_usd,
    )


def month_cost(runs: Iterable[Run], held: Iterable[Held], *, month: str, now: datetime) -> MonthCost:
    """What falls into a calendar month, without what is stored: that is counted as time goes by."""
    within = span_of(month)
    return MonthCost(
        instances_usd=sum((run.usd(now=now, within=within) for run in runs), _ZERO), **_held_parts(list(held), now=now, within=within)
    )


def _held_parts(held: list[Held], *, now: datetime, within: Span | None) -> dict[str, Decimal]:
    parts = {"volume": "volumes_usd", "snapshot": "snapshots_usd", "instance": "preparing_usd"}
    return {part: sum((one.usd(now=now, within=within) for one in held if one.kind == kind), _ZERO) for kind, part in parts.items()}


def _split(runs: list[Run], rendered_s: float, now: datetime) -> tuple[Decimal, Decimal, Decimal]:
    """What one instance cost while it rendered, booted, and did neither."""
    booting = sum((_per_h(run.price_usd_per_h, run.booting(now)) for run in runs), _ZERO)
    rest = sum((run.usd(now=now) for run in runs), _ZERO) - booting
    rest_s = sum((run.paid(now).s - run.booting(now).s for run in runs), _ZERO)
    share = min(Decimal(rendered_s) / rest_s, Decimal(1)) if rest_s > 0 else _ZERO
    return rest * share, booting, rest * (1 - share)


def _per_h(usd_per_h: Decimal, span: Span) -> Decimal:
    return usd_per_h * span.s / _S_PER_H
