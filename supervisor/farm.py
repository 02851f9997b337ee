"""The farm as commands, queries and the lifecycle see it: its database, its cloud, its configuration. Built by `app.bootstrap`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from .cloud.ports import Cloud
from .config import Config
from .store.database import Database


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Standing:
    """How the supervisor gets on, for the pages of its own process. A restart begins anew: its first tick says."""

    trouble: str = ""  #: why the last tick was skipped, for people; empty: it was not


@dataclass(frozen=True, slots=True, kw_only=True)
class Farm:
    """Everything that work on the farm needs, passed as the first argument."""

    config: Config
    data: Path  #: the data folder
    db: Database
    cloud: Cloud
    wake: Callable[[], None]  #: asks for a tick, and for what waits to be packed, at once; returns at once
    now: Callable[[], datetime] = utc_now
    standing: Standing = field(default_factory=Standing)

    @property
    def scratch_folder(self) -> Path:
        """Temporary files; emptied at start."""
        return self.data / "tmp"
