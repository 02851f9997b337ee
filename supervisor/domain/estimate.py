"""What a job will take: from how fast the farm rendered the like of it before. Where nothing is known, that is what is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Generic, TypeVar

from .budget import WIND_DOWN_S
from .cost import LEAST_PAID
from .wording import about, dollars

#: Seconds from a launch to the node's first word, until the farm has measured its own.
BOOT_S = 60.0
#: Other jobs' frames say something of a picture up to so many times as large or as small.
_LIKE_SIZE = 4

_Number = TypeVar("_Number", float, Decimal)


class Basis(StrEnum):
    """What an estimate rests on."""

    JOB = "job"  #: frames of this job
    FILE = "file"  #: the same file and scene, rendered before
    NAME = "name"  #: another version of the file, by its name, and the scene
    SIMILAR = "similar"  #: other jobs with the same engine and pictures of about this size


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is rendered, as far as it tells how long a frame takes."""

    job: str
    file: str  #: checksum and size of the main .blend; empty: not known
    name: str  #: of the main .blend, folded
    scene: str
    engine: str
    pixels: int
    samples: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What came of a job on one kind of instance."""

    work: Work
    instance_type: str
    market: str
    instances: int
    frames: int  #: received
    render_s: float  #: of these, together
    paid_s: float  #: of the instances, boot and idle included
    boots: int  #: starts whose node spoke
    boot_s: float  #: of these, together
    usd: Decimal  #: of the instances
    at: datetime  #: of the newest

    @property
    def frame_s(self) -> float:
        return self.render_s / self.frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Range(Generic[_Number]):
    """From the least to the most that is to be expected."""

    low: _Number
    high: _Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A kind of instance that the job may get."""

    instance_type: str
    usd_per_h: Decimal | None  #: with its root volume; None: not known
    boot_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeEstimate:
    """What a job will take on one kind of instance."""

    offer: Offer
    frame_s: Range[float]
    wall_s: Range[float]
    usd: Range[Decimal] | None  #: None: its price is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a job will take."""

    frames: int
    instances: int  #: that render at once
    basis: Basis | None = None  #: None: nothing is known
    measured: int = 0  #: frames that it rests on
    is_scaled: bool = False  #: measured at another size or number of samples, and scaled by these
    types: tuple[TypeEstimate, ...] = ()

    @property
    def frame_s(self) -> Range[float] | None:
        return _hull([each.frame_s for each in self.types])

    @property
    def wall_s(self) -> Range[float] | None:
        return _hull([each.wall_s for each in self.types])

    @property
    def usd(self) -> Range[Decimal] | None:
        """Returns: None if no price is known, or no time."""
        return _hull([each.usd for each in self.types if each.usd is not None])


def estimate(work: Work, offers: Sequence[Offer], paces: Sequence[Pace], *, frames: int, instances: int) -> Estimate:
    """Estimate the rendering of some frames.

    Shape:   frames, instances: at least 1; where the job is order-dependent, instances is 1
    """
    at_once = min(instances, frames)
    found = _the_like(work, paces)
    if found is None:
        return Estimate(frames=frames, instances=at_once)
    basis, chosen = found
    return Estimate(
        frames=frames,
        instances=at_once,
        basis=basis,
        measured=sum(pace.frames for pace in chosen),
        is_scaled=any(_scale(work, pace.work) != 1 for pace in chosen),
        types=tuple(_on(offer, _frame_s(work, offer, chosen, basis), frames=frames, instances=at_once) for offer in offers),
    )


def _the_like(work: Work, paces: Sequence[Pace]) -> tuple[Basis, list[Pace]] | None:
    """The paces that say most about a work. Returns: None if none does"""
    likeness: tuple[tuple[Basis, Callable[[Work], bool]], ...] = (
        (Basis.JOB, lambda other: other.job == work.job),
        (Basis.FILE, lambda other: bool(work.file) and (other.file, other.scene) == (work.file, work.scene)),
        (Basis.NAME, lambda other: bool(work.name) and (other.name, other.scene) == (work.name, work.scene)),
        (Basis.SIMILAR, lambda other: other.engine == work.engine and 1 / _LIKE_SIZE <= _ratio(work.pixels, other.pixels) <= _LIKE_SIZE),
    )
    for basis, is_like in likeness:
        if chosen := [pace for pace in paces if pace.frames and is_like(pace.work)]:
            return basis, chosen
    return None


def _frame_s(work: Work, offer: Offer, chosen: Sequence[Pace], basis: Basis) -> Range[float]:
    """Seconds of a frame on one kind of instance; on any, where it was not tried."""
    mine = [pace for pace in chosen if pace.instance_type == offer.instance_type]
    if mine and basis is not Basis.SIMILAR:
        mean = sum(pace.render_s * _scale(work, pace.work) for pace in mine) / sum(pace.frames for pace in mine)
        return Range(low=mean, high=mean)
    means = [pace.frame_s * _scale(work, pace.work) for pace in mine or chosen]
    return Range(low=min(means), high=max(means))


def _scale(work: Work, other: Work) -> float:
    """How much longer a frame of the work takes than one of the other, by its pixels and samples."""
    return _ratio(work.pixels, other.pixels) * _ratio(work.samples, other.samples)


def _ratio(one: int | None, other: int | None) -> float:
    return one / other if one and other else 1.0


def _on(offer: Offer, frame_s: Range[float], *, frames: int, instances: int) -> TypeEstimate:
    rounds = -(-frames // instances)

    def wall(s: float) -> float:
        return offer.boot_s + rounds * s

    def usd(s: float, price: Decimal) -> Decimal:
        paid_s = max(instances * (offer.boot_s + WIND_DOWN_S) + frames * s, instances * LEAST_PAID.total_seconds())
        return price * Decimal(paid_s) / 3600

    price = offer.usd_per_h
    return TypeEstimate(
        offer=offer,
        frame_s=frame_s,
        wall_s=Range(low=wall(frame_s.low), high=wall(frame_s.high)),
        usd=None if price is None else Range(low=usd(frame_s.low, price), high=usd(frame_s.high, price)),
    )


def _hull(ranges: Sequence[Range[_Number]]) -> Range[_Number] | None:
    if not ranges:
        return None
    return Range(low=min(each.low for each in ranges), high=max(each.high for each in ranges))


def time_in_words(wall_s: Range[float]) -> str:
    """Such as “about 20 min” or “about 20 min to 2 h”."""
    low, high = about(wall_s.low), about(wall_s.high)
    return low if low == high else f"{low} to {high.removeprefix('about ')}"


def price_in_words(usd: Range[Decimal]) -> str:
    """Such as “about $4.20” or “$2.60 to $3.40”. Empty where it costs nothing."""
    if not usd.high:
        return ""
    low, high = dollars(usd.low), dollars(usd.high)
    return f"about {low}" if low == high else f"{low} to {high}"


def basis_in_words(found: Estimate) -> str:
    """What an estimate rests on, for people."""
    if found.basis is None:
        return "unknown until a frame is rendered"
    frames = "one frame" if found.measured == 1 else f"{found.measured} frames"
    said = {
        Basis.JOB: f"from {frames} of this job",
        Basis.FILE: f"from {frames} of this file, rendered before",
        Basis.NAME: f"from {frames} of an earlier version of this file",
        Basis.SIMILAR: f"roughly, from {frames} of other jobs with this engine",
    }[found.basis]
    return said + (", scaled by size and samples" if found.is_scaled else "")
