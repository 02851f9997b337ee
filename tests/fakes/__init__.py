"""Every cloud port in memory, with handles for trouble. They pass the same contract suite as the real ones."""

from __future__ import annotations

from .cloud import FakeCloud
from .compute import FakeCompute
from .objects import FakeObjectStore
from .pool import FakePool
from .premises import FakePremises
from .uploads import FakeUploads
from .workspaces import FakeWorkspaces

__all__ = ["FakeCloud", "FakeCompute", "FakeObjectStore", "FakePool", "FakePremises", "FakeUploads", "FakeWorkspaces"]
