"""Everything the farm does by itself, as jobs of one scheduler; among them ticks and packing, which a wake-up call starts at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from .cloud.ports import CloudError
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
_PACK_AGAIN_S = 10.0


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
    """Something done at intervals: what the farm does by itself, and what only the composition root knows of."""

    name: str
    every_s: float
    call: Callable[[], object]


class _Loop:
    """Something done over and over: when its last run wanted it, or at once when woken.

    One run of a timer as long as the farm, not one at each interval: the scheduler drops a run that falls into the one before, and a
    wake-up call must never be dropped.
    """

    def __init__(self, name: str, call: Callable[[], float], *, after_failure_s: float) -> None:
        """Shape:   call: returns in how many seconds it wants its next run"""
        self.name = name
        self._call = call
        self._after_failure_s = after_failure_s
        self._woken = threading.Event()
        self._stopped = threading.Event()

    def run(self) -> None:
        while True:
            self._woken.clear()
            if self._stopped.is_set():  # looked at after clear(), as stop() sets it before it wakes
                return
            wait_s = self.run_once()
            self._woken.wait(wait_s)

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Have `run` return when what it does now is done."""
        self._stopped.set()
        self._woken.set()

    def run_once(self) -> float:
        """Returns: in how many seconds the next run is wanted"""
        try:
            return self._call()
        except Exception:
            log.exception("timer failed", timer=self.name)
            return self._after_failure_s


class Timers:
    """Whatever a farm does by itself. Only one process may have them."""

    def __init__(self, farm: Farm, *, upkeep: Sequence[Upkeep] = ()) -> None:
        """Shape:   upkeep: what only the composition root knows, such as a look at the object store's process"""
        self._farm = farm
        self._stopped = threading.Event()
        self._supervisor = Supervisor(farm)
        self._packer = Packer(farm)
        self._loops = [
            _Loop("tick", self._supervisor.tick, after_failure_s=farm.config.tick_s),
            _Loop("packing", self._packer.pack_waiting, after_failure_s=_PACK_AGAIN_S),
        ]
        self._books = Books(farm)
        self._periodic = (*self._timers(), *upkeep)
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(9)},
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
            timezone=UTC,
        )
        loops = [Timer(name=loop.name, every_s=_NEVER_AGAIN_S, call=loop.run) for loop in self._loops]
        for timer in (*loops, *self._periodic):
            self._scheduler.add_job(
                _guarded(timer), "interval", seconds=timer.every_s, id=timer.name, name=timer.name, next_run_time=datetime.now(UTC)
            )

    def _timers(self) -> list[Timer]:
        """Everything periodic but the loops."""
        farm, go_on = self._farm, self._goes_on
        return [
            Timer(name="sweep", every_s=60, call=self._sweep),
            Timer(name="old heartbeats", every_s=600, call=lambda: delete_old_heartbeats(farm)),
            Timer(name="deletions", every_s=5, call=lambda: delete_leftovers(farm, go_on=go_on)),
            Timer(name="file checks", every_s=1, call=lambda: check_pending(farm, go_on=go_on)),
            Timer(name="inbox", every_s=10, call=lambda: take_in_inbox(farm, go_on=go_on)),
            Timer(name="stale uploads", every_s=_HOUR_S, call=lambda: sweep_uploads(farm)),
            Timer(name="old downloads", every_s=600, call=lambda: retain_downloads(farm)),
            Timer(name="books", every_s=60, call=lambda: self._books.keep(go_on)),
            Timer(name="database", every_s=300, call=farm.db.checkpoint),
        ]

    def rounds(self) -> list[Timer]:
        """All that the timers do, as calls that return: for whoever keeps the time himself instead of starting them."""
        loops = [Timer(name=loop.name, every_s=0.0, call=loop.run_once) for loop in self._loops]
        return [*loops, *(Timer(name=timer.name, every_s=timer.every_s, call=_guarded(timer)) for timer in self._periodic)]

    def start(self) -> None:
        self._scheduler.start()

    def wake(self) -> None:
        """Have a tick and a look for what is to be packed at once, or right after those that run. Returns at once."""
        for loop in self._loops:
            loop.wake()

    def stop(self) -> None:
        """End the timers; return when the last one has left off. Instances go on: the next start takes them up."""
        self._stopped.set()
        self._packer.close()
        for loop in self._loops:
            loop.stop()
        self._scheduler.shutdown(wait=True)

    def _goes_on(self) -> bool:
        return not self._stopped.is_set()

    def _sweep(self) -> None:
        with self._supervisor.lock:
            sweep(self._farm)


def _guarded(timer: Upkeep) -> Callable[[], None]:
    said = ""

    def run() -> None:
        nonlocal said
        try:
            timer.call()
            said = ""
        except CloudError as error:
            # a cloud that does not answer, or that nobody is signed in to, may stay so for days: it is said once
            if str(error) != said:
                log.warning("timer put off", timer=timer.name, error=str(error))
            said = str(error)
        except Exception:
            log.exception("timer failed", timer=timer.name)

    return run
