"""Trouble on demand: what every fake has in common."""

from __future__ import annotations

import threading
from collections import deque


class Trouble:
    """Errors that wait for the next calls."""

    def __init__(self) -> None:
        self._next: deque[tuple[str, Exception]] = deque()
        self._taking = threading.Lock()

    def fail_next(self, error: Exception, *, times: int = 1, call: str = "") -> None:
        """Make the next `times` calls raise `error` and do nothing: calls of the method `call`, or of any."""
        self._next.extend([(call, error)] * times)

    def heal(self) -> None:
        """Forget the errors that have not been raised yet."""
        self._next.clear()

    def _meet_trouble(self, call: str) -> None:
        with self._taking:
            for entry in self._next:
                if entry[0] in {"", call}:
                    self._next.remove(entry)
                    raise entry[1]
