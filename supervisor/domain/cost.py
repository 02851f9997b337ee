"""What instances cost: by the second, from their launch to their end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

_S_PER_H = Decimal(3600)


def cost_usd(spans: Iterable[tuple[Decimal, datetime, datetime | None]], *, now: datetime) -> Decimal:
    """Add up instances of (dollars per hour, launched, ended or None), to a hundredth of a cent."""
    total = sum((price * Decimal(((ended or now) - launched).total_seconds()) / _S_PER_H for price, launched, ended in spans), Decimal(0))
    return total.quantize(Decimal("0.0001"))
