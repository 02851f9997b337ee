"""The scout frames of a job: which are wanted now, and whether they have ended. Read by the tick, by commands and by pages."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.domain.frame import FrameCounts
from supervisor.domain.scouting import wanted_now
from supervisor.store import frames
from supervisor.store.database import Connection
from supervisor.store.jobs import Job


def scouts_of(job: Job) -> tuple[int, ...]:
    """The frames that are rendered before a person is asked for the rest. Empty: there is nothing to ask, or a person said yes"""
    return wanted_now(job.scout_frames, ordered=job.ordered)


def wanted_counts(connection: Connection, job: Job) -> FrameCounts:
    """How the frames stand that are to be rendered now: all, or those that scout."""
    scouts = scouts_of(job)
    return frames.counts_among(connection, job.id, scouts) if scouts else frames.counts(connection, job.id)


def wanted_of(job: Job, left: Sequence[int]) -> list[int]:
    """Those of the frames left that are to be rendered now."""
    scouts = scouts_of(job)
    return [number for number in left if not scouts or number in scouts]


def has_scouted(connection: Connection, job: Job) -> bool:
    """Say whether a job's scout frames have ended, and the rest waits for a person's yes."""
    return bool(scouts_of(job)) and not wanted_counts(connection, job).unended
