"""A shared pool in memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from .compute import FakeCompute
from .trouble import Trouble


class FakePool(Trouble):
    """`Pool` in memory, over the instances of a FakeCompute. What ended is replaced with the next `resize`, as far as `capacity` goes."""

    def __init__(self, compute: FakeCompute) -> None:
        super().__init__()
        self._compute = compute
        self._members: set[str] = set()
        self.desired = 0
        self.until: datetime | None = None
        self.capacity: int | None = None  #: how many instances there are to be had; None: any number
        self.why = ""  #: what it says where there are too few

    def resize(self, wanted: int, *, until: datetime) -> None:
        self._meet_trouble("resize")
        self.until = until
        self.desired = max(wanted, len(self._alive()))
        self._fill()

    def release(self, ids: Iterable[str]) -> None:
        self._meet_trouble("release")
        for id in self._alive() & set(ids):
            self._members.discard(id)
            self.desired -= 1
            self._compute.begin_end([id], "ended with the pool smaller by it")

    def let_go(self, ids: Iterable[str]) -> None:
        self._meet_trouble("let_go")
        self._members -= set(ids)
        self._fill()

    def problem(self) -> str:
        self._meet_trouble("problem")
        return self.why

    def remove(self) -> None:
        self._meet_trouble("remove")
        self._compute.begin_end(self._alive(), "the pool was emptied")
        self._members.clear()
        self.desired = 0

    def members(self) -> list[str]:
        """Name the instances of the group that are there."""
        return sorted(self._alive())

    def fall_silent(self) -> None:
        """Let the time come at which the group empties itself because the farm said nothing more."""
        self.desired = 0
        self._compute.begin_end(self._alive(), "the pool was emptied")

    def _alive(self) -> set[str]:
        return {instance.id for instance in self._compute.alive()} & self._members

    def _fill(self) -> None:
        have = len(self._alive())
        wanted = self.desired if self.capacity is None else min(self.desired, self.capacity)
        for _ in range(wanted - have):
            self._members.add(self._compute.add_pool_instance())
