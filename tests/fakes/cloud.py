"""All the fakes together, as one cloud."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from supervisor.cloud.ports import Cloud

from .account import FakeAccount
from .compute import FakeCompute
from .objects import FakeObjectStore
from .pool import FakePool
from .premises import FakePremises
from .prices import FakePrices
from .uploads import FakeUploads
from .workspaces import FakeWorkspaces


class FakeCloud:
    """The fakes, each by its own type for its handles; `ports` is what the farm gets."""

    def __init__(
        self, *, slots: int | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC), is_shared: bool = False
    ) -> None:
        """Shape:   is_shared: the jobs share one pool of instances"""
        self.objects = FakeObjectStore(clock=clock)
        self.uploads = FakeUploads(self.objects)
        self.compute = FakeCompute(slots=slots, clock=clock)
        self.workspaces = FakeWorkspaces(self.objects)
        self.premises = FakePremises()
        self.prices = FakePrices()
        self.account: FakeAccount | None = None  #: None: this cloud rents nothing
        self.pool = FakePool(self.compute)
        self.is_shared = is_shared

    @property
    def ports(self) -> Cloud:
        return Cloud(
            objects=self.objects,
            uploads=self.uploads,
            compute=self.compute,
            workspaces=self.workspaces,
            premises=self.premises,
            prices=self.prices,
            pool=self.pool if self.is_shared else None,
            internal_endpoint="http://store.invalid",
            account=self.account,
        )
