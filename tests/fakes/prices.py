"""Prices in memory."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from supervisor.domain.instance import Market


class FakePrices:
    """`Prices` in memory; every answer is an attribute."""

    def __init__(self) -> None:
        self.by_type: dict[tuple[str, Market], Decimal] = {}  #: what is not in it is not known, unless `default` is
        self.default: Decimal | None = Decimal(0)
        self.types: tuple[str, ...] = ("fake.large",)
        self.stored = Decimal(0)
        self.root_volume = Decimal(0)

    def instance_usd_per_h(self, instance_type: str, *, market: Market, zone: str = "") -> Decimal | None:
        return self.by_type.get((instance_type, market), self.default)

    def instance_types(self) -> Sequence[str]:
        return self.types

    def stored_usd_per_gib_month(self) -> Decimal:
        return self.stored

    def root_volume_usd_per_h(self) -> Decimal:
        return self.root_volume
