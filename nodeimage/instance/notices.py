"""Watch for the cloud's notice that it takes the instance back."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from nodeimage.metadata import Metadata, MetadataError

log = logging.getLogger(__name__)

#: Between two looks, as Amazon advises; the jitter keeps a thousand nodes from asking in step.
EVERY_S, JITTER_S = 5.0, 1.0


def now_ms() -> int:
    """UTC, this machine's clock."""
    return time.time_ns() // 1_000_000


class Notices:
    """A thread that asks the metadata service, and what it learnt."""

    def __init__(self, metadata: Metadata, *, now_ms: Callable[[], int] = now_ms, every_s: float = EVERY_S) -> None:
        self._metadata = metadata
        self._now_ms = now_ms
        self._every_s = every_s
        self._at_ms = 0
        self._told_rebalance = ""
        self._is_silent = False
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="notices", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def at_ms(self) -> int:
        """When the cloud takes the instance back (UTC). Returns: 0 if nobody said so; what was said once stays"""
        return self._at_ms

    def look(self) -> None:
        """Ask once. Silence of the metadata service is logged once, and no notice."""
        try:
            self._look_at_action()
            self._look_at_recommendation()
        except MetadataError as error:
            if not self._is_silent:
                log.warning("can't see whether the cloud takes the instance back", extra={"why": str(error)})
            self._is_silent = True
        else:
            self._is_silent = False

    def _look_at_action(self) -> None:
        action = self._metadata.spot_action(now_ms=self._now_ms())
        if action is not None and not self._at_ms:
            self._at_ms = action.at_ms
            in_s = round((action.at_ms - self._now_ms()) / 1000)
            log.warning("the cloud takes the instance back", extra={"action": action.action, "in_s": in_s})

    def _look_at_recommendation(self) -> None:
        recommended = self._metadata.rebalance_recommended()
        if recommended and recommended != self._told_rebalance:
            # No reason to end: many instances that are recommended to be replaced live for hours.
            log.info("the cloud may take the instance back soon", extra={"said": recommended})
        self._told_rebalance = recommended

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(self._every_s + random.uniform(-JITTER_S, JITTER_S))
