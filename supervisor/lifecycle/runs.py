"""Keep what is paid for of each instance: its runs, from each start to its stop or end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from nodeimage.protocol import NodeState
from supervisor.cloud.ports import RentedInstance
from supervisor.domain.cost import Run
from supervisor.domain.instance import InstanceStatus
from supervisor.farm import Farm
from supervisor.store import instances, runs
from supervisor.store.database import Connection
from supervisor.store.instances import Instance

from .parts import settle_parts
from .tick import Tick

_PAID = frozenset({InstanceStatus.PENDING, InstanceStatus.RUNNING, InstanceStatus.STOPPING, InstanceStatus.TERMINATING})
_UNPAID = frozenset({InstanceStatus.STOPPED, InstanceStatus.TERMINATED})
#: A machine is off so long after its node said goodbye.
_POWER_OFF = timedelta(seconds=30)


def settle_runs(farm: Farm, tick: Tick) -> None:
    """Begin and end runs as the instances are, which `settle_nodes` wrote down just before. Repeat: safe

    Those of the shared pool are kept in parts, of which each is one job's (`parts`).
    """
    shown = {one.id: one for one in tick.rented}
    with farm.db.read() as connection:
        found = instances.find_instances(connection, shown.keys() | runs.open_instances(connection))
        known = {id: one for id, one in found.items() if one.job}
        newest = runs.newest_runs(connection, known)
    settle_parts(farm, [one for one in found.values() if not one.job], tick)
    changes = [(one, was, run) for one in known.values() for was, run in _changes(one, shown.get(one.id), newest.get(one.id), tick)]
    if changes:
        with farm.db.write() as connection:
            for one, was, run in changes:
                _write(connection, one, was, run)


def _write(connection: Connection, one: Instance, was: Run | None, run: Run) -> None:
    if was is None:
        runs.add_run(connection, one.job, run)
    else:
        runs.change_run(connection, run)


def _changes(one: Instance, shown: RentedInstance | None, newest: Run | None, tick: Tick) -> Iterator[tuple[Run | None, Run]]:
    """Pairs of a run as it was written (None: it begins) and as it is now."""
    run = newest
    if run is None and one.status in _PAID | _UNPAID:
        run = Run(instance=one.id, price_usd_per_h=one.price_usd_per_h, began_at=one.launched_at)
    elif run and run.ended_at and one.status in {InstanceStatus.PENDING, InstanceStatus.RUNNING}:
        # it was stopped, and started again; runs are known by their beginning
        began = max(shown.launched_at if shown else tick.now, run.ended_at, run.began_at + timedelta(microseconds=1))
        run, newest = Run(instance=one.id, price_usd_per_h=one.price_usd_per_h, began_at=began), None
    if run is None:
        return
    if not run.price_usd_per_h and one.price_usd_per_h:  # of an ended one too: a farm that was off may see it before it knows prices
        run = replace(run, price_usd_per_h=one.price_usd_per_h)
    if run.ended_at is None:
        run = _as_it_is(run, one, tick)
    if shown and shown.was_interrupted and not run.was_interrupted:
        run = replace(run, was_interrupted=True)
    if run != newest:
        yield newest, run


def _as_it_is(run: Run, one: Instance, tick: Tick) -> Run:
    """An open run, with the first word of its node, and its end."""
    if run.ready_at is None and one.beat_at and one.beat_at >= run.began_at:
        run = replace(run, ready_at=one.beat_at)
    return replace(run, ended_at=_end(run, one, tick)) if one.status in _UNPAID else run


def _end(run: Run, one: Instance, tick: Tick) -> datetime:
    """When a run ended that has: when it was seen, but where nobody looked (the farm was off), soon after its node's goodbye."""
    seen = (one.ended_at if one.status is InstanceStatus.TERMINATED else None) or tick.now
    beat = one.heartbeat
    if beat is None or beat.state is not NodeState.GONE:
        return max(seen, run.began_at)
    left = datetime.fromtimestamp(beat.at_ms / 1000, seen.tzinfo) + _POWER_OFF
    return max(min(seen, left), run.began_at) if left < tick.watching_since else max(seen, run.began_at)
