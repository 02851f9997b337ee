"""SIGTERM and SIGINT: the node is to end at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from .ending import EndKind, Stopped


def stop_on_signals(stop: threading.Event) -> None:
    """Make SIGTERM and SIGINT set `stop` and raise Stopped in the main thread, once."""

    def stop_at_once(number: int, frame: FrameType | None) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_IGN)
        stop.set()
        # Raised, not only noted: the main thread may be waiting for a store that does not answer.
        raise Stopped(EndKind.TOLD, f"the node was told to stop ({signal.Signals(number).name})")

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop_at_once)
