"""Threads that work through many things, while the main thread looks around."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

LOOK_S = 0.25
#: How long threads may take to leave when the work is broken off; one that waits for a silent store is left behind.
_LEAVE_S = 1.0


class Crew(Generic[T]):
    """Some threads for one piece of work: the same deed with each thing."""

    def __init__(self, things: Iterable[T], work: Callable[[T], None], *, workers: int, stop: threading.Event) -> None:
        """Shape:   `stop` is set when the work is broken off: long deeds look at it"""
        self._left = deque(things)
        self._work = work
        self._stop = stop
        self._errors: list[Exception] = []
        self._at_work = min(workers, len(self._left))
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._run, name="crew", daemon=True) for _ in range(self._at_work)]

    def work_through(self, look: Callable[[], None]) -> None:
        """Do the work, things in their order, several at once.

        Shape:   `look` is called several times a second, in the calling thread, and may raise to break the work off
        Errors:  the first error of the work, and whatever `look` raises
        """
        for thread in self._threads:
            thread.start()
        try:
            while not self._has_ended():
                look()
        finally:
            self._leave()
        if self._errors:
            raise self._errors[0]

    def _has_ended(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._at_work or bool(self._errors), LOOK_S)

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and (taken := self._take()):
                self._work(*taken)
        except Exception as error:  # noqa: BLE001  raised again in the thread that waits for the work
            self._errors.append(error)
            self._stop.set()
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def _take(self) -> tuple[()] | tuple[T]:
        with self._changed:
            return (self._left.popleft(),) if self._left else ()

    def _leave(self) -> None:
        self._stop.set()
        until = time.monotonic() + _LEAVE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
