"""Keep what is paid for of the shared pool's instances: each one's time, cut where its node changes jobs.

A job pays for the time that nodes were at it. What lies between (starting, waiting for a job) is the farm's own, and counts for the month.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from supervisor.domain.cost import Run
from supervisor.domain.instance import InstanceStatus
from supervisor.farm import Farm
from supervisor.store import runs
from supervisor.store.instances import Instance

from .tick import Tick

_SHORTEST = timedelta(microseconds=1)


def settle_parts(farm: Farm, pool: Sequence[Instance], tick: Tick) -> None:
    """Begin and end the parts of instances as they are. Repeat: safe"""
    if not pool:
        return
    with farm.db.read() as connection:
        newest = runs.newest_parts(connection, [one.id for one in pool])
    changes = [(one, *change) for one in pool for change in _changes(one, newest.get(one.id), tick)]
    if changes:
        with farm.db.write() as connection:
            for one, is_new, part in changes:
                runs.add_run(connection, one.works_for, part) if is_new else runs.change_run(connection, part)


def _changes(one: Instance, newest: tuple[str, Run] | None, tick: Tick) -> Iterator[tuple[bool, Run]]:
    """Parts that are not as they are written: (whether it begins, the part)."""
    is_gone = one.status is InstanceStatus.TERMINATED
    if newest is None:
        first = Run(instance=one.id, price_usd_per_h=one.price_usd_per_h, began_at=one.launched_at, is_part=True)
        yield True, replace(first, ended_at=max(one.ended_at or tick.now, first.began_at)) if is_gone else first
        return
    job, part = newest
    if part.ended_at is not None or (job == one.works_for and not is_gone):
        return
    # the cloud's clock may be ahead of ours: a part ends after its beginning, for the next one is known by its own
    ended_at = max((one.ended_at if is_gone else None) or tick.now, part.began_at + _SHORTEST)
    yield False, replace(part, ended_at=ended_at, ready_at=part.ready_at or (one.beat_at if not job else part.began_at))
    if not is_gone:
        yield (
            True,
            Run(instance=one.id, price_usd_per_h=one.price_usd_per_h, began_at=ended_at, ready_at=ended_at, is_part=True),
        )
