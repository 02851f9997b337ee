"""Which frame next, and making it ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from uuid import uuid4

from nodeimage.protocol import Claim, Order, Requeued, Task, claim_key, claims_prefix, frames_in

from .held import HeldClaims
from .ports import Store

#: A listing of the claims is believed for so long while taking frames from others.
LISTING_S = 5.0
#: Claims lost one after the other before the claims are listed instead of tried.
LOST_IN_A_ROW = 3


def own_frames(order: Order, node: str) -> list[int]:
    """The frames that the node was handed, in order."""
    return [frame for task in order.tasks if task.node == node for frame in frames_in(task.frames)]


def others_frames(order: Order, node: str, *, taken: frozenset[int] | set[int]) -> Iterator[int]:
    """The frames to take when one's own are done: those of nobody's tasks from the front, then those of other nodes from their far end,
    where most are left first.

    Shape:   frames not in `taken`
    """
    for task in order.tasks:
        if task.node is None:
            yield from (frame for frame in frames_in(task.frames) if frame not in taken)
    rests = [_rest(task, taken) for task in order.tasks if task.node not in (None, node)]
    while rest := max(rests, key=len, default=[]):
        yield rest.pop()


def _rest(task: Task, taken: frozenset[int] | set[int]) -> list[int]:
    return [frame for frame in frames_in(task.frames) if frame not in taken]


def must_leave(order: Order, node: str, frame: int) -> bool:
    """Say whether the node is to leave the frame to others, because it failed it."""
    entry = order.requeued.get(frame)
    return entry is not None and node in entry.avoid


def attempt_of(order: Order, frame: int) -> Requeued:
    """What the next attempt at the frame must know."""
    return order.requeued.get(frame) or Requeued(attempt=1)


class Claims:
    """The claims of one node on the frames of one job."""

    def __init__(self, store: Store, held: HeldClaims, *, job: str, node: str, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._held = held
        self._job = job
        self._node = node
        self._now_ms = now_ms
        self._revision = -1
        self._taken: set[int] = set()
        self._listed_at = -LISTING_S
        self._in_doubt: Claim | None = None

    def next(self, order: Order, *, busy: Iterable[int] = ()) -> Claim | None:
        """Claim the next frame for this node. It is held from then on.

        Shape:   `busy` are frames whose outcome this node has not delivered yet
        Returns: None if there is nothing for this node at present
        Errors:  StoreError - a claim may have been made all the same: the next call finds out; OSError - no room on this disk
        """
        if (claim := self._settle_doubt()) is not None:
            return claim
        if order.revision != self._revision:  # requeued frames are free again
            self._revision, self._taken = order.revision, set()
        held = frozenset(busy)
        claim = self._first_of(self._own(order), order, held, is_patient=True)
        if claim is not None:
            return claim
        self._list(max_age_s=LISTING_S)
        others = iter(()) if order.ordered else others_frames(order, self._node, taken=self._taken)
        return self._first_of(chain(self._own(order), others), order, held, is_patient=False)

    def is_in_doubt(self) -> bool:
        """Say whether it is not known yet whether the last claim was made."""
        return self._in_doubt is not None

    def give_back(self, *, frame: int, nonce: str) -> None:
        """Make the claim with this nonce not exist. Errors: StoreError"""
        key = claim_key(self._job, frame)
        there = self._store.get(key)
        if there is not None and there.body is not None and Claim.from_bytes(there.body).nonce == nonce:
            self._store.delete(key)
        self._held.forget(frame)

    def _own(self, order: Order) -> list[int]:
        """The frames that are this node's. All of an ordered job is its first task's node's."""
        if not order.ordered:
            return own_frames(order, self._node)
        return frames_in(order.tasks[0].frames) if order.tasks and order.tasks[0].node == self._node else []

    def _first_of(self, frames: Iterable[int], order: Order, busy: frozenset[int], *, is_patient: bool) -> Claim | None:
        """Claim the first frame that can be had; if patient, list the claims when several in a row are somebody else's."""
        lost = 0
        for frame in frames:
            if frame in self._taken or frame in busy or must_leave(order, self._node, frame):
                continue
            claim = self._put(frame, order)
            self._taken.add(frame)
            if claim is not None:
                return claim
            lost += 1
            if is_patient and lost == LOST_IN_A_ROW:
                self._list(max_age_s=0.0)
        return None

    def _put(self, frame: int, order: Order) -> Claim | None:
        """Put a claim. Returns: None if somebody else has the frame"""
        attempt = attempt_of(order, frame).attempt
        claim = Claim(node=self._node, frame=frame, attempt=attempt, nonce=uuid4().hex, at_ms=self._now_ms())
        self._held.remember(claim)
        self._in_doubt = claim
        is_ours = self._store.put_new(claim_key(self._job, frame), claim.to_bytes())
        self._in_doubt = None
        if not is_ours:
            self._held.forget(frame)
        return claim if is_ours else None

    def _settle_doubt(self) -> Claim | None:
        """Find out whether the claim was made that the store did not answer. Returns: it, if so. Errors: StoreError"""
        claim = self._in_doubt
        if claim is None:
            return None
        there = self._store.get(claim_key(self._job, claim.frame))
        self._in_doubt = None
        if there is not None and there.body == claim.to_bytes():
            return claim
        self._held.forget(claim.frame)
        return None

    def _list(self, *, max_age_s: float) -> None:
        if time.monotonic() - self._listed_at < max_age_s:
            return
        self._taken = {int(name) for name in self._store.names(claims_prefix(self._job))}
        self._listed_at = time.monotonic()
