"""End instances that have nothing left to do for their job before it ends: they cost money, or hold a slot that another job waits for.

None is kept in case a frame that still renders fails: the node that failed it is free then, and tries it again itself. Only a frame that
is lost with its instance needs another one, which `pool` launches. To launch takes more frames waiting than hands free, to end takes no
frame waiting at all: neither follows from the other, so that instances do not come and go.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from supervisor.farm import Farm
from supervisor.store.jobs import Job

from .hands import Hands, give_back, is_free
from .tick import Tick, Watch

log = structlog.get_logger(__name__)

#: An instance is without work for so long before it is ended: a frame that fails at the same moment still finds it.
_A_MOMENT = timedelta(seconds=5)


def end_idle(farm: Farm, job: Job, hands: Hands, tick: Tick, watch: Watch) -> None:
    """End the instances at work that hold no frame, where none has waited for them for a moment."""
    free = [] if hands.waiting else [one for one in hands.at_work if one.job and is_free(one)]
    before = watch.idle_since.get(job.id, {})
    since = watch.idle_since[job.id] = {one.id: before.get(one.id, tick.now) for one in free}
    idle = [one for one in free if tick.now - since[one.id] >= _A_MOMENT]
    if idle:
        give_back(farm, idle, note="given back: no frame was left for it", now=tick.now)
        log.info("idle instances given back", job=job.id, instances=[one.id for one in idle])


def end_surplus(farm: Farm, hands: Hands, tick: Tick) -> None:
    """Leave an ordered job the one instance that renders it."""
    surplus = sorted(hands.at_work, key=lambda one: (one.launched_at, one.node))[1:]
    give_back(farm, surplus, note="not needed: one instance renders the frames in order", now=tick.now)
