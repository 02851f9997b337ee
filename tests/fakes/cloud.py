"""All the fakes together, as one cloud."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from supervisor.cloud.ports import Cloud

from .account import FakeAccount
from .compute import FakeCompute
from .objects import FakeObjectStore
from .premises import FakePremises
from .prices import FakePrices
from .uploads import FakeUploads
from .workspaces import FakeWorkspaces


class FakeCloud:
    """The fakes, each by its own type for its handles; `ports` is what the farm gets."""

    def __init__(self, *, slots: int | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.objects = FakeObjectStore(clock=clock)
        self.uploads = FakeUploads(self.objects)
        self.compute = FakeCompute(slots=slots, clock=clock)
        self.workspaces = FakeWorkspaces(self.objects)
        self.premises = FakePremises()
        self.prices = FakePrices()
        self.account: FakeAccount | None = None  #: None: this cloud rents nothing

    @property
    def ports(self) -> Cloud:
        return Cloud(
            objects=self.objects,
            uploads=self.uploads,
            compute=self.compute,
            workspaces=self.workspaces,
            premises=self.premises,
            prices=self.prices,
            internal_endpoint="http://store.invalid",
            account=self.account,
        )
