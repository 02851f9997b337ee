"""What many unit tests stand on; a file whose farm is another one has a `bench` of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes

from .agent_fakes import Rig


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    """A farm that renders on its own machine, in memory."""
    return FakeFarm.open(tmp_path)


@pytest.fixture
def nodes(bench: FakeFarm) -> FakeNodes:
    """The nodes of its instances."""
    return FakeNodes(bench)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """An agent with a store in memory and a stand-in for Blender."""
    return Rig(tmp_path)
