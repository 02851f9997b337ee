"""The folders of the shared pool's jobs on one instance: those used lately are kept for as long as the disk has room."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


class Shelf:
    """A workspace and a home of the agent's for each job."""

    def __init__(self, workspaces: Path, homes: Path, *, free_bytes: Callable[[Path], int]) -> None:
        self._workspaces = workspaces
        self._homes = homes
        self._free_bytes = free_bytes
        for folder in (workspaces, homes):
            folder.mkdir(parents=True, exist_ok=True)

    def workspace(self, job: str) -> Path:
        return self._workspaces / job

    def home(self, job: str) -> Path:
        return self._homes / job

    def take(self, job: str) -> None:
        """Have folders for a job, which is the one used last from now on. Errors: OSError"""
        for folder in (self.workspace(job), self.home(job)):
            folder.mkdir(exist_ok=True)
        (self.home(job) / "taken").touch()

    def make_room(self, needed: int, *, keep: str) -> None:
        """Remove the folders of other jobs, the one longest unused first, until so many bytes are free or none is left to remove."""
        for job in self._by_use():
            if self._free_bytes(self._workspaces) >= needed:
                return
            if job != keep and not self.has_undelivered(job):
                log.info("workspace removed to make room", extra={"job": job})
                self.drop(job)

    def drop(self, job: str) -> None:
        """Remove a job's folders."""
        for folder in (self.workspace(job), self.home(job)):
            shutil.rmtree(folder, ignore_errors=True)

    def left_behind(self) -> list[str]:
        """Jobs of which an agent that was killed left something: frames not delivered, or claims not given back."""
        return [job for job in self._by_use() if self.has_undelivered(job)]

    def has_undelivered(self, job: str) -> bool:
        return any(any(folder.iterdir()) for name in ("outbox", "claims") if (folder := self.home(job) / name).is_dir())

    def _by_use(self) -> list[str]:
        """Jobs with folders here, the one longest unused first."""
        used = {folder.name: self._taken_at(folder.name) for folder in self._homes.iterdir()}
        used |= {folder.name: self._taken_at(folder.name) for folder in self._workspaces.iterdir()}
        return sorted(used, key=lambda job: used[job])

    def _taken_at(self, job: str) -> float:
        try:
            return (self.home(job) / "taken").stat().st_mtime
        except OSError:
            return 0.0
