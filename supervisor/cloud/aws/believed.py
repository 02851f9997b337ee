"""Something that AWS tells, believed for a while: what changes by a person's hand alone need not be asked for at each use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Believed(Generic[_T]):
    """Looks when it is called and what was seen last is too old."""

    def __init__(self, look: Callable[[], _T], *, lasts_s: float, clock: Callable[[], float]) -> None:
        """Units:   clock: monotonic seconds"""
        self._look = look
        self._lasts_s = lasts_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[_T, float] | None = None  #: with when it was seen

    def __call__(self) -> _T:
        """What is believed to be so. Errors: those of the look"""
        with self._lock:
            if self._seen is None or self._clock() - self._seen[1] > self._lasts_s:
                self._seen = self._look(), self._clock()
            return self._seen[0]

    def believe(self, seen: _T) -> None:
        """Take in what was learnt otherwise."""
        with self._lock:
            self._seen = seen, self._clock()

    def forget(self) -> None:
        """Look again at the next call."""
        with self._lock:
            self._seen = None
