"""Caps: what a job and a month may cost, what is as good as spent already, and what follows from both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from .errors import Conflict, Rejected
from .wording import dollars

#: Code of the problem that warns of a job's cap.
NEAR_CAP = "cost_cap"
#: Who drains may pass the cap by so much; then what still runs is ended, its frames unfinished.
HARD_LIMIT = Decimal("1.1")
#: Seconds from the word that a node should end to its instance's end.
WIND_DOWN_S = 30.0
#: Seconds of a new instance that must fit in before it is launched, at least.
FIRST_S = 300.0

_S_PER_H = 3600
_MOST_USD = Decimal(1_000_000)


class OverBudget(Conflict):
    """A cap forbids it; the message says what is spent, what the cap is, and what to do."""


class Standing(StrEnum):
    """How spending stands to its cap."""

    FINE = "fine"
    NEAR = "near"  #: people are warned
    REACHED = "reached"  #: nothing more is begun: what runs finishes its frames
    PASSED = "passed"  #: what runs is ended at once


def standing(*, spent_usd: Decimal, ahead_usd: Decimal, cap_usd: Decimal | None, warn_pct: int) -> Standing:
    """Shape:   ahead_usd: what is as good as spent, one more frame on each instance included; cap_usd: None: there is none"""
    if cap_usd is None:
        return Standing.FINE
    if spent_usd >= cap_usd * HARD_LIMIT:
        return Standing.PASSED
    if spent_usd >= cap_usd or spent_usd + ahead_usd > cap_usd:
        return Standing.REACHED
    return Standing.NEAR if spent_usd >= cap_usd * warn_pct / 100 else Standing.FINE


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """An instance that is paid for."""

    usd_per_h: Decimal  #: with its root volume
    age_s: float  #: since its start
    elapsed_s: float | None  #: of the frame that it renders; None: it renders none


def ahead_usd(at_work: Sequence[AtWork], *, frame_s: float | None, queued: int) -> Decimal:
    """What is as good as spent: the frames being rendered, the way down, and one more frame on each instance that would get one; of a
    new instance, its first minutes, which it was launched for.

    The one more, because nodes take their next frame by themselves: when it is begun, it is too late to say that it does not fit.

    Shape:   frame_s: seconds of a frame; None: none is received yet, so nobody can tell
    """
    dearest_first = sorted(at_work, key=lambda one: one.usd_per_h, reverse=True)
    usd = Decimal(0)
    for place, one in enumerate(dearest_first):
        left_s = max((frame_s or 0.0) - one.elapsed_s, 0.0) if one.elapsed_s is not None else 0.0
        next_s = frame_s or 0.0 if place < queued else 0.0
        usd += _for(one.usd_per_h, max(left_s + WIND_DOWN_S + next_s, FIRST_S - one.age_s))
    return usd


def launch_usd(usd_per_h: Decimal, *, boot_s: float, frame_s: float | None) -> Decimal:
    """What must be left for one more instance: its boot and its first frame, its first minutes at least."""
    return _for(usd_per_h, max(FIRST_S, boot_s + (frame_s or 0.0) + WIND_DOWN_S))


def how_many_fit(*, left_usd: Decimal, each_usd: Decimal) -> int | None:
    """How many more instances there is money for. Returns: None where they cost nothing"""
    return None if each_usd <= 0 else max(int(left_usd // each_usd), 0)


def check_cap(wanted: Decimal | None, *, kept: Decimal | None, farm_usd: Decimal | None, by_admin: bool) -> None:
    """Check a cap that a person gives a job: up to the farm's own; beyond that, an administrator may.

    Shape:   None: the farm's own; kept: what the job has, which may stay
    Errors:  Rejected - field `max_cost_usd`
    """
    if wanted is None or wanted == kept:
        return
    if not (wanted.is_finite() and 0 < wanted <= _MOST_USD):
        raise Rejected(f"a cap lies above 0 and at most at {_MOST_USD:,} dollars", field="max_cost_usd")
    if farm_usd is not None and wanted > farm_usd and not by_admin:
        text = f"a job on this farm may cost {dollars(farm_usd)}; an administrator can give it a cap of {dollars(wanted)}"
        raise Rejected(text, field="max_cost_usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """How a calendar month stands, as it was seen last."""

    at: datetime
    spent_usd: Decimal
    ahead_usd: Decimal  #: of all active jobs
    allowed_usd: Decimal = Decimal(0)  #: what was allowed to be launched since


def _for(usd_per_h: Decimal, s: float) -> Decimal:
    return usd_per_h * Decimal(s) / _S_PER_H
