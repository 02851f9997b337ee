"""An instance of the shared pool: it renders for whichever job comes first and has work, one job at a time."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from nodeimage.agent import AGENT_VERSION
from nodeimage.agent.ending import Ending, EndKind, Finished, Stopped
from nodeimage.agent.heartbeat import Heart
from nodeimage.agent.loop import TAKEN_LATE_S
from nodeimage.agent.ports import StoreError
from nodeimage.agent.surroundings import Watcher
from nodeimage.launch import PoolJob
from nodeimage.protocol import Heartbeat, NodeConfig, NodeState, Unreadable

from .instance import Instance, free_bytes
from .notices import now_ms
from .prospects import Prospects
from .shelf import Shelf

log = logging.getLogger(__name__)

#: A job that has had nothing to claim for so long is left for another.
JOB_IDLE_S = 5.0
#: A job whose files can't be had, or that gave this node nothing to render although it seemed to, is left alone for so long.
UNFIT_PAUSE_S, FRUITLESS_PAUSE_S = 600.0, 60.0
#: Between two looks of an idle node at the pool's order.
LOOK_S, LONGEST_LOOK_S = 2.0, 10.0
#: How long a goodbye may take: the system goes down.
_GOODBYE_S = 1.5

#: The node goes on after these; all others end it.
_GOES_ON = frozenset({EndKind.NO_WORK, EndKind.DRAINED, EndKind.STOPPED, EndKind.UNFIT})


class Pool:
    """A node of the shared pool."""

    def __init__(self, instance: Instance, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._instance = instance
        self._store = instance.store
        self._pause = pause
        self._prospects = Prospects(self._store, instance.node)
        machine = instance.machine
        self._shelf = Shelf(machine.workspace, machine.home / "jobs", free_bytes=free_bytes)
        self._idle_since = time.monotonic()
        self._problem = ""
        self._heart = self._new_heart()

    def run(self) -> Ending:
        """Work for one job after the other until there is a reason to end. Returns: it"""
        ending = self._deliver_what_was_left()
        while ending is None:
            job = self._wait_for_job()
            ending = self._work_for(job) if isinstance(job, PoolJob) else job
        self._say_goodbye()
        return ending

    def _deliver_what_was_left(self) -> Ending | None:
        """Deliver what an agent that was killed left of any job. Returns: why the node is to end all the same, or None"""

        def render_nothing(watcher: Watcher) -> None:
            raise Finished(EndKind.NO_WORK, "what was left behind is delivered")

        for job in self._shelf.left_behind():
            log.info("node delivers what was left behind", extra={"job": job})
            ending = self._instance.work(self._config(job), series="", prepare=render_nothing, last_state=NodeState.IDLE)
            if ending.kind not in _GOES_ON:
                return ending
        return None

    def _wait_for_job(self) -> PoolJob | Ending:
        """Be idle until there is a job. Returns: it, or why there will be none"""
        self._heart = heart = self._new_heart()
        heart.start()
        look_s = LOOK_S
        try:
            while True:
                self._look(heart)
                if job := self._next_job(heart):
                    return job
                if time.monotonic() - self._idle_since > self._instance.launch.idle_s:
                    return Ending(kind=EndKind.NO_WORK, reason=f"there was nothing to do for {self._instance.launch.idle_s:.0f} s")
                self._wait(look_s * random.uniform(0.8, 1.2), heart)
                look_s = min(1.5 * look_s, LONGEST_LOOK_S)
        except Stopped as stopped:
            return stopped.ending
        finally:
            heart.stop()

    def _next_job(self, heart: Heart) -> PoolJob | None:
        if self._instance.interruption_at_ms():
            return None
        try:
            job = self._prospects.next()
        except (StoreError, Unreadable) as error:
            heart.tell(problem=f"The node can't read what the pool is to do: {error}.")
            return None
        heart.tell(problem=self._problem)
        return job

    def _work_for(self, job: PoolJob) -> Ending | None:
        """Render for one job until it has nothing more for this node. Returns: why the node is to end, or None if it goes on"""
        log.info("node works for a job", extra={"job": job.job})
        instance, shelf = self._instance, self._shelf
        shelf.take(job.job)
        folder = shelf.workspace(job.job)
        workspace = instance.workspace(folder, job=job.job, make_room=lambda needed: shelf.make_room(needed, keep=job.job))
        ending = instance.work(self._config(job.job), series=job.blender, prepare=workspace.prepare, last_state=NodeState.IDLE)
        log.info("node leaves a job", extra={"job": job.job, "kind": str(ending.kind), "why": ending.reason, "attempts": ending.attempts})
        self._learn(job, ending)
        return None if ending.kind in _GOES_ON else ending

    def _config(self, job: str) -> NodeConfig:
        return self._instance.config(job=job, home=self._shelf.home(job), workspace=self._shelf.workspace(job), idle_s=JOB_IDLE_S)

    def _learn(self, job: PoolJob, ending: Ending) -> None:
        """Leave a job alone that this node can do nothing for."""
        self._problem = ""
        if ending.attempts:
            self._idle_since = time.monotonic()
        if ending.kind is EndKind.UNFIT:
            self._problem = f"{job.job}: {ending.reason}"
            self._prospects.put_aside(job.job, for_s=UNFIT_PAUSE_S)
        elif ending.kind is EndKind.STOPPED:
            self._shelf.drop(job.job)  # finished, cancelled or deleted: nothing of it is wanted any more
        elif not ending.attempts:
            self._prospects.put_aside(job.job, for_s=FRUITLESS_PAUSE_S)

    # Looking around, and what the farm is told meanwhile

    def _look(self, heart: Heart) -> None:
        """End the node where something says so. Errors: Stopped"""
        instance, launch = self._instance, self._instance.launch
        instance.pulse()
        if instance.stop.is_set():
            raise Stopped(EndKind.TOLD, "the node was told to stop")
        if instance.left_s() < 0:
            raise Stopped(EndKind.OLD, f"the node has lived for {launch.max_life_s:.0f} s, as long as it may")
        if self._store.silent_s() > launch.unreachable_s:
            raise Stopped(EndKind.UNREACHABLE, f"the store has not answered for {launch.unreachable_s:.0f} s")
        if at_ms := instance.interruption_at_ms():
            heart.tell(interruption_at_ms=at_ms)
            self._idle_since = time.monotonic()
            if now_ms() > at_ms + TAKEN_LATE_S * 1000:
                raise Stopped(EndKind.INTERRUPTED, "the cloud was to take the instance back, and did not")

    def _wait(self, seconds: float, heart: Heart) -> None:
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self._pause(min(1.0, left_s))
            self._look(heart)

    def _new_heart(self) -> Heart:
        first = Heartbeat(
            node=self._instance.node,
            job="",
            beat=0,
            at_ms=now_ms(),
            state=NodeState.IDLE,
            agent_version=AGENT_VERSION,
            problem=self._problem,
            interruption_at_ms=self._instance.interruption_at_ms(),
        )
        return Heart(self._store, first, every_s=self._instance.launch.heartbeat_s, now_ms=now_ms, each_beat=lambda: None)

    def _say_goodbye(self) -> None:
        """Say that the node is gone, if the store answers soon."""

        def say() -> None:
            with suppress(StoreError):
                self._heart.last_beat()

        self._heart.tell(problem=self._problem, interruption_at_ms=self._instance.interruption_at_ms())
        goodbye = threading.Thread(target=say, name="goodbye", daemon=True)
        goodbye.start()
        goodbye.join(_GOODBYE_S)
