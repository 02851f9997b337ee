"""What is left to do when the cloud takes the machine back: is there time for the frame at hand?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median

#: Kept free before the machine is taken: the journal entry, the heartbeat, two clocks that differ.
MARGIN_S = 5.0
#: The pace is that of so many frames.
_REMEMBERED = 20


class Interruption:
    """The cloud's notice, and this node's own pace to measure it by. For one thread."""

    def __init__(self, notice: Callable[[], int], *, now_ms: Callable[[], int]) -> None:
        """Shape:   `notice` says when the machine is taken back (UTC, milliseconds); 0: nobody said so"""
        self._notice = notice
        self._now_ms = now_ms
        self._render_s: deque[float] = deque(maxlen=_REMEMBERED)
        self.at_ms = 0  #: once said, it stays: what was given back is not taken again

    def is_announced(self) -> bool:
        """Look whether the cloud takes the machine back."""
        self.at_ms = self.at_ms or self._notice()
        return self.at_ms > 0

    def rendered(self, seconds: float) -> None:
        """Learn from a frame of this node's."""
        self._render_s.append(seconds)

    def left_s(self) -> float:
        """Time that is left for work; below 0: none."""
        return (self.at_ms - self._now_ms()) / 1000 - MARGIN_S

    def leaves_time_for(self, elapsed_s: float, *, is_saved: bool, delivery_s: float) -> bool:
        """Say whether a frame begun so long ago will be rendered and delivered in time.

        A node that has rendered none yet expects a frame to take as long again as it has: it neither gives up one that has just begun nor
        clings to one that takes hours.
        """
        expected_s = median(self._render_s) if self._render_s else 2 * elapsed_s
        rest_s = 0.0 if is_saved else max(0.0, expected_s - elapsed_s)
        return rest_s + delivery_s < self.left_s()

    def __str__(self) -> str:
        return f"the cloud takes the instance back at {datetime.fromtimestamp(self.at_ms / 1000, UTC):%H:%M:%S} UTC"
