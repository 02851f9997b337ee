"""What the farm pays for by its size, or that no row of a job's instances counts: volumes, snapshots, staging and building instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Protocol

from nodeimage.launch import Role
from supervisor.cloud.ports import Holding
from supervisor.domain.instance import Market

from .inventory import FarmInstance, FarmSnapshot, FarmVolume

_GIB = 1 << 30
_HOURS_IN_MONTH = 720
#: Instances that `Compute` does not show.
_UNSHOWN = frozenset({Role.STAGE, Role.BUILD})


class Rates(Protocol):
    """What things cost."""

    def instance_usd_per_h(self, instance_type: str, *, market: Market, zone: str = "") -> Decimal | None: ...

    def volume_usd_per_month(self, gib: int, *, iops: int, throughput_mib_s: int) -> Decimal: ...

    def snapshot_usd_per_gib_month(self) -> Decimal: ...


def holdings_in(
    instances: Sequence[FarmInstance], volumes: Sequence[FarmVolume], snapshots: Sequence[FarmSnapshot], rates: Rates
) -> Iterator[Holding]:
    """Each thing that costs money now, with what it costs a month. What is on its way out is not among them."""
    for one in instances:
        if one.role in _UNSHOWN and one.state in {"pending", "running"}:
            usd_per_h = rates.instance_usd_per_h(one.instance_type, market=Market.ON_DEMAND) or Decimal(0)
            usd = usd_per_h * _HOURS_IN_MONTH
            yield Holding(id=one.id, job=one.job, kind="instance", gib=Decimal(0), usd_per_month=usd, since=one.launched_at)
    for volume in volumes:
        if not volume.is_ending:
            usd = rates.volume_usd_per_month(volume.gib, iops=volume.iops, throughput_mib_s=volume.throughput_mib_s)
            gib = Decimal(volume.gib)
            yield Holding(id=volume.id, job=volume.job, kind="volume", gib=gib, usd_per_month=usd, since=volume.created_at)
    for snapshot in snapshots:
        if snapshot.state in {"pending", "completed"}:
            # the whole volume is paid for at most: where EC2 does not say how much is kept of it, that much is assumed
            stored = Decimal(snapshot.gib) if snapshot.stored_bytes is None else Decimal(snapshot.stored_bytes) / _GIB
            usd = stored * rates.snapshot_usd_per_gib_month()
            yield Holding(id=snapshot.id, job=snapshot.job, kind="snapshot", gib=stored, usd_per_month=usd, since=snapshot.started_at)
