"""The shared pool: how many instances it should have for what waits. Rules alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

#: What waits is to be rendered within this time, as far as the pool may grow.
TARGET = timedelta(minutes=10)
#: What a frame of a job is taken for none of whose frames has been received yet.
UNKNOWN_FRAME = timedelta(seconds=60)
#: The pool lives on for so long after its work would be done, if the farm says nothing more.
_GRACE = timedelta(hours=1)
_LONGEST_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits of one job."""

    frames: int  #: that have not ended
    frame_s: float | None  #: seconds of one; None: not known yet
    is_ordered: bool  #: one instance renders them all

    @property
    def seconds(self) -> float:
        return self.frames * (UNKNOWN_FRAME.total_seconds() if self.frame_s is None else self.frame_s)


def instances_wanted(waiting: Iterable[Waiting], *, least: int, most: int) -> int:
    """How many instances render what waits in TARGET: never more than there are frames to be rendered at once."""
    queues = [one for one in waiting if one.frames]
    ordered = sum(1 for one in queues if one.is_ordered)
    others = [one for one in queues if not one.is_ordered]
    by_time = ceil(sum(one.seconds for one in others) / TARGET.total_seconds())
    return max(least, min(most, ordered + min(by_time, sum(one.frames for one in others))))


def lives_for(waiting: Sequence[Waiting], *, instances: int) -> timedelta:
    """How long the pool lives on without a word from the farm: nodes go on while the farm is off, but not for ever."""
    alone = max((one.seconds for one in waiting if one.is_ordered), default=0.0)
    shared = sum(one.seconds for one in waiting if not one.is_ordered) / max(1, instances)
    return min(timedelta(seconds=1.5 * max(alone, shared)) + _GRACE, _LONGEST_LIFE)
