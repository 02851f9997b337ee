"""The farm's standing order, as last read."""

from __future__ import annotations

import threading
from dataclasses import replace

from nodeimage.protocol import Action, Order, order_key

from .ports import Store


class Orders:
    """Reads the order of one job; a read costs the store nothing when it is unchanged. May be called from any thread."""

    def __init__(self, store: Store, job: str) -> None:
        self._store = store
        self._key = order_key(job)
        self._lock = threading.Lock()
        self._etag = ""
        self._order: Order | None = None

    def read(self) -> Order | None:
        """Read the order.

        Returns: None while there is none yet. One that is gone again says stop: so does a farm that deletes a job.
        Errors:  StoreError; Unreadable - the farm speaks a version this agent does not know
        """
        with self._lock:
            fetched = self._store.get(self._key, etag=self._etag)
            if fetched is None:
                self._etag = ""
                return self._order and replace(self._order, action=Action.STOP)
            if fetched.body is not None:
                self._order, self._etag = Order.from_bytes(fetched.body), fetched.etag
            return self._order
