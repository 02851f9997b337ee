"""What things cost: by the second, at least a minute, within calendar months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from supervisor.domain.cost import (
    Cost,
    Held,
    MonthCost,
    Run,
    Span,
    cost_of,
    month_cost,
    month_of,
    months_in,
    span_of,
    stored_usd,
)

BEGAN = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)
#: A tenth of a cent a second.
PRICE = Decimal("3.60")


def at(s: float) -> datetime:
    return BEGAN + timedelta(seconds=s)


def a_run(*, ended_s: float | None = None, ready_s: float | None = None, interrupted: bool = False, instance: str = "i-1") -> Run:
    return Run(
        instance=instance,
        price_usd_per_h=PRICE,
        began_at=BEGAN,
        ready_at=None if ready_s is None else at(ready_s),
        ended_at=None if ended_s is None else at(ended_s),
        was_interrupted=interrupted,
    )


@pytest.mark.parametrize(
    ("ended_s", "now_s", "usd"),
    [
        (None, 0, "0.060"),  # what was begun is paid for a minute
        (None, 59, "0.060"),
        (None, 61, "0.061"),
        (None, 3600, "3.600"),
        (30, 3600, "0.060"),
        (60.5, 3600, "0.0605"),
        (600, 99999, "0.600"),  # what ended costs no more
    ],
)
def test_an_instance_is_paid_by_the_second_and_for_a_minute_at_least(ended_s: float | None, now_s: float, usd: str) -> None:
    assert a_run(ended_s=ended_s).usd(now=at(now_s)) == Decimal(usd)


@pytest.mark.parametrize(("ended_s", "usd"), [(10, "0"), (3599, "0"), (3600, "3.6"), (4000, "4.0")])
def test_an_instance_taken_back_within_its_first_hour_is_free(ended_s: float, usd: str) -> None:
    assert a_run(ended_s=ended_s, interrupted=True).usd(now=at(9999)) == Decimal(usd)


def test_a_stopped_and_started_instance_is_paid_for_each_start() -> None:
    runs = [a_run(ended_s=10), Run(instance="i-1", price_usd_per_h=PRICE, began_at=at(1000), ended_at=at(1010))]
    assert cost_of(runs, [], rendered_s={}, now=at(5000)).instances_usd == Decimal("0.120")


@pytest.mark.parametrize(
    ("span", "months"),
    [
        (Span(since=at(0), until=at(10)), ["2026-01"]),
        (Span(since=at(0), until=at(3600)), ["2026-01"]),  # ends with the month
        (Span(since=at(0), until=at(3601)), ["2026-01", "2026-02"]),
        (Span(since=datetime(2025, 11, 5, tzinfo=UTC), until=at(0)), ["2025-11", "2025-12", "2026-01"]),
        (Span(since=at(0), until=at(0)), []),
    ],
)
def test_the_months_that_a_time_touches_are_named_once_each(span: Span, months: list[str]) -> None:
    assert list(months_in(span)) == months


def test_months_are_those_of_utc() -> None:
    assert month_of(datetime.fromisoformat("2026-02-01T00:30:00+02:00")) == "2026-01"
    assert span_of("2026-12").until == datetime(2027, 1, 1, tzinfo=UTC)


def test_a_run_over_the_end_of_a_month_costs_in_both_what_it_costs_in_all() -> None:
    run = a_run(ended_s=5400)
    first, second = (month_cost([run], [], month=month, now=at(9999)).instances_usd for month in ("2026-01", "2026-02"))
    assert (first, second) == (Decimal("3.6"), Decimal("1.8"))
    assert first + second == run.usd(now=at(9999))


@pytest.mark.parametrize(
    ("ready_s", "rendered_s", "booting", "rendering", "idle"),
    [
        (None, 0.0, "0.600", "0", "0"),  # its node never spoke
        (60, 0.0, "0.060", "0", "0.540"),
        (60, 300.0, "0.060", "0.300", "0.240"),
        (60, 540.0, "0.060", "0.540", "0"),
        (60, 9999.0, "0.060", "0.540", "0"),  # clocks differ: never more than there was
    ],
)
def test_an_instances_cost_is_split_by_what_it_did(
    ready_s: float | None, rendered_s: float, booting: str, rendering: str, idle: str
) -> None:
    cost = cost_of([a_run(ready_s=ready_s, ended_s=600)], [], rendered_s={"i-1": rendered_s}, now=at(9999))
    split = (cost.booting_usd, cost.rendering_usd, cost.idle_usd)
    assert tuple(usd.quantize(Decimal("0.000001")) for usd in split) == (Decimal(booting), Decimal(rendering), Decimal(idle))
    assert cost.total_usd == Decimal("0.6")


def test_an_instance_that_was_free_did_nothing_that_costs() -> None:
    assert cost_of([a_run(ready_s=60, ended_s=600, interrupted=True)], [], rendered_s={"i-1": 300.0}, now=at(9999)) == Cost()


@pytest.mark.parametrize(
    ("kind", "ended_s", "part", "usd"),
    [
        ("volume", 3600, "volumes_usd", "1"),
        ("volume", 10, "volumes_usd", "0.016667"),  # a minute of 60 in the hour
        ("snapshot", 3600, "snapshots_usd", "1"),
        ("snapshot", 36, "snapshots_usd", "0.01"),
        ("instance", 3600, "preparing_usd", "1"),
        ("volume", None, "volumes_usd", "2"),
    ],
)
def test_what_is_held_costs_by_its_time(kind: str, ended_s: float | None, part: str, usd: str) -> None:
    held = Held(id="vol-1", kind=kind, usd_per_month=Decimal(720), began_at=BEGAN, ended_at=None if ended_s is None else at(ended_s))
    cost = cost_of([], [held], rendered_s={}, now=at(7200))
    assert getattr(cost, part).quantize(Decimal("0.000001")) == Decimal(usd)
    assert cost.total_usd == Decimal(usd).quantize(Decimal("0.0001"))


def test_what_is_held_over_the_end_of_a_month_costs_in_each_its_share() -> None:
    held = Held(id="snap-1", kind="snapshot", usd_per_month=Decimal(720), began_at=BEGAN)
    assert month_cost([], [held], month="2026-02", now=at(3 * 3600)).snapshots_usd == Decimal(2)
    assert month_cost([], [held], month="2025-12", now=at(3 * 3600)) == MonthCost()


def test_what_is_stored_costs_by_gibibytes_and_time() -> None:
    day = Span(since=at(0), until=at(86400))
    assert stored_usd(30 << 30, Decimal("0.023"), day) == Decimal("0.023")


def test_month_costs_add_up_by_their_parts() -> None:
    one = MonthCost(instances_usd=Decimal(1), storage_usd=Decimal("0.5"))
    both = one + MonthCost(instances_usd=Decimal(2), volumes_usd=Decimal(4))
    assert both == MonthCost(instances_usd=Decimal(3), volumes_usd=Decimal(4), storage_usd=Decimal("0.5"))
    assert both.total_usd == Decimal("7.5")
