"""Which of the shared pool's jobs has work for this node. A look at a job costs little, and is not repeated for nothing."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from nodeimage.agent.claims import must_leave
from nodeimage.agent.orders import Orders
from nodeimage.agent.ports import Store, StoreError
from nodeimage.launch import PoolJob, PoolOrder
from nodeimage.protocol import POOL_KEY, Action, Order, Unreadable, claims_prefix, frames_in

log = logging.getLogger(__name__)

#: A job whose frames are all claimed is looked at again after so long, longer each time: claims of ended nodes become free.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
#: Ids become names of folders.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(slots=True, kw_only=True)
class _Prospect:
    """What is known of one job."""

    orders: Orders
    revision: int = -1
    not_before: float = 0.0  #: monotonic
    pause_s: float = FIRST_PAUSE_S


class Prospects:
    """The shared pool's jobs, as this node sees them."""

    def __init__(self, store: Store, node: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._node = node
        self._monotonic = monotonic
        self._etag = ""
        self._order: PoolOrder | None = None
        self._known: dict[str, _Prospect] = {}

    def next(self) -> PoolJob | None:
        """The first job with a frame for this node. Returns: None if there is none at present. Errors: StoreError, Unreadable"""
        for job in self._jobs():
            if self._has_work(job.job):
                return job
        return None

    def put_aside(self, job: str, *, for_s: float) -> None:
        """Leave a job alone for a while, or until its order changes."""
        self._of(job).not_before = self._monotonic() + for_s

    def _jobs(self) -> list[PoolJob]:
        fetched = self._store.get(POOL_KEY, etag=self._etag)
        if fetched is None:
            self._etag, self._order = "", None
        elif fetched.body is not None:
            self._order, self._etag = PoolOrder.from_bytes(fetched.body), fetched.etag
            listed = {job.job for job in self._order.jobs}
            self._known = {job: known for job, known in self._known.items() if job in listed}
        return [job for job in self._order.jobs if _ID.fullmatch(job.job)] if self._order else []

    def _of(self, job: str) -> _Prospect:
        return self._known.setdefault(job, _Prospect(orders=Orders(self._store, job)))

    def _has_work(self, job: str) -> bool:
        known = self._of(job)
        try:
            order = known.orders.read()
        except Unreadable as error:
            log.warning("order not understood", extra={"job": job, "why": str(error)})
            return False
        if order is None or order.action is not Action.RENDER:
            return False
        if order.revision != known.revision:
            known.revision, known.not_before, known.pause_s = order.revision, 0.0, FIRST_PAUSE_S
        if self._monotonic() < known.not_before:
            return False
        if self._has_free_frame(job, order):
            known.pause_s = FIRST_PAUSE_S
            return True
        known.not_before = self._monotonic() + known.pause_s
        known.pause_s = min(2 * known.pause_s, LONGEST_PAUSE_S)
        return False

    def _has_free_frame(self, job: str, order: Order) -> bool:
        if order.ordered and not (order.tasks and order.tasks[0].node == self._node):
            return False
        try:
            taken = {int(name) for name in self._store.names(claims_prefix(job))}
        except StoreError as error:
            log.warning("claims not listed", extra={"job": job, "why": str(error)})
            return False
        frames = (frame for task in order.tasks for frame in frames_in(task.frames))
        return any(frame not in taken and not must_leave(order, self._node, frame) for frame in frames)
