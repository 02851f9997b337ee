"""Money and estimates in the words that pages, reasons and the command line share."""

from __future__ import annotations

from decimal import Decimal

_CENT = Decimal("0.01")


def dollars(amount: Decimal) -> str:
    """Write money: to the cent; below ten cents, where cents say too little, to a hundredth of one."""
    exact = amount.quantize(Decimal("0.0001"))
    if exact < Decimal("0.1") and exact.quantize(_CENT) != exact:
        return f"${exact}"
    return f"${amount.quantize(_CENT):,}"


def about(seconds: float) -> str:
    """Write an estimate of time no more exactly than it is known."""
    if seconds < 45:
        return "less than a minute"
    if seconds < 5400:
        return f"about {max(1, round(seconds / 60))} min"
    if seconds < 36 * 3600:
        return f"about {round(seconds / 1800) / 2:g} h"
    return f"about {round(seconds / 86400)} days"
