"""The farm as commands, queries and the lifecycle see it: its database, its cloud, its configuration. Built by `app.bootstrap`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .cloud.ports import Cloud
from .config import Config
from .store.database import Database


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Farm:
    """Everything that work on the farm needs, passed as the first argument."""

    config: Config
    data: Path  #: the data folder
    db: Database
    cloud: Cloud
    wake: Callable[[], None]  #: asks for a tick, and for what waits to be packed, at once; returns at once
    now: Callable[[], datetime] = utc_now

    @property
    def scratch_folder(self) -> Path:
        """Temporary files; emptied at start."""
        return self.data / "tmp"
