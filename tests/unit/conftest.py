"""What many unit tests stand on; a file whose farm is another one has a `bench` of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    """A farm that renders on its own machine, in memory."""
    return FakeFarm.open(tmp_path)


@pytest.fixture
def nodes(bench: FakeFarm) -> FakeNodes:
    """The nodes of its instances."""
    return FakeNodes(bench)
