"""Instances: what a cloud says it rented us."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum


class InstanceStatus(StrEnum):
    """Where an instance stands, by the cloud's word."""

    REQUESTED = "requested"  #: we are about to ask for it, or have asked and the cloud does not show it yet
    PENDING = "pending"  #: the cloud shows it; it does not run yet
    RUNNING = "running"  #: it runs
    STOPPING = "stopping"  #: it is being stopped and can be started again
    STOPPED = "stopped"  #: it can be started again
    TERMINATING = "terminating"  #: we asked for its end
    TERMINATED = "terminated"  #: it is gone; nothing is owed for it


class Market(StrEnum):
    """How an instance is paid for."""

    ON_DEMAND = "on_demand"  #: at the list price, until we end it
    SPOT = "spot"  #: at a market price, until the cloud takes it back


#: A notice is believed for so long after the time that it names; an instance that is still there then is ended like any other.
_BELIEVED_AFTER = timedelta(minutes=5)


def is_left_to_cloud(interruption_at: datetime | None, *, now: datetime) -> bool:
    """Say whether the cloud is about to take an instance back, so that we do not end it: interrupted in its first hour, it costs nothing.

    Source: docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html, 2026-01
    """
    return interruption_at is not None and now < interruption_at + _BELIEVED_AFTER


#: Statuses of an instance that runs or is about to, as far as anybody knows.
UP = frozenset({InstanceStatus.REQUESTED, InstanceStatus.PENDING, InstanceStatus.RUNNING})
#: Statuses in which an instance costs money or holds a slot.
RENTED = frozenset({s for s in InstanceStatus if s is not InstanceStatus.TERMINATED})
