"""What the farm pays for by its size, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from supervisor.cloud.aws.holdings import holdings_in
from supervisor.cloud.aws.inventory import FarmInstance, FarmSnapshot, FarmVolume
from supervisor.domain.instance import Market

AT = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
INSTANCE = FarmInstance(id="i-1", job="job_a", role="stage", request="s", state="running", launched_at=AT, instance_type="c7i.xlarge")
VOLUME = FarmVolume(
    id="vol-1",
    job="job_a",
    role="stage",
    request="s",
    state="in-use",
    gib=20,
    created_at=AT,
    is_blank=True,
    iops=3000,
    throughput_mib_s=250,
)
SNAPSHOT = FarmSnapshot(id="snap-1", job="job_a", content="c", state="completed", started_at=AT, gib=20)


class Rates:
    def instance_usd_per_h(self, instance_type: str, *, market: Market, zone: str = "") -> Decimal | None:
        return {"c7i.xlarge": Decimal("0.25")}.get(instance_type)

    def volume_usd_per_month(self, gib: int, *, iops: int, throughput_mib_s: int) -> Decimal:
        return gib * Decimal("0.08") + (throughput_mib_s - 125) * Decimal("0.04") + (iops - 3000) * Decimal("0.005")

    def snapshot_usd_per_gib_month(self) -> Decimal:
        return Decimal("0.05")


def test_volume_costs_its_size_and_its_speed() -> None:
    [held] = holdings_in([], [VOLUME], [], Rates())
    assert (held.id, held.job, held.kind, held.gib, held.usd_per_month, held.since) == (
        "vol-1",
        "job_a",
        "volume",
        Decimal(20),
        Decimal("6.60"),
        AT,
    )


def test_snapshot_costs_what_is_kept_and_the_whole_volume_where_that_is_not_known() -> None:
    kept = replace(SNAPSHOT, id="snap-2", stored_bytes=5 << 30)
    held = list(holdings_in([], [], [SNAPSHOT, kept], Rates()))
    assert [(one.gib, one.usd_per_month) for one in held] == [(Decimal(20), Decimal("1.00")), (Decimal(5), Decimal("0.25"))]
    assert {one.kind for one in held} == {"snapshot"}


def test_instances_that_no_job_shows_are_held_while_they_run() -> None:
    [held] = holdings_in([INSTANCE, replace(INSTANCE, role="render"), replace(INSTANCE, state="stopped")], [], [], Rates())
    assert (held.kind, held.gib, held.usd_per_month) == ("instance", Decimal(0), Decimal(180))
    [unpriced] = holdings_in([replace(INSTANCE, instance_type="x9.odd")], [], [], Rates())
    assert unpriced.usd_per_month == 0


def test_what_is_on_its_way_out_is_not_held() -> None:
    assert list(holdings_in([], [replace(VOLUME, state="deleting")], [replace(SNAPSHOT, state="error")], Rates())) == []
