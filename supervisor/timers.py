"""Everything the farm does by itself, as jobs of one scheduler; the tick among them, which a wake-up call does not keep waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from .farm import Farm
from .lifecycle.books import Books
from .lifecycle.deleting import delete_leftovers
from .lifecycle.inbox import take_in_inbox
from .lifecycle.intake import check_pending, sweep_uploads
from .lifecycle.pack import Packer, retain_downloads
from .lifecycle.reconcile import Supervisor
from .lifecycle.sweep import delete_old_heartbeats, sweep

log = structlog.get_logger(__name__)

_HOUR_S = 3600.0
#: For what runs once, as long as the farm. The scheduler removes a job that has no next run, which breaks when it is shut down meanwhile.
_NEVER_AGAIN_S = 100 * 365 * 24 * _HOUR_S


class Upkeep(Protocol):
    """Something done at intervals, the first time at once. It may fail; the next run comes all the same."""

    @property
    def name(self) -> str: ...

    @property
    def every_s(self) -> float: ...

    @property
    def call(self) -> Callable[[], object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """An Upkeep of the farm's own."""

    name: str
    every_s: float
    call: Callable[[], object]


class Timers:
    """Whatever a farm does by itself. Only one process may have them."""

    def __init__(self, farm: Farm, *, upkeep: Sequence[Upkeep] = ()) -> None:
        """Shape:   upkeep: what only the composition root knows, such as a look at the object store's process"""
        self._farm = farm
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._supervisor = Supervisor(farm)
        self._packer = Packer(farm)
        self._books = Books(farm)
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(8)},
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
            timezone=UTC,
        )
        tick = Timer(name="tick", every_s=_NEVER_AGAIN_S, call=self._tick_on)
        for timer in [tick, *self._timers(), *upkeep]:
            self._scheduler.add_job(
                _guarded(timer), "interval", seconds=timer.every_s, id=timer.name, name=timer.name, next_run_time=datetime.now(UTC)
            )

    def _timers(self) -> list[Timer]:
        """Everything periodic but the tick."""
        farm, go_on = self._farm, self._goes_on
        return [
            Timer(name="sweep", every_s=60, call=self._sweep),
            Timer(name="old heartbeats", every_s=600, call=lambda: delete_old_heartbeats(farm)),
            Timer(name="deletions", every_s=5, call=lambda: delete_leftovers(farm, go_on=go_on)),
            Timer(name="file checks", every_s=1, call=lambda: check_pending(farm, go_on=go_on)),
            Timer(name="inbox", every_s=10, call=lambda: take_in_inbox(farm, go_on=go_on)),
            Timer(name="stale uploads", every_s=_HOUR_S, call=lambda: sweep_uploads(farm)),
            Timer(name="packing", every_s=0.25, call=self._packer.take_up),
            Timer(name="old downloads", every_s=600, call=lambda: retain_downloads(farm)),
            Timer(name="books", every_s=60, call=lambda: self._books.keep(go_on)),
            Timer(name="database", every_s=300, call=farm.db.checkpoint),
        ]

    def start(self) -> None:
        self._scheduler.start()

    def wake(self) -> None:
        """Have a tick at once, or right after the one that runs. Returns at once."""
        self._woken.set()

    def stop(self) -> None:
        """End the timers; return when the last one has left off. Instances go on: the next start takes them up."""
        self._stopped.set()
        self._woken.set()
        self._packer.close()
        self._scheduler.shutdown(wait=True)

    def _goes_on(self) -> bool:
        return not self._stopped.is_set()

    def _sweep(self) -> None:
        with self._supervisor.lock:
            sweep(self._farm)

    def _tick_on(self) -> None:
        """Tick until stopped: when the last tick wanted it, or at once when woken.

        One run as long as the farm, not one at each interval: the scheduler drops a run that falls into the one before, and a wake-up call
        must never be dropped.
        """
        while not self._stopped.is_set():
            self._woken.clear()
            wait_s = self._tick()
            self._woken.wait(wait_s)

    def _tick(self) -> float:
        try:
            return self._supervisor.tick()
        except Exception:
            log.exception("tick failed")
            return self._farm.config.tick_s


def _guarded(timer: Upkeep) -> Callable[[], None]:
    def run() -> None:
        try:
            timer.call()
        except Exception:
            log.exception("timer failed", timer=timer.name)

    return run
