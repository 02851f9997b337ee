"""The dead man's switch: an instance whose work has ended gives itself back, whoever else may have forgotten it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from nodeimage.agent.ending import Ending, EndKind
from nodeimage.agent.loop import TAKEN_LATE_S

from .machine import CommandFailed, Machine
from .notices import now_ms

log = logging.getLogger(__name__)

#: A drained instance is about to be stopped by the farm, which can start it again; its own shutdown would end it for good.
DRAINED_S = 300.0
_TRIES, _PAUSE_S = 3, 5.0


class Switch:
    """What becomes of the instance when its work has ended."""

    def __init__(
        self,
        machine: Machine,
        *,
        life_cycle: str,
        interruption_at_ms: Callable[[], int],
        pulse: Callable[[], None],
        pause: Callable[[float], None] = time.sleep,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        """Shape:   `life_cycle` as the metadata service says it; `pause` may raise: a signal ends the program and leaves the machine"""
        self._machine = machine
        self._life_cycle = life_cycle
        self._interruption_at_ms = interruption_at_ms
        self._pulse = pulse
        self._pause = pause
        self._now_ms = now_ms

    def end(self, ending: Ending) -> int:
        """Give the instance back, after the time that somebody else has for it. Returns: exit status; not 0: systemd is to try again"""
        log.info("work ends", extra={"kind": str(ending.kind), "why": ending.reason})
        if ending.kind is EndKind.TOLD:
            return 0  # the system goes down already, or a person is at work here
        self._wait(self._wait_s(ending))
        return self._power_off(ending)

    def _wait_s(self, ending: Ending) -> float:
        if at_ms := self._interruption_at_ms():
            # One that the cloud takes within its first hour is free.
            return (at_ms - self._now_ms()) / 1000 + TAKEN_LATE_S
        return DRAINED_S if ending.kind is EndKind.DRAINED and self._life_cycle != "spot" else 0.0

    def _wait(self, seconds: float) -> None:
        until_ms = self._now_ms() + seconds * 1000
        while (left_s := (until_ms - self._now_ms()) / 1000) > 0:
            self._pulse()
            self._pause(min(1.0, left_s))

    def _power_off(self, ending: Ending) -> int:
        for attempt in range(1, _TRIES + 1):
            log.info("the instance powers itself off", extra={"why": ending.reason})
            try:
                self._machine.power_off()
                return 0
            except CommandFailed as error:
                log.error("the instance does not power off", extra={"why": str(error), "attempt": attempt})
            self._wait(_PAUSE_S)
        return 1
