"""What rendering on this machine costs the farm: nothing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from supervisor.domain.instance import Market


class LocalPrices:
    """`Prices` of a machine that is there anyway."""

    def instance_usd_per_h(self, instance_type: str, *, market: Market, zone: str = "") -> Decimal | None:
        return Decimal(0)

    def instance_types(self) -> Sequence[str]:
        return ()

    def stored_usd_per_gib_month(self) -> Decimal:
        return Decimal(0)

    def root_volume_usd_per_h(self) -> Decimal:
        return Decimal(0)
