"""Look at the world once a tick: the cloud's instances, and the heartbeats that changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from nodeimage.protocol import NODES_PREFIX, Heartbeat, Unreadable, status_key
from supervisor.cloud.ports import RentedInstance
from supervisor.domain.instance import InstanceStatus
from supervisor.farm import Farm
from supervisor.store import instances

from .tick import Beat, Tick, Watch

log = structlog.get_logger(__name__)

_In = TypeVar("_In")
_Out = TypeVar("_Out")

#: Statuses in which no node writes.
_SILENT = frozenset({InstanceStatus.STOPPED, InstanceStatus.TERMINATED})
#: Small objects read at once: the store answers many as fast as one.
_READERS = 16


def observe(farm: Farm, watch: Watch) -> Tick:
    """See what is so. Errors: CloudError - the cloud can't be read: this tick decides nothing"""
    now = farm.now()
    rented = farm.cloud.compute.instances()
    beats = _changed_beats(farm, rented)
    return Tick(now=now, rented=rented, beats=beats, watching_since=watch.saw(now))


def read_all(read: Callable[[_In], _Out], things: Sequence[_In]) -> list[_Out]:
    """Read several small things at once, in their order. Errors: those of `read`"""
    if len(things) < 2:
        return [read(thing) for thing in things]
    with ThreadPoolExecutor(min(_READERS, len(things)), thread_name_prefix="read") as readers:
        return list(readers.map(read, things))


def _changed_beats(farm: Farm, rented: Iterable[RentedInstance]) -> dict[str, Beat]:
    with farm.db.read() as connection:
        known = {instance.node: instance for instance in instances.rented_instances(connection)}
    awake = {one.node for one in known.values() if one.status not in _SILENT}
    awake |= {shown.node for shown in rented if shown.status not in _SILENT}
    if not awake:  # on AWS each listing has its price
        return {}
    seen = {node: known[node].beat_etag if node in known else "" for node in awake}
    changed = [
        listed.key.removeprefix(NODES_PREFIX).partition("/")[0]
        for listed in farm.cloud.objects.list(NODES_PREFIX)
        if seen.get(listed.key.removeprefix(NODES_PREFIX).partition("/")[0], listed.etag) != listed.etag
    ]
    read = read_all(lambda node: _beat(farm, node), changed)
    return {node: beat for node, beat in zip(changed, read, strict=True) if beat}


def _beat(farm: Farm, node: str) -> Beat | None:
    stored = farm.cloud.objects.get(status_key(node))
    if stored is None:
        return None
    try:
        return Beat(etag=stored.etag, heartbeat=Heartbeat.from_bytes(stored.body))
    except Unreadable as error:
        log.warning("heartbeat not understood", node=node, error=str(error))
        return Beat(etag=stored.etag, heartbeat=None)
