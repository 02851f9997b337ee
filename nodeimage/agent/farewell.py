"""How a node gives back what it holds: at once, as far as the store answers in time, or while there is time left."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nodeimage.protocol import Claim, JournalEntry, NodeState, Outcome, journal_key, log_key

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
        last_state: NodeState = NodeState.GONE,
    ) -> None:
        self._store = store
        self._job = job
        self._node = node
        self._claims = claims
        self._held = held
        self._outbox = outbox
        self._heart = heart
        self._now_ms = now_ms
        self._last_state = last_state
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
        """Give back everything, and say goodbye, within FAREWELL_S. Never waits for a silent store."""
        until = time.monotonic() + FAREWELL_S
        if self._store.silent_s() < 10.0:
            self._outbox.wait_until_empty(LAST_DELIVERY_S)
        entries = self._last_entries(reason)
        goodbye = threading.Thread(target=self._say, args=(entries, self._last_state), name="goodbye", daemon=True)
        goodbye.start()
        goodbye.join(until - time.monotonic())
        self._heart.stop()

    def give_back_held(self, reason: str, *, logs: Mapping[int, bytes]) -> bool:
        """Give back what has no outcome yet, with the log of what was rendered of it. Returns: False if the store did not take it all

        Repeat:  safe: what was given back is held no more
        """
        for claim in self._held_without_outcome():
            try:
                if text := logs.get(claim.frame):
                    key = log_key(self._job, claim.frame, claim.attempt)
                    self._store.put(key, text, content_type="text/plain; charset=utf-8")
                self._report(interrupted_entry(claim, reason))
            except StoreError as error:
                log.warning("claim not given back", extra={"frame": claim.frame, "why": str(error)})
        return not self._held_without_outcome()

    def give_up_deliveries(self, reason: str) -> None:
        """Begin no more deliveries, and say of the frames rendered and not delivered that they are not."""
        for entry in self._last_entries(reason):
            try:
                self._report(entry)
            except StoreError as error:
                log.warning("outcome not told", extra={"frame": entry.frame, "why": str(error)})

    def leave(self, state: NodeState | None = None) -> None:
        """Say goodbye with nothing held. Shape: `state` is what the last heartbeat says, where it is not as usual"""
        self._outbox.stop()
        self._say((), state or self._last_state)

    def _held_without_outcome(self) -> list[Claim]:
        return [claim for claim in self._held.all() if not self._outbox.knows(claim.nonce)]

    def _last_entries(self, reason: str) -> list[JournalEntry]:
        """What is to be journaled of all that the node holds; the outbox delivers nothing from now on."""
        self._outbox.stop()
        entries = [interrupted_entry(claim, reason) for claim in self._held_without_outcome()]
        return entries + [given_up(entry, reason) if entry.outcome is Outcome.FINISHED else entry for entry in self._outbox.entries()]

    def _say(self, entries: Sequence[JournalEntry], state: NodeState) -> None:
        try:
            for entry in entries:
                self._report(entry)
            self._heart.last_beat(state)
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
