"""How a node ends at once: claims are given back, as far as the store answers in time. Never waits for a silent store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from nodeimage.protocol import JournalEntry, Outcome, journal_key

from .claims import Claims
from .delivery import Outbox
from .heartbeat import Heart
from .held import HeldClaims
from .ports import Store, StoreError
from .reports import given_up, interrupted_entry

log = logging.getLogger(__name__)

#: How long an agent that must end at once tries to say so.
FAREWELL_S = 1.5
#: Of that, how long frames already rendered may still be delivered.
LAST_DELIVERY_S = 0.7
#: Entries written here are numbered apart from the outbox's, which may be writing still.
FIRST_NUMBER = 900_000


class Farewell:
    """Gives back what the node holds."""

    def __init__(
        self,
        store: Store,
        *,
        job: str,
        node: str,
        claims: Claims,
        held: HeldClaims,
        outbox: Outbox,
        heart: Heart,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._job = job
        self._node = node
        self._claims = claims
        self._held = held
        self._outbox = outbox
        self._heart = heart
        self._now_ms = now_ms
        self._written = FIRST_NUMBER

    def give_back_from_last_life(self) -> None:
        """Give back what an agent that was killed in this home had claimed and not finished."""
        for claim in self._held.all():
            if self._outbox.knows(claim.nonce):
                self._held.forget(claim.frame)
                continue
            try:
                self._report(interrupted_entry(claim, "the node's agent was killed"))
            except StoreError as error:
                log.warning("claim not given back", extra={"frame": claim.frame, "why": str(error)})

    def leave_at_once(self, reason: str) -> None:
        """Give back everything, and say goodbye, within FAREWELL_S."""
        until = time.monotonic() + FAREWELL_S
        if self._store.silent_s() < 10.0:
            self._outbox.wait_until_empty(LAST_DELIVERY_S)
        self._outbox.stop()
        held = [claim for claim in self._held.all() if not self._outbox.knows(claim.nonce)]
        entries = [interrupted_entry(claim, reason) for claim in held]
        entries += [given_up(entry, reason) if entry.outcome is Outcome.FINISHED else entry for entry in self._outbox.entries()]
        goodbye = threading.Thread(target=self._say, args=(entries,), name="goodbye", daemon=True)
        goodbye.start()
        goodbye.join(until - time.monotonic())
        self._heart.stop()

    def leave(self) -> None:
        """Say goodbye with nothing held."""
        self._say(())

    def _say(self, entries: Sequence[JournalEntry]) -> None:
        try:
            for entry in entries:
                self._report(entry)
            self._heart.last_beat()
        except StoreError as error:
            log.warning("could not say goodbye", extra={"why": str(error)})

    def _report(self, entry: JournalEntry) -> None:
        """Journal an outcome past the outbox; an interrupted attempt's claim is deleted. Errors: StoreError"""
        self._written += 1
        at_ms = self._now_ms()
        key = journal_key(self._job, at_ms=at_ms, node=self._node, n=self._written)
        self._store.put(key, replace(entry, at_ms=at_ms).to_bytes())
        if entry.outcome is Outcome.INTERRUPTED and entry.frame is not None:
            self._claims.give_back(frame=entry.frame, nonce=entry.nonce)
