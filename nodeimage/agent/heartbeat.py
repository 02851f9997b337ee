"""The node's status object, written at every change of state and at intervals, by a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nodeimage.protocol import Heartbeat, NodeState, status_key

from .ports import Store, StoreError

log = logging.getLogger(__name__)

JITTER = 0.1
#: Changes of these are told at once; the others with the next beat.
_TOLD_AT_ONCE = frozenset({"state", "frame", "attempt", "problem", "finished", "interruption_at_ms"})


class Heart:
    """Says what the node does. `tell` may be called from any thread."""

    def __init__(self, store: Store, first: Heartbeat, *, every_s: float, now_ms: Callable[[], int], each_beat: Callable[[], None]) -> None:
        """Shape:   `each_beat` is called in the heart's thread after each beat; it brings what a beat must know, and must not raise"""
        self._store = store
        self._told = first
        self._every_s = every_s
        self._now_ms = now_ms
        self._each_beat = each_beat
        self._changed = threading.Condition()
        self._writing = threading.Lock()  # one beat after the other: the last one said must be the last one to arrive
        self._is_due = True
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, **changes: Any) -> None:
        """Change what the next beat says; a change of state is said at once."""
        with self._changed:
            is_news = any(getattr(self._told, name) != value for name, value in changes.items() if name in _TOLD_AT_ONCE)
            self._told = replace(self._told, **changes)
            if is_news:
                self._is_due = True
                self._changed.notify()

    def stop(self) -> None:
        """Say nothing more, but for `last_beat`."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def last_beat(self, state: NodeState = NodeState.GONE) -> None:
        """Say that the agent has ended in good order, or what else is to be said last, after a beat under way. Errors: StoreError"""
        self.stop()
        self.tell(state=state, frame=None, phase="", sample=None, samples=None, uploading=())
        self._beat()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._is_due and not self._stopped:
                    self._changed.wait(self._every_s * random.uniform(1 - JITTER, 1 + JITTER))
                if self._stopped:
                    return
                self._is_due = False
            self._each_beat()
            try:
                self._beat()
            except StoreError as error:
                log.warning("heartbeat not written", extra={"why": str(error)})

    def _beat(self) -> None:
        with self._writing:
            with self._changed:
                self._told = replace(self._told, beat=self._told.beat + 1, at_ms=self._now_ms())
                told = self._told
            self._store.put(status_key(told.node), told.to_bytes())
